package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/testenv"
)

// counted counts the look-ups that reach the root.
type counted struct {
	number
	lookups atomic.Int64
}

func (c *counted) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	c.lookups.Add(1)
	return c.number.Lookup(ctx, name, out)
}

func TestIntegrationDynamic(t *testing.T) {
	testenv.MountFUSE(t)
	dir := t.TempDir()
	root := &counted{}
	server, err := fs.Mount(dir, root, options())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Unmount() })
	entries, err := os.ReadDir(dir + "/12")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	slices.Sort(got)
	if want := "1 2 3 4 6"; strings.Join(got, " ") != want {
		t.Errorf("divisors of 12: got %v, want %s", got, want)
	}
	if _, err := os.Stat(dir + "/12/6/3"); err != nil {
		t.Error(err)
	}
	for range 3 {
		if _, err := os.Stat(dir + "/12/5"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("5 of 12: got %v", err)
		}
	}
	// Known to the kernel for an hour, or a minute; unless its memory gets
	// short, so there are several tries.
	for try := 0; ; try++ {
		before := root.lookups.Load()
		for range 10 {
			os.Stat(dir + "/12")
			os.Stat(dir + "/nothing")
		}
		n := root.lookups.Load() - before
		if n <= 1 {
			break
		}
		if try == 20 {
			t.Fatalf("%d look-ups of a name and a missing one, want 1", n)
		}
	}
}
