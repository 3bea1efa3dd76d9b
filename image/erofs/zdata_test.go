package erofs

import (
	"bytes"
	"compress/flate"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/sluicefs/sluice/internal/mmap"
)

func openBytes(t *testing.T, b []byte) *Image {
	t.Helper()
	m, err := mmap.Copy(bytes.NewReader(b), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	im, err := New(m, nil)
	if err != nil {
		m.Close()
		t.Fatal(err)
	}
	t.Cleanup(func() { im.Close() })
	return im
}

// numbers returns the compressed file of the small images.
func numbers(t *testing.T, im *Image) (n Node) {
	t.Helper()
	nid, err := im.Lookup(im.Root(), "numbers")
	if err != nil {
		t.Fatal(err)
	}
	if err := im.Regular(nid, &n); err != nil {
		t.Fatal(err)
	}
	if !n.compressed() {
		t.Fatalf("numbers: layout %d is not compressed", n.Layout)
	}
	return n
}

// TestOtherAlgorithms puts the same data into the clusters of an image by
// other algorithms than the mkfs.erofs at hand knows.
func TestOtherAlgorithms(t *testing.T) {
	want := new(strings.Builder)
	for i := range 2000 {
		want.WriteString(strconv.Itoa(i+1) + "\n")
	}
	for _, tt := range [...]struct {
		name      string
		algorithm uint8
		compress  func(t *testing.T, b []byte) []byte
	}{
		{"zstd", algorithmZstd, func(t *testing.T, b []byte) []byte {
			w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			return w.EncodeAll(b, nil)
		}},
		{"deflate", algorithmDeflate, func(t *testing.T, b []byte) []byte {
			var out bytes.Buffer
			w, err := flate.NewWriter(&out, 9)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(b); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			return out.Bytes()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := os.ReadFile("testdata/lz4.erofs")
			if err != nil {
				t.Fatal(err)
			}
			b[SuperOffset+8] &^= CompatChecksum
			im := openBytes(t, b)
			n := numbers(t, im)
			z, err := im.compressed(&n)
			if err != nil {
				t.Fatal(err)
			}
			stretches := 0
			for off := uint64(0); off < n.Size; {
				d, err := z.decode(off)
				if err != nil {
					t.Fatal(err)
				}
				off = d.end
				if d.kind == clusterPlain {
					continue
				}
				stretches++
				data := tt.compress(t, d.b)
				cluster := b[d.off : d.off+d.size]
				if len(data) > len(cluster) {
					t.Fatalf("%d bytes do not fit %d", len(data), len(cluster))
				}
				clear(cluster)
				copy(cluster[len(cluster)-len(data):], data)
			}
			b[(n.End()+7)&^7+6] = tt.algorithm
			if stretches == 0 {
				t.Fatal("nothing was compressed")
			}
			other := openBytes(t, b)
			got := make([]byte, 20000)
			k, inline, err := other.Inline(got, n.NID, 0)
			if err != nil || !inline || string(got[:k]) != want.String() {
				t.Errorf("got %d bytes, %v, %v; want the numbers", k, inline, err)
			}
		})
	}
}

func TestLZ4Prefix(t *testing.T) {
	for _, tt := range [...]struct {
		name, src, want string
		n               int
		ok              bool
	}{
		{"literals", "\x30abc", "abc", 3, true},
		{"garbage behind", "\x30abcXYZ", "abc", 3, true},
		{"match", "\x12a\x01\x00", "aaaaaaa", 7, true},
		{"match cut", "\x1fa\x01\x00\xff\xff\xff\x00", "aaaaa", 5, true},
		{"long literals", "\xf0\x01" + strings.Repeat("x", 16), strings.Repeat("x", 16), 16, true},
		{"empty", "", "", 1, false},
		{"literals cut", "\x50ab", "", 5, false},
		{"match before the start", "\x12a\x02\x00", "", 7, false},
		{"distance 0", "\x12a\x00\x00", "", 7, false},
		{"length without end", "\x1fa\x01\x00\xff\xff", "", 900, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dst := make([]byte, tt.n)
			err := lz4Prefix(dst, []byte(tt.src))
			if (err == nil) != tt.ok || tt.ok && string(dst) != tt.want {
				t.Errorf("got %q, %v; want %q", dst, err, tt.want)
			}
		})
	}
}
