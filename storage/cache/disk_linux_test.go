package cache

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/internal/testenv"
	"github.com/sluicefs/sluice/storage"
)

// TestIntegrationFullDisk reads more than a disk holds, then makes room.
func TestIntegrationFullDisk(t *testing.T) {
	testenv.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=700"); err != nil {
		t.Fatalf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	b := newTestBlob(1, 60, 60_000, storage.None, true)
	c, r := openTest(t, dir, Options{SyncEvery: time.Millisecond}, backendOf(b), ReaderOptions{Window: -1})
	ext, want := b.file(0, 60)
	for range 2 {
		read(t, r, ext, want)
		r.settle()
	}
	if r.Stats().StoreErrors == 0 || r.Stats().BytesStored == 0 {
		t.Errorf("a disk of 1 MiB and 2.7 MiB to keep: %+v", r.Stats())
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "size=16m"); err != nil {
		t.Fatal(err)
	}
	read(t, r, ext, want)
	r.settle()
	for deadline := time.Now().Add(30 * time.Second); ; pause() { // spares are kept when it is time to sync
		done, err := r.ReadPresent(make([]byte, len(want)), ext)
		if done && err == nil {
			break
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("read after there was room again: all there %v, %v", done, err)
		}
	}
	if rep, err := c.Check(t.Context(), nil, nil); err != nil || len(rep.Damaged) > 0 {
		t.Errorf("check: %+v, %v", rep, err)
	}
}
