//go:build linux

package fs

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/testenv"
)

// endless is a directory in which every name is a file.
type endless struct{ Inode }

func (e *endless) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*Inode, syscall.Errno) {
	return e.NewInode(ctx, &MemRegularFile{}, StableAttr{}), 0
}

func TestIntegrationMaxInodes(t *testing.T) {
	testenv.MountFUSE(t)
	dir := t.TempDir()
	hour := time.Hour
	opts := &Options{EntryTimeout: &hour, AttrTimeout: &hour, MaxInodes: 1000}
	raw := NewNodeFS(&endless{}, opts)
	server, err := fuse.NewServer(raw, dir, &opts.MountOptions)
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve()
	if err := server.WaitMount(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Unmount() })
	b := raw.(*rawBridge)
	held, err := os.Open(dir + "/held")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	for i := range 5000 {
		if _, err := os.Lstat(fmt.Sprint(dir, "/", i)); err != nil {
			t.Fatal(err)
		}
	}
	// One more look-up starts a round if the last one left too many.
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		if b.nodes.live.Load() <= 1500 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d inodes are kept, want about 1000", b.nodes.live.Load())
		}
		os.Lstat(fmt.Sprint(dir, "/more", b.nodes.live.Load()))
	}
	if _, err := held.Stat(); err != nil {
		t.Errorf("an open file: %v", err)
	}
}
