package seek

import (
	"bytes"
	"compress/gzip"
	"io"
	"math/rand/v2"
	"testing"
)

// From every point that Borders knows, the compressed bytes up to what was
// consumed give the contents, over the end of members too.
func TestBordersStretches(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	want := make([]byte, 900_000)
	for i := range want {
		want[i] = byte(r.IntN(1 + i>>13))
	}
	var gz bytes.Buffer
	for i, at := range []int{0, 300_000, 310_000, len(want)}[1:] {
		from := []int{0, 300_000, 310_000}[i]
		z, err := gzip.NewWriterLevel(&gz, []int{6, 0, 1}[i])
		if err != nil {
			t.Fatal(err)
		}
		z.Name = "member"
		z.Write(want[from:at])
		z.Close()
	}
	src := gz.Bytes()
	b := NewBorders(bytes.NewReader(src))
	defer b.Close()
	points := 0
	for off := 0; off < len(want); {
		n := min(37_777, len(want)-off)
		p, ok := b.Before(int64(off))
		if off > 0 && !ok {
			t.Fatalf("no point before %d", off)
		}
		got := make([]byte, n)
		if _, err := io.ReadFull(b, got); err != nil {
			t.Fatal(err)
		}
		if !ok {
			if p, ok = b.Before(int64(off)); !ok {
				t.Fatal("no point at the start")
			}
		}
		if p.Out > int64(off) || p.Head {
			t.Fatalf("point before %d: got %+v", off, p)
		}
		if p.Bits > 0 {
			points++
		}
		stretch := make([]byte, int64(off+n)-p.Out)
		if err := Inflate(stretch, src[:b.Consumed()], p); err != nil {
			t.Fatalf("stretch from %d to %d (%d to %d of the file, %d bits): %v", p.Out, off+n, p.In, b.Consumed(), p.Bits, err)
		}
		if !bytes.Equal(stretch, want[p.Out:off+n]) {
			t.Fatalf("stretch from %d to %d has other bytes", p.Out, off+n)
		}
		off += n
	}
	if points == 0 {
		t.Error("no point inside a byte: the test tests too little")
	}
	if n, err := b.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("end: got %d, %v, want io.EOF", n, err)
	}
}

// A stream of empty blocks does not cost a window each.
func TestBordersKeepsFewPoints(t *testing.T) {
	var gz bytes.Buffer
	z := gzip.NewWriter(&gz)
	for range 20_000 {
		z.Write([]byte("x"))
		z.Flush()
	}
	z.Close()
	b := NewBorders(&gz)
	defer b.Close()
	if _, err := io.Copy(io.Discard, b); err != nil {
		t.Fatal(err)
	}
	if n := len(b.points); n > 3 {
		t.Errorf("points for 20000 bytes: got %d", n)
	}
}
