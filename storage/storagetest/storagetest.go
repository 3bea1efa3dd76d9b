// Package storagetest is the conformance test of [storage.Backend]: what
// each place of blobs does, whatever it is made of.
package storagetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/sluicefs/sluice/storage"
)

// Place is a backend under test and the way to put blobs into it, which is
// not the backend's own.
type Place struct {
	Backend storage.Backend
	Put     func(t *testing.T, data []byte) (blob string)
	Missing string // name of a blob that is not there; default 64 zeros
	Sector  int    // blobs are padded with zeros to a multiple of it; default 1
}

// PutFile returns a Place's Put for a backend whose blobs are files in dir.
func PutFile(dir string) func(t *testing.T, data []byte) string {
	return func(t *testing.T, data []byte) string {
		t.Helper()
		sum := sha256.Sum256(data)
		name := hex.EncodeToString(sum[:])
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
}

// Run tests the place that open makes; it is called once. Everything that
// open starts it ends by t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) Place) {
	p := open(t)
	if p.Missing == "" {
		p.Missing = fmt.Sprintf("%064d", 0)
	}
	rnd := rand.NewChaCha8([32]byte{1})
	data := make([]byte, 3<<20+17)
	rnd.Read(data)
	blob := p.Put(t, data)
	for p.Sector > 0 && len(data)%p.Sector != 0 {
		data = append(data, 0)
	}

	t.Run("ranges", func(t *testing.T) { ranges(t, p.Backend, blob, data) })
	t.Run("size", func(t *testing.T) { size(t, p, blob, data) })
	t.Run("missing", func(t *testing.T) { missing(t, p) })
	t.Run("beyond the end", func(t *testing.T) { beyond(t, p.Backend, blob, data) })
	t.Run("bad names", func(t *testing.T) { badNames(t, p.Backend) })
	t.Run("small", func(t *testing.T) {
		b := p.Put(t, []byte("x"))
		check(t, p.Backend, b, []byte("x"), 0, 1)
	})
	t.Run("at once", func(t *testing.T) { atOnce(t, p.Backend, blob, data) })
	t.Run("ended context", func(t *testing.T) { ended(t, p.Backend, blob) })
}

// check reads n bytes at off and compares.
func check(t *testing.T, b storage.Backend, blob string, data []byte, off, n int) {
	t.Helper()
	p := bytes.Repeat([]byte{0xa5}, n+2)
	if err := b.ReadAt(t.Context(), blob, p[1:n+1:n+1], int64(off)); err != nil {
		t.Errorf("read %d bytes at %d: %v", n, off, err)
		return
	}
	if !bytes.Equal(p[1:n+1], data[off:off+n]) {
		t.Errorf("read %d bytes at %d: other bytes than were put", n, off)
	}
	if p[0] != 0xa5 || p[n+1] != 0xa5 {
		t.Errorf("read %d bytes at %d: wrote outside the buffer", n, off)
	}
}

func ranges(t *testing.T, b storage.Backend, blob string, data []byte) {
	for _, r := range [][2]int{
		{0, 1}, {0, len(data)}, {len(data) - 1, 1}, {1, len(data) - 1}, {4095, 2}, {1 << 20, 1 << 20}, {123457, 65537}, {0, 0}, {len(data), 0},
	} {
		check(t, b, blob, data, r[0], r[1])
	}
}

func size(t *testing.T, p Place, blob string, data []byte) {
	n, err := p.Backend.Size(t.Context(), blob)
	if err != nil || n != int64(len(data)) {
		t.Errorf("size: got %d, %v, want %d", n, err, len(data))
	}
}

func missing(t *testing.T, p Place) {
	if _, err := p.Backend.Size(t.Context(), p.Missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("size of a blob that is not there: got %v, want fs.ErrNotExist", err)
	}
	if err := p.Backend.ReadAt(t.Context(), p.Missing, make([]byte, 1), 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read of a blob that is not there: got %v, want fs.ErrNotExist", err)
	}
}

func beyond(t *testing.T, b storage.Backend, blob string, data []byte) {
	for _, r := range [][2]int64{{int64(len(data)), 1}, {int64(len(data)) - 1, 2}, {0, int64(len(data)) + 1}, {1 << 40, 10}, {-1, 1}} {
		if err := b.ReadAt(t.Context(), blob, make([]byte, r[1]), r[0]); err == nil {
			t.Errorf("read %d bytes at %d of %d: got no error", r[1], r[0], len(data))
		}
	}
}

func badNames(t *testing.T, b storage.Backend) {
	for _, name := range []string{"", ".", "..", "../x", "a/b", "a/../../etc/passwd", "/etc/passwd", "a\x00b", "a b", "a?b", "a#b", "a%2fb", "\n"} {
		if err := b.ReadAt(t.Context(), name, make([]byte, 1), 0); err == nil {
			t.Errorf("read of blob %q: got no error", name)
		}
		if _, err := b.Size(t.Context(), name); err == nil {
			t.Errorf("size of blob %q: got no error", name)
		}
	}
}

func atOnce(t *testing.T, b storage.Backend, blob string, data []byte) {
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 7))
			for range 8 {
				off := rnd.IntN(len(data))
				check(t, b, blob, data, off, rnd.IntN(min(len(data)-off, 200_000))+1)
			}
		})
	}
	wg.Wait()
}

func ended(t *testing.T, b storage.Backend, blob string) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.ReadAt(ctx, blob, make([]byte, 10), 0); !errors.Is(err, context.Canceled) {
		t.Errorf("read with an ended context: got %v, want context.Canceled", err)
	}
}
