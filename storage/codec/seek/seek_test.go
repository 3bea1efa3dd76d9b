package seek

import (
	"bytes"
	stdflate "compress/flate"
	stdgzip "compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
)

// contents are n bytes that compress a little, with stretches that do not
// and stretches that do well.
func contents(n int) []byte {
	rnd := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, 0, n)
	for len(b) < n {
		switch rnd.IntN(4) {
		case 0:
			for range rnd.IntN(5000) {
				b = append(b, byte(rnd.Uint32()))
			}
		case 1:
			b = append(b, bytes.Repeat([]byte{byte(rnd.Uint32())}, rnd.IntN(9000))...)
		default:
			for range rnd.IntN(800) {
				b = fmt.Appendf(b, "line %d of the text\n", rnd.IntN(500))
			}
		}
	}
	return b[:n]
}

func deflated(t testing.TB, b []byte, level int) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := stdflate.NewWriter(&out, level)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	w := stdgzip.NewWriter(&out)
	w.Name, w.Comment, w.Extra = "name", "comment", []byte("extra")
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func zstandard(t testing.TB, b []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(b, nil)
}

// cases are compressed forms of the same kind of contents.
func cases(t testing.TB) map[string]struct {
	format   Format
	in, want []byte
} {
	b := contents(1<<20 + 12345)
	third := len(b) / 3
	members := append(gzipped(b[:third]), gzipped(nil)...)
	members = append(append(members, gzipped(b[third:])...), make([]byte, 700)...)
	frames := append(zstandard(t, b[:third]), 0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 'x', 'y', 'z')
	frames = append(append(frames, zstandard(t, b[third:2*third])...), zstandard(t, b[2*third:])...)
	return map[string]struct {
		format   Format
		in, want []byte
	}{
		"deflate/best":    {Deflate, deflated(t, b, 9), b},
		"deflate/fast":    {Deflate, deflated(t, b, 1), b},
		"deflate/huffman": {Deflate, deflated(t, b, stdflate.HuffmanOnly), b},
		"deflate/stored":  {Deflate, deflated(t, b, 0), b},
		"deflate/empty":   {Deflate, deflated(t, nil, 6), nil},
		"gzip":            {Gzip, gzipped(b), b},
		"gzip/members":    {Gzip, members, b},
		"zstd":            {Zstd, zstandard(t, b), b},
		"zstd/frames":     {Zstd, frames, b},
	}
}

func open(t testing.TB, format Format, in []byte, x *Index, opts Options) *ReaderAt {
	t.Helper()
	r, err := New(bytes.NewReader(in), int64(len(in)), format, x, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestScanGivesTheContents(t *testing.T) {
	for name, c := range cases(t) {
		t.Run(name, func(t *testing.T) {
			r := open(t, c.format, c.in, nil, Options{})
			s := r.Scan()
			defer s.Close()
			got, err := io.ReadAll(iotest.HalfReader(s))
			if err != nil || !bytes.Equal(got, c.want) {
				t.Fatalf("scan: %d bytes, %v; want %d bytes equal to the contents", len(got), err, len(c.want))
			}
			if x := r.Index(); x.Size != int64(len(c.want)) {
				t.Errorf("size in the index: got %d, want %d", x.Size, len(c.want))
			}
		})
	}
}

func TestReadAtAnywhere(t *testing.T) {
	for name, c := range cases(t) {
		t.Run(name, func(t *testing.T) {
			r := open(t, c.format, c.in, nil, Options{Span: 32 << 10, Points: 20, Cache: 100 << 10})
			rnd := rand.New(rand.NewPCG(7, 7))
			for range 60 {
				checkRead(t, r, c.want, rnd)
			}
			if got := len(r.Index().Points); got > 20 {
				t.Errorf("points: got %d, want at most 20", got)
			}
		})
	}
}

func checkRead(t *testing.T, r *ReaderAt, want []byte, rnd *rand.Rand) {
	t.Helper()
	off := rnd.IntN(len(want) + 10)
	p := make([]byte, 1+rnd.IntN(20000))
	n, err := r.ReadAt(p, int64(off))
	wantN := max(0, min(len(p), len(want)-off))
	if n != wantN || (err == io.EOF) != (wantN < len(p)) || err != nil && err != io.EOF {
		t.Errorf("read of %d bytes at %d of %d: got %d, %v; want %d bytes", len(p), off, len(want), n, err, wantN)
	} else if !bytes.Equal(p[:n], want[min(off, len(want)):][:n]) {
		t.Errorf("read of %d bytes at %d: wrong bytes", n, off)
	}
}

func TestReadAtConcurrently(t *testing.T) {
	c := cases(t)["gzip/members"]
	r := open(t, c.format, c.in, nil, Options{Span: 64 << 10, Cursors: 3})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 0))
			for range 20 {
				checkRead(t, r, c.want, rnd)
			}
		})
	}
	wg.Wait()
}

