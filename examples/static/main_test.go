package main

import (
	"testing"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/fs/fstest"
	"github.com/sluicefs/sluice/internal/testenv"
)

func TestIntegrationStatic(t *testing.T) {
	testenv.MountFUSE(t)
	dir := t.TempDir()
	want := map[string]string{"README": "read me\n", "a/b/c": "deep\n", "a/empty": ""}
	opts := &fs.Options{}
	opts.MountOptions.Options = []string{"ro"}
	server, err := fs.Mount(dir, &root{files: want}, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Unmount() })
	content := map[string][]byte{}
	for name, s := range want {
		content[name] = []byte(s)
	}
	fstest.ReadOnly(t, dir, content)
}
