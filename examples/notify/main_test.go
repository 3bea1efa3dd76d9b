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
	reads := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.reads
	}
	// From the kernel's cache; unless its memory gets short, so there are
	// several tries.
	for try := 0; ; try++ {
		before := reads()
		read("one")
		if reads() == before {
			break
		}
		if try == 20 {
			t.Fatal("reads come for what the kernel has kept")
		}
	}
	c.set("three")
	read("three")
}