func TestSavedIndexStartsInTheMiddle(t *testing.T) {
	for _, name := range []string{"deflate/best", "deflate/stored", "gzip/members", "zstd/frames"} {
		c := cases(t)[name]
		t.Run(name, func(t *testing.T) {
			r := open(t, c.format, c.in, nil, Options{Span: 100 << 10})
			s := r.Scan()
			io.Copy(io.Discard, s)
			s.Close()
			data, err := r.Index().MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			var x Index
			if err := x.UnmarshalBinary(data); err != nil {
				t.Fatal(err)
			}
			if len(x.Points) < 3 {
				t.Fatalf("points: got %d, want some", len(x.Points))
			}
			// A reader that must not see what lies before a late point: it
			// reads from the first whole block behind that.
			p := x.Points[len(x.Points)-2]
			in := bytes.Clone(c.in)
			clear(in[:max(0, p.In-1)])
			r2 := open(t, c.format, in, &x, Options{})
			off := (p.Out + blockSize - 1) / blockSize * blockSize
			got := make([]byte, int64(len(c.want))-off)
			if n, err := r2.ReadAt(got, off); err != nil || !bytes.Equal(got, c.want[off:]) {
				t.Errorf("read from the point at %d on: got %d bytes, %v", p.Out, n, err)
			}
		})
	}
}

func TestDamageIsAnError(t *testing.T) {
	for name, c := range cases(t) {
		if len(c.want) == 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			r := open(t, c.format, c.in[:len(c.in)/2], nil, Options{})
			s := r.Scan()
			defer s.Close()
			if n, err := io.Copy(io.Discard, s); err == nil {
				t.Errorf("cut in half: %d bytes and no error", n)
			}
		})
	}
	b := contents(100000)
	in := gzipped(b)
	in[len(in)-6] ^= 1
	s := open(t, Gzip, in, nil, Options{}).Scan()
	defer s.Close()
	if _, err := io.Copy(io.Discard, s); !errors.Is(err, ErrChecksum) {
		t.Errorf("gzip with a wrong checksum: got %v, want ErrChecksum", err)
	}
	for _, check := range []Check{{int64(len(b)), 1}, {1, crc32.ChecksumIEEE(b)}} {
		r := open(t, Deflate, deflated(t, b, 6), nil, Options{Check: &check})
		if _, err := r.ReadAt(make([]byte, len(b)+1), 0); !errors.Is(err, ErrChecksum) {
			t.Errorf("deflate that is not %+v: got %v, want ErrChecksum", check, err)
		}
	}
}

func TestForeignIndexIsRefused(t *testing.T) {
	in := deflated(t, contents(1000), 6)
	for name, x := range map[string]*Index{
		"other size":   {Format: Deflate, Compressed: 5, Span: 1, Points: []Point{{Head: true}}},
		"other format": {Format: Gzip, Compressed: int64(len(in)), Span: 1, Points: []Point{{Head: true}}},
		"no points":    {Format: Deflate, Compressed: int64(len(in)), Span: 1},
		"disorder":     {Format: Deflate, Compressed: int64(len(in)), Span: 1, Points: []Point{{Head: true}, {Out: 0}}},
		"outside":      {Format: Deflate, Compressed: int64(len(in)), Span: 1, Points: []Point{{Head: true}, {Out: 9, In: 1 << 40}}},
	} {
		if _, err := New(bytes.NewReader(in), int64(len(in)), Deflate, x, Options{}); err == nil {
			t.Errorf("%s: index was taken", name)
		}
	}
}

