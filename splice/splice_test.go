//go:build linux

package splice

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestCopyFile(t *testing.T) {
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	want := bytes.Repeat([]byte("some bytes "), 100_000)
	if err := os.WriteFile(src, want, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := CopyFile(dst, src, 0o640); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(dst)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("copy: %d bytes, %v, want %d", len(got), err, len(want))
	}
	if err := CopyFile(dst, filepath.Join(dir, "none"), 0o600); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing source: got %v", err)
	}
	if Used() != 0 {
		t.Errorf("pairs in use: got %d, want 0", Used())
	}
}

func TestPoolCounts(t *testing.T) {
	ClearSplicePool()
	a, err := Get()
	if err != nil {
		t.Fatal(err)
	}
	b, err := Get()
	if err != nil {
		t.Fatal(err)
	}
	if Used() != 2 || Total() != 2 {
		t.Errorf("two out: got %d of %d", Used(), Total())
	}
	Done(a)
	Drop(b)
	if Used() != 0 || Total() != 1 {
		t.Errorf("one given back, one dropped: got %d of %d", Used(), Total())
	}
	c, err := Get()
	if err != nil || c != a {
		t.Errorf("the pool gave %p, %v, want %p", c, err, a)
	}
	Done(c)
	ClearSplicePool()
	if Total() != 0 {
		t.Errorf("after clearing: got %d, want 0", Total())
	}
}

func TestPairMoves(t *testing.T) {
	p, err := newPair()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Grow(2 * DefaultPipeSize); err != nil {
		t.Fatal(err)
	}
	if p.Cap() < 2*DefaultPipeSize {
		t.Errorf("capacity: got %d, want at least %d", p.Cap(), 2*DefaultPipeSize)
	}
	if err := p.Grow(MaxPipeSize() + 1); err == nil {
		t.Error("a pipe larger than allowed was promised")
	}
	if _, err := p.Read(make([]byte, 1)); !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("empty pipe: got %v, want EAGAIN", err)
	}
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, []byte("abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n, err := p.LoadFromAt(f.Fd(), 3, 2); n != 3 || err != nil {
		t.Fatalf("load: got %d, %v", n, err)
	}
	if n, err := p.Writev([][]byte{[]byte("x"), []byte("yz")}); n != 3 || err != nil {
		t.Fatalf("writev: got %d, %v", n, err)
	}
	q, err := newPair()
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if n, err := q.SpliceFrom(p, 6); n == 0 || err != nil {
		t.Fatalf("splice from pipe to pipe: got %d, %v", n, err)
	}
	if n, err := q.SpliceFrom(p, 6); n == 0 && err == nil {
		t.Fatalf("rest: got %d, %v", n, err)
	}
	b := make([]byte, 16)
	n, err := q.Read(b)
	if err != nil || string(b[:n]) != "cdexyz" {
		t.Errorf("got %q, %v", b[:n], err)
	}
	if _, err := p.LoadFrom(f.Fd(), p.Cap()+1); err == nil {
		t.Error("more than the pipe holds was taken")
	}
}
