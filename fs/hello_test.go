package fs_test

import (
	"context"
	"os"
	"testing"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/internal/testenv"
)

type helloRoot struct{ fs.Inode }

func (r *helloRoot) OnAdd(ctx context.Context) {
	r.AddChild("hello.txt", r.NewPersistentInode(ctx, &fs.MemRegularFile{Data: []byte("hi\n")}, fs.StableAttr{}), false)
}

func TestIntegrationHello(t *testing.T) {
	testenv.MountFUSE(t)
	dir := t.TempDir()
	server, err := fs.Mount(dir, &helloRoot{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Unmount() })
	b, err := os.ReadFile(dir + "/hello.txt")
	if err != nil || string(b) != "hi\n" {
		t.Errorf("got %q, %v", b, err)
	}
}