// FuzzInflate compares with the standard library's decoder.
func FuzzInflate(f *testing.F) {
	f.Add(deflated(f, contents(3000), 9))
	f.Add(deflated(f, contents(3000), 0))
	f.Add(deflated(f, contents(3000), stdflate.HuffmanOnly))
	f.Add([]byte{0x63, 0x00})
	f.Fuzz(func(t *testing.T, in []byte) {
		const limit = 1 << 20
		want, wantErr := io.ReadAll(io.LimitReader(stdflate.NewReader(bytes.NewReader(in)), limit))
		r := open(t, Deflate, in, nil, Options{Span: 1})
		s := r.Scan()
		defer s.Close()
		got, err := io.ReadAll(io.LimitReader(s, limit))
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("got %d bytes, %v; the standard library %d bytes, %v", len(got), err, len(want), wantErr)
		}
		if err == nil && !bytes.Equal(got, want) {
			t.Fatal("bytes differ from the standard library's")
		}
		if err == nil && len(got) > 1 && len(got) < limit {
			p := make([]byte, len(got)/2)
			if _, err := r.ReadAt(p, int64(len(got)-len(p))); err != nil || !bytes.Equal(p, got[len(got)-len(p):]) {
				t.Fatalf("read of the second half: %v, or wrong bytes", err)
			}
		}
	})
}

// FuzzGzip and FuzzZstd: no panic, no endless loop, whatever the bytes.
func FuzzGzip(f *testing.F) {
	f.Add(gzipped([]byte("contents")))
	f.Add(append(gzipped([]byte("a")), gzipped([]byte("b"))...))
	f.Fuzz(func(t *testing.T, in []byte) { drain(t, Gzip, in) })
}

func FuzzZstd(f *testing.F) {
	f.Add(zstandard(f, []byte("contents")))
	f.Add(append(zstandard(f, []byte("a")), 0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0))
	f.Fuzz(func(t *testing.T, in []byte) { drain(t, Zstd, in) })
}

func drain(t *testing.T, format Format, in []byte) {
	r := open(t, format, in, nil, Options{Span: 1, Points: 4})
	s := r.Scan()
	defer s.Close()
	io.Copy(io.Discard, io.LimitReader(s, 1<<20))
}

// FuzzIndex: an index from a file is taken or refused, never more.
// FuzzIndex has indexes read whose fields are hostile; their frame is right,
// or no field would ever be looked at.
func FuzzIndex(f *testing.F) {
	frame := func(fields []byte) []byte {
		out := bytes.NewBufferString(indexMagic)
		w, err := stdflate.NewWriter(out, stdflate.HuffmanOnly)
		if err != nil {
			f.Fatal(err)
		}
		w.Write(fields)
		w.Close()
		return binary.LittleEndian.AppendUint32(out.Bytes(), crc32.ChecksumIEEE(out.Bytes()))
	}
	// Format, compressed size, size + 1, span, points; of each point the
	// distances, bits, byte, head and window.
	f.Add([]byte{1, 100, 200, 10, 2, 0, 0, 0, 0, 1, 0, 20, 10, 3, 0x60, 0, 4, 'a', 'b', 'c', 'd'})
	f.Add([]byte{2, 100, 0, 10, 1, 0, 0, 0, 0, 1, 0})
	f.Fuzz(func(t *testing.T, fields []byte) {
		var x Index
		if x.UnmarshalBinary(frame(fields)) != nil {
			return
		}
		again, _ := x.MarshalBinary()
		var y Index
		if err := y.UnmarshalBinary(again); err != nil {
			t.Fatalf("what was taken and written is refused: %v", err)
		}
		if x.check(x.Format, x.Compressed) == nil && y.check(x.Format, x.Compressed) != nil {
			t.Fatal("what was in order is not after it was written")
		}
	})
}

func BenchmarkScan(b *testing.B) {
	data := contents(8 << 20)
	in := deflated(b, data, 6)
	b.Run("ours", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			s := open(b, Deflate, in, nil, Options{}).Scan()
			io.Copy(io.Discard, s)
			s.Close()
		}
	})
	b.Run("standard", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			io.Copy(io.Discard, stdflate.NewReader(bytes.NewReader(in)))
		}
	})
}
