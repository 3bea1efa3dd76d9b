package localdisk

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluicefs/sluice/internal/testenv"
	"github.com/sluicefs/sluice/storage/storagetest"
)

// disk is a disk image with a partition table that grows.
type disk struct {
	path  string
	parts []testenv.Partition
}

func (d *disk) add(id string, data []byte) {
	d.parts = append(d.parts, testenv.Partition{Blob: id, Data: data})
}

func (d *disk) bytes() []byte { return testenv.Partitioned(d.parts...) }

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

// TestWhatIsNoDisk: errors name the disk and what is wrong with it.
func TestWhatIsNoDisk(t *testing.T) {
	d := &disk{path: filepath.Join(t.TempDir(), "disk")}
	id := hex.EncodeToString(bytes.Repeat([]byte{1, 2}, 16))
	d.add(id, []byte("a"))
	d.add(id, []byte("b"))
	twice := d.bytes()
	d.parts = d.parts[:1]
	sound := d.bytes()
	header, entries, beyond := bytes.Clone(sound), bytes.Clone(sound), bytes.Clone(sound)
	header[512+24]++
	entries[1024+56]++
	beyond = beyond[:len(beyond)-512]
	for name, c := range map[string]struct {
		disk    []byte
		noTable bool
	}{
		"empty":                  {nil, true},
		"text":                   {bytes.Repeat([]byte("text "), 1000), true},
		"checksum of the header": {header, false}, "checksum of the entries": {entries, false},
		"partition behind the end": {beyond, false}, "two partitions of one name": {twice, false},
	} {
		if err := os.WriteFile(d.path, c.disk, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(d.path, Options{})
		if err == nil || errors.Is(err, ErrNoTable) != c.noTable || !strings.Contains(err.Error(), d.path) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := Open(d.path+".none", Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such file: got %v", err)
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
