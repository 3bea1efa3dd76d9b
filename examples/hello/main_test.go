package main

import (
	"os"
	"testing"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/internal/testenv"
)

func TestIntegrationHello(t *testing.T) {
	testenv.MountFUSE(t)
	dir := t.TempDir()
	server, err := fs.Mount(dir, &root{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Unmount() })
	for _, name := range []string{"world", "you"} {
		if b, err := os.ReadFile(dir + "/" + name); err != nil || string(b) != greeting(name) {
			t.Errorf("%s: got %q, %v", name, b, err)
		}
	}
}
