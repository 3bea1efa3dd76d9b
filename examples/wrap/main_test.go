package main

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/internal/testenv"
)

func TestIntegrationWrap(t *testing.T) {
	testenv.MountFUSE(t)
	dir := t.TempDir()
	root, err := newRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	server, err := fs.Mount(dir, root, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Unmount() })
	if err := os.MkdirAll(dir+"/a/b", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/a/b/f", []byte("kept"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/a/b/f", "/a/b"} {
		if err := os.Remove(dir + name); !errors.Is(err, syscall.EPERM) {
			t.Errorf("remove %s: got %v, want EPERM", name, err)
		}
	}
	if b, err := os.ReadFile(dir + "/a/b/f"); err != nil || string(b) != "kept" {
		t.Errorf("got %q, %v", b, err)
	}
}
