package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sluicefs/sluice/storage"
)

// neverSync keeps the cache from syncing by itself.
const neverSync = 1000 * time.Hour

// session reads, syncs and evicts in a directory until the machine stops.
// Reads are right all the time, however the disk fails.
func session(d *crashDir, m *memBackend, blobs []*testBlob, rnd *rand.Rand) error {
	for range 4 {
		c, err := open(d, Options{SyncEvery: neverSync, Log: quiet, NydusLayout: true})
		if err != nil {
			return err
		}
		if rnd.IntN(2) == 0 {
			c.Trim(rnd.Int64N(20_000))
		}
		if err := someReads(c, m, blobs, rnd); err != nil {
			return err
		}
		c.Close()
	}
	return nil
}

func someReads(c *Cache, m *memBackend, blobs []*testBlob, rnd *rand.Rand) error {
	r := c.Reader(m, ReaderOptions{Window: -1})
	defer r.Close()
	for range 4 {
		b := blobs[rnd.IntN(len(blobs))]
		i := rnd.IntN(len(b.chunks))
		ext, want := b.file(i, min(len(b.chunks), i+1+rnd.IntN(3)))
		p := make([]byte, len(want))
		if err := r.ReadExtents(context.Background(), p, ext); err != nil {
			return fmt.Errorf("read on a failing disk: %w", err)
		}
		if !bytes.Equal(p, want) {
			return errors.New("read on a failing disk: wrong bytes")
		}
		r.settle()
		if rnd.IntN(4) == 0 {
			c.Sync()
		}
	}
	return nil
}

// settle waits until the reader's jobs have written what they fetched.
func (r *Reader) settle() {
	r.wg.Wait()
}

// verifyAll reads everything and compares; with the backend gone, what is
// not there is an error, and what is there is right.
func verifyAll(t *testing.T, d *crashDir, blobs []*testBlob, what string) (kept int) {
	t.Helper()
	c, err := open(d, Options{SyncEvery: neverSync, Log: quiet, NydusLayout: true})
	if err != nil {
		t.Fatalf("%s: open after the crash: %v", what, err)
	}
	r := c.Reader(&memBackend{}, ReaderOptions{Window: -1})
	defer c.Close()
	defer r.Close()
	for _, b := range blobs {
		for i := range b.chunks {
			ext, want := b.file(i, i+1)
			p := make([]byte, len(want))
			if err := r.ReadExtents(t.Context(), p, ext); err != nil {
				continue
			}
			kept++
			if !bytes.Equal(p, want) {
				t.Fatalf("%s: chunk %d is believed to be there and is not", what, i)
			}
		}
	}
	return kept
}

// TestCrashAtEachWrite stops the machine at each write of a session in turn,
// loses what was not synced at random, and looks at what the next boot
// believes.
func TestCrashAtEachWrite(t *testing.T) {
	blobs := []*testBlob{
		newTestBlob(1, 6, 6000, storage.Zstd, true),
		newTestBlob(2, 6, 3000, storage.None, false),
	}
	m := backendOf(blobs...)
	kept := 0
	seeds, step := uint64(3), 1
	if testing.Short() {
		seeds, step = 1, 4
	}
	for seed := range seeds {
		whole := newCrashDir()
		if err := session(whole, m, blobs, rand.New(rand.NewPCG(seed, 0))); err != nil {
			t.Fatal(err)
		}
		for at := 1; at <= whole.ops+1; at += step {
			for dice := range uint64(2) {
				what := fmt.Sprintf("seed %d, stopped at write %d, dice %d", seed, at, dice)
				d := newCrashDir()
				d.fail = at
				if err := session(d, m, blobs, rand.New(rand.NewPCG(seed, 0))); err != nil && d.ops < at {
					t.Fatalf("%s: %v", what, err)
				}
				rnd := rand.New(rand.NewPCG(seed, uint64(at)<<8|dice))
				after := d.crash(rnd)
				kept += verifyAll(t, after, blobs, what)
				// A second crash, after more work on what the first left.
				after.fail = after.ops + 1 + rnd.IntN(40)
				session(after, m, blobs, rnd)
				verifyAll(t, after.crash(rnd), blobs, what+", and again")
			}
		}
	}
	if kept == 0 {
		t.Error("no chunk survived any crash: nothing was tested")
	}
}

// readAll reads all of b through a new cache in d, which stays open.
func readAll(t *testing.T, d *crashDir, b *testBlob) (*Cache, *Reader) {
	t.Helper()
	c, err := open(d, Options{SyncEvery: neverSync, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	r := c.Reader(backendOf(b), ReaderOptions{})
	ext, want := b.file(0, len(b.chunks))
	read(t, r, ext, want)
	waitKept(t, r, b)
	t.Cleanup(func() {
		r.Close()
		c.Close()
	})
	return c, r
}

// TestSyncedSurvivesPowerLoss: what Sync returned for is there.
func TestSyncedSurvivesPowerLoss(t *testing.T) {
	b := newTestBlob(3, 8, 5000, storage.Zstd, true)
	d := newCrashDir()
	c, _ := readAll(t, d, b)
	if err := c.Sync(); err != nil {
		t.Fatal(err)
	}
	// The records say so only after the next sync of the index.
	s := c.store(b.blob)
	if err := s.idx.Sync(); err != nil {
		t.Fatal(err)
	}
	for dice := range uint64(20) {
		if kept := verifyAll(t, d.crash(rand.New(rand.NewPCG(dice, 0))), []*testBlob{b}, "synced"); kept != 8 {
			t.Fatalf("chunks after the crash: got %d, want 8", kept)
		}
	}
}

// TestKilledProcessLosesNothing: the same boot goes on with all that was
// written.
func TestKilledProcessLosesNothing(t *testing.T) {
	b := newTestBlob(4, 8, 5000, storage.Zstd, true)
	d := newCrashDir()
	readAll(t, d, b)
	// No Close: as after kill -9.
	if kept := verifyAll(t, d, []*testBlob{b}, "killed"); kept != 8 {
		t.Errorf("chunks after the kill: got %d, want 8", kept)
	}
}
