package main

import (
	"os"
	"testing"

	"github.com/sluicefs/sluice/internal/testenv"
)

func TestIntegrationNotify(t *testing.T) {
	testenv.MountFUSE(t)
	c := &clock{content: []byte("one")}
	dir := t.TempDir()
	server, err := mount(dir, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Unmount() })
	read := func(want string) {
		t.Helper()
		if b, err := os.ReadFile(dir + "/clock"); err != nil || string(b) != want {
			t.Errorf("got %q, %v, want %q", b, err, want)
		}
	}
	read("one")
	c.mu.Lock()
	reads := c.reads
	c.mu.Unlock()
	read("one") // from the kernel's cache
	c.mu.Lock()
	if c.reads != reads {
		t.Errorf("%d reads came for what the kernel had kept", c.reads-reads)
	}
	c.mu.Unlock()
	c.set("three")
	read("three")
}
