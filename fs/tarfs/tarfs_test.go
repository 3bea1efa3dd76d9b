package tarfs

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/sluicefs/sluice/fs/internal/archive"
)

var mtime = time.Unix(1_700_000_000, 5000)

func text(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "line %d\n", i*i%977)
	}
	return b.String()[:n]
}

// sample is a tar with something of everything, a file of size bytes among
// it.
func sample(t testing.TB, size int) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	add := func(h tar.Header, data string) {
		h.Size = int64(len(data))
		h.ModTime = mtime
		h.Format = tar.FormatPAX
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, data)
	}
	add(tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o711}, "")
	add(tar.Header{Name: "dir/", Typeflag: tar.TypeDir, Mode: 0o750, Uid: 7, Gid: 8}, "")
	add(tar.Header{Name: "dir/file", Typeflag: tar.TypeReg, Mode: 0o4755, PAXRecords: map[string]string{"SCHILY.xattr.user.k": "v"}}, text(size))
	add(tar.Header{Name: "dir/second", Typeflag: tar.TypeReg, Uid: 1 << 33}, text(3))
	add(tar.Header{Name: "hard", Typeflag: tar.TypeLink, Linkname: "dir/file"}, "")
	add(tar.Header{Name: "soft", Typeflag: tar.TypeSymlink, Linkname: "dir/file", Mode: 0o777}, "")
	add(tar.Header{Name: "fifo", Typeflag: tar.TypeFifo}, "")
	add(tar.Header{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}, "")
	add(tar.Header{Name: "../out", Typeflag: tar.TypeReg}, "x")
	add(tar.Header{Name: "nolink", Typeflag: tar.TypeLink, Linkname: "missing"}, "")
	add(tar.Header{Name: strings.Repeat("long/", 100) + "name", Typeflag: tar.TypeReg}, text(600))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func write(t testing.TB, name string, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func compressed(t testing.TB, data []byte) map[string][]byte {
	t.Helper()
	var gz bytes.Buffer
	g := gzip.NewWriter(&gz)
	g.Write(data)
	g.Close()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{"a.tar": data, "a.tar.gz": gz.Bytes(), "a.tar.zst": z.EncodeAll(data, nil)}
}

func read(t testing.TB, a *Archive, name string) (string, error) {
	t.Helper()
	e, ok := a.Tree().Lookup(name)
	if !ok {
		return "", fs.ErrNotExist
	}
	c, err := a.open(e.Index)
	if err != nil {
		return "", err
	}
	defer c.Close()
	p := make([]byte, e.Size)
	n, err := c.ReadAt(p, 0)
	if err == io.EOF && n == len(p) {
		err = nil
	}
	return string(p[:n]), err
}

func TestOpen(t *testing.T) {
	for name, data := range compressed(t, sample(t, 200_000)) {
		t.Run(name, func(t *testing.T) {
			file, cache := write(t, name, data), t.TempDir()
			for _, pass := range []string{"scanned", "from the kept index"} {
				a, err := Open(file, Options{CacheDir: cache})
				if err != nil {
					t.Fatalf("%s: %v", pass, err)
				}
				check(t, pass, a)
				if err := a.Close(); err != nil {
					t.Errorf("%s: close: %v", pass, err)
				}
			}
			if kept, _ := filepath.Glob(filepath.Join(cache, "*.tarindex")); len(kept) != 1 {
				t.Errorf("kept indexes: got %q, want one", kept)
			}
		})
	}
}

func check(t *testing.T, pass string, a *Archive) {
	t.Helper()
	long := strings.Repeat("long/", 100) + "name"
	for name, want := range map[string]string{"dir/file": text(200_000), "hard": text(200_000), "dir/second": text(3), long: text(600)} {
		if got, err := read(t, a, name); err != nil || got != want {
			t.Errorf("%s: %.20s: got %d bytes, %v; want %d", pass, name, len(got), err, len(want))
		}
	}
	for name, mode := range map[string]uint32{
		".": 0o040711, "dir": 0o040750, "dir/file": 0o104755, "soft": 0o120777, "fifo": 0o010644, "null": 0o020644,
	} {
		if e, ok := a.Tree().Lookup(name); !ok || e.Mode != mode || !e.MTime.Equal(mtime) && name != "." {
			t.Errorf("%s: %s: got %+v, want mode %#o", pass, name, e, mode)
		}
	}
	if e, _ := a.Tree().Lookup("hard"); e.Nlink != 2 || e.Xattrs["user.k"] != "v" {
		t.Errorf("%s: hard: got %+v, want 2 links and an attribute", pass, e)
	}
	if e, _ := a.Tree().Lookup("null"); e.Rdev != 1<<8|3 {
		t.Errorf("%s: null: got device %#x", pass, e.Rdev)
	}
	if e, _ := a.Tree().Lookup("dir/second"); e.UID != 65534 {
		t.Errorf("%s: dir/second: got user %d, want nobody's", pass, e.UID)
	}
	if _, all := a.Tree().Warnings(); all != 2 {
		t.Errorf("%s: warnings: got %d, want 2", pass, all)
	}
}

func TestChangedArchiveIsScannedAgain(t *testing.T) {
	cache := t.TempDir()
	file := write(t, "a.tar", sample(t, 200_000))
	a, err := Open(file, Options{CacheDir: cache})
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	w.WriteHeader(&tar.Header{Name: "other", Size: 1, Mode: 0o600})
	w.Write([]byte("x"))
	w.Close()
	if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	if a, err = Open(file, Options{CacheDir: cache}); err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if got, err := read(t, a, "other"); got != "x" || err != nil {
		t.Errorf("other: got %q, %v", got, err)
	}
}

func TestDamagedIndexIsIgnored(t *testing.T) {
	cache := t.TempDir()
	file := write(t, "a.tar.gz", compressed(t, sample(t, 200_000))["a.tar.gz"])
	a, err := Open(file, Options{CacheDir: cache})
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	kept, _ := filepath.Glob(filepath.Join(cache, "*"))
	data, err := os.ReadFile(kept[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{0, len(indexMagic) + 3, len(data) - 1} {
		damaged := bytes.Clone(data)
		damaged[at] ^= 0x40
		os.WriteFile(kept[0], damaged, 0o600)
		a, err := Open(file, Options{CacheDir: cache})
		if err != nil {
			t.Fatalf("byte %d damaged: %v", at, err)
		}
		check(t, fmt.Sprintf("byte %d damaged", at), a)
		a.Close()
	}
}

// TestSparse reads an old GNU sparse file: one block of data at 1 MiB, the
// rest a hole.
func TestSparse(t *testing.T) {
	var out bytes.Buffer
	for range 2 {
		out.Write(sparseHeader(1<<20, 512, 1<<20+512))
		out.Write(bytes.Repeat([]byte("d"), 512))
	}
	w := tar.NewWriter(&out)
	w.WriteHeader(&tar.Header{Name: "after", Size: 5, Mode: 0o644})
	io.WriteString(w, "after")
	w.Close()
	a, err := Open(write(t, "s.tar", out.Bytes()), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	want := strings.Repeat("\x00", 1<<20) + strings.Repeat("d", 512)
	if got, err := read(t, a, "sparse"); err != nil || got != want {
		t.Errorf("sparse: got %d bytes, %v; want %d", len(got), err, len(want))
	}
	e, _ := a.Tree().Lookup("sparse")
	c, _ := a.open(e.Index)
	p := make([]byte, 10)
	for _, off := range []int64{1<<20 + 500, 1<<20 - 5, 0} { // backward too
		if _, err := c.ReadAt(p, off); err != nil || string(p) != want[off:off+10] {
			t.Errorf("sparse at %d: got %q, %v", off, p, err)
		}
	}
	if got, err := read(t, a, "after"); got != "after" || err != nil {
		t.Errorf("after: got %q, %v", got, err)
	}
}

// sparseHeader is an old GNU header (type S) of one piece.
func sparseHeader(offset, size, real int) []byte {
	h := make([]byte, 512)
	copy(h, "sparse")
	octal := func(at, n, v int) { copy(h[at:], fmt.Sprintf("%0*o", n-1, v)) }
	octal(100, 8, 0o644)
	octal(108, 8, 0)
	octal(116, 8, 0)
	octal(124, 12, size)
	octal(136, 12, 0)
	h[156] = 'S'
	copy(h[257:], "ustar  \x00")
	octal(386, 12, offset)
	octal(398, 12, size)
	octal(483, 12, real)
	copy(h[148:], "        ")
	sum := 0
	for _, b := range h {
		sum += int(b)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return h
}

func TestRefused(t *testing.T) {
	whole := sample(t, 200_000)
	files := map[string][]byte{
		"empty": nil, "xz": []byte("\xfd7zXZ\x00rest"), "bzip2": []byte("BZh9rest"),
		"text": []byte(strings.Repeat("no tar\n", 200)), "cut": whole[:len(whole)-5000],
	}
	gz := compressed(t, whole)["a.tar.gz"]
	files["cut.gz"] = gz[:len(gz)-100]
	for name, data := range files {
		cache := t.TempDir()
		if a, err := Open(write(t, name, data), Options{CacheDir: cache}); err == nil {
			a.Close()
			t.Errorf("%s: was opened", name)
		} else if !strings.Contains(err.Error(), name) {
			t.Errorf("%s: the error does not name the file: %v", name, err)
		}
		if kept, _ := filepath.Glob(filepath.Join(cache, "*")); len(kept) > 0 {
			t.Errorf("%s: left an index: %q", name, kept)
		}
	}
}

// FuzzScan: no panic and bounded work, whatever the bytes.
func FuzzScan(f *testing.F) {
	f.Add(sample(f, 700))
	f.Add(append(sparseHeader(1024, 512, 4096), make([]byte, 2048)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		contents := bytes.NewReader(data)
		members, err := scan(contents, int64(len(data)), nil)
		if err != nil {
			return
		}
		a := &Archive{contents: contents, members: members}
		build(members, mtime).Walk(func(_ string, e *archive.Entry) {
			if e.Index < 0 || e.Size > 1<<16 || e.Mode&0o170000 != archive.TypeRegular {
				return
			}
			if c, err := a.open(e.Index); err == nil {
				c.ReadAt(make([]byte, e.Size), 0)
				c.Close()
			}
		})
	})
}
