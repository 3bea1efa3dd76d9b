package fs

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sluicefs/sluice/fuse"
)

// TestHandlesUsedAgain lets clients open and release files, and read with
// handles that others have released: a read gives the bytes of its node, or
// EBADF, though handles are used again and again.
func TestHandlesUsedAgain(t *testing.T) {
	const files = 4
	dir := t.TempDir()
	for i := range files {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), []byte(fmt.Sprint("file ", i)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root, err := NewLoopbackRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	k := newKernel(root, nil)
	t.Cleanup(k.b.OnUnmount)
	var nodes [files]uint64
	for i := range nodes {
		id, st := k.lookup(1, fmt.Sprint(i))
		if !st.Ok() {
			t.Fatal(st)
		}
		nodes[i] = id
	}
	rounds := min(*raceRounds, 3000)
	var last [files]atomic.Uint64 // a handle that was open not long ago
	var wg sync.WaitGroup
	for client := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(2, uint64(client)))
			buf := make([]byte, 100)
			for range rounds {
				i := r.IntN(files)
				header := fuse.InHeader{NodeId: nodes[i]}
				var out fuse.OpenOut
				if st := k.b.Open(nil, &fuse.OpenIn{InHeader: header}, &out); !st.Ok() {
					t.Errorf("open: %v", st)
					return
				}
				last[i].Store(out.Fh)
				j := r.IntN(files)
				in := &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: nodes[j]}, Fh: last[j].Load()}
				if in.Fh != 0 {
					res, st := k.b.Read(nil, in, buf)
					if st.Ok() {
						got, _ := res.Bytes(nil)
						if want := []byte(fmt.Sprint("file ", j)); !bytes.Equal(got, want) {
							t.Errorf("read by a handle of another time: got %q, want %q", got, want)
						}
						res.Done()
					} else if st != fuse.EBADF {
						t.Errorf("read: %v", st)
					}
				}
				k.b.Release(nil, &fuse.ReleaseIn{InHeader: header, Fh: out.Fh})
			}
		})
	}
	wg.Wait()
	if n := k.b.files.live.Load(); n != 0 {
		t.Errorf("%d handles are left", n)
	}
}
