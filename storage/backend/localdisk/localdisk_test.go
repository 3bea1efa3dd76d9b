package localdisk

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"
	"unicode/utf16"

	"github.com/sluicefs/sluice/storage/storagetest"
)

// disk is a disk image with a partition table that grows.
type disk struct {
	path    string
	entries []byte
	data    []byte // from sector 64 on
}

const firstData = 64

// add puts data into a new partition named by the 64 digits of id.
func (d *disk) add(id string, data []byte) {
	e := make([]byte, 128)
	e[0] = 1 // some type
	raw, _ := hex.DecodeString(id[32:])
	copy(e[16:], raw)
	for _, f := range [][2]int{{16, 20}, {20, 22}, {22, 24}} { // fields with bytes turned round
		for i, j := f[0], f[1]-1; i < j; i, j = i+1, j-1 {
			e[i], e[j] = e[j], e[i]
		}
	}
	for i, c := range utf16.Encode([]rune(id[:32])) {
		binary.LittleEndian.PutUint16(e[56+2*i:], c)
	}
	sectors := (len(data) + 511) / 512
	binary.LittleEndian.PutUint64(e[32:], uint64(firstData+len(d.data)/512))
	binary.LittleEndian.PutUint64(e[40:], uint64(firstData+len(d.data)/512+sectors-1))
	d.entries = append(d.entries, e...)
	d.data = append(d.data, data...)
	d.data = append(d.data, make([]byte, sectors*512-len(data))...)
}

func (d *disk) bytes() []byte {
	le := binary.LittleEndian
	h := make([]byte, 92)
	copy(h, "EFI PART")
	le.PutUint32(h[8:], 0x10000)
	le.PutUint32(h[12:], 92)
	le.PutUint64(h[72:], 2)
	le.PutUint32(h[80:], uint32(len(d.entries)/128))
	le.PutUint32(h[84:], 128)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(d.entries))
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h))
	b := make([]byte, firstData*512)
	copy(b[512:], h)
	copy(b[1024:], d.entries)
	return append(b, d.data...)
}

func (d *disk) open(t *testing.T) *Backend {
	t.Helper()
	if err := os.WriteFile(d.path, d.bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := Open(d.path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func TestConformance(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storagetest.Place {
		d := &disk{path: filepath.Join(t.TempDir(), "disk")}
		b := new(Backend)
		n := byte(0)
		return storagetest.Place{Backend: b, Put: func(_ *testing.T, data []byte) string {
			n++
			id := hex.EncodeToString(bytes.Repeat([]byte{n, 0x5a}, 16))
			d.add(id, data)
			*b = *d.open(t)
			return id
		}, Sector: 512}
	})
}

func TestRawDiskIsOneBlob(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, []byte("contents"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := Open(path, Options{Raw: true})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	p := make([]byte, 4)
	if err := b.ReadAt(t.Context(), "any", p, 3); err != nil || string(p) != "tent" {
		t.Errorf("read: got %q, %v", p, err)
	}
}

func FuzzParseGPT(f *testing.F) {
	d := &disk{}
	d.add("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", []byte("x"))
	f.Add(d.bytes())
	f.Add(make([]byte, 2048))
	f.Fuzz(func(t *testing.T, b []byte) {
		parts, err := parseGPT(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for _, p := range parts {
			if p.off < 0 || p.size <= 0 || p.off+p.size > int64(len(b)) {
				t.Errorf("partition %+v of a disk of %d bytes", p, len(b))
			}
		}
	})
}
