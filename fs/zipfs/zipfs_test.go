package zipfs

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/sluicefs/sluice/fs/internal/archive"
)

var mtime = time.Unix(1_700_000_000, 0)

func text(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "line %d\n", i*i%977)
	}
	return b.String()[:n]
}

// build writes a zip by calling f.
func build(t testing.TB, f func(*zip.Writer)) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	w.RegisterCompressor(methodZstd, func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) })
	f(w)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func add(t testing.TB, w *zip.Writer, h zip.FileHeader, data string) {
	t.Helper()
	f, err := w.CreateHeader(&h)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(f, data)
}

func open(t testing.TB, data []byte) *Archive {
	t.Helper()
	a, err := New(bytes.NewReader(data), int64(len(data)), mtime, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// read reads a member whole, through its node's contents.
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

func TestMembers(t *testing.T) {
	link := zip.FileHeader{Name: "dir/link"}
	link.SetMode(fs.ModeSymlink | 0o777)
	suid := zip.FileHeader{Name: "bin", Method: zip.Deflate, Modified: mtime.Add(time.Hour), Extra: []byte{0x75, 0x78, 11, 0, 1, 4, 0xe8, 3, 0, 0, 4, 0xe9, 3, 0, 0}}
	suid.SetMode(fs.ModeSetuid | 0o755)
	a := open(t, build(t, func(w *zip.Writer) {
		add(t, w, zip.FileHeader{Name: "stored", Method: zip.Store}, text(5000))
		add(t, w, zip.FileHeader{Name: "dir/deflated", Method: zip.Deflate}, text(300000))
		add(t, w, zip.FileHeader{Name: "dir/zstd", Method: methodZstd}, text(70000))
		add(t, w, zip.FileHeader{Name: "empty/"}, "")
		add(t, w, zip.FileHeader{Name: "nothing", Method: zip.Deflate}, "")
		add(t, w, link, "../stored")
		add(t, w, suid, "#!")
	}))
	if first, _ := a.Tree().Warnings(); len(first) > 0 {
		t.Errorf("warnings: %q", first)
	}
	for name, want := range map[string]string{
		"stored": text(5000), "dir/deflated": text(300000), "dir/zstd": text(70000), "nothing": "", "bin": "#!",
	} {
		if got, err := read(t, a, name); err != nil || got != want {
			t.Errorf("%s: got %d bytes, %v; want %d bytes equal to what was packed", name, len(got), err, len(want))
		}
	}
	for name, mode := range map[string]uint32{
		"stored": 0o100644, "dir": 0o040755, "empty": 0o040755, "dir/link": 0o120777, "bin": 0o104755,
	} {
		if e, ok := a.Tree().Lookup(name); !ok || e.Mode != mode {
			t.Errorf("%s: got mode %#o (%v), want %#o", name, e.Mode, ok, mode)
		}
	}
	if e, _ := a.Tree().Lookup("dir/link"); e.Target != "../stored" {
		t.Errorf("link: got target %q", e.Target)
	}
	if e, _ := a.Tree().Lookup("bin"); e.UID != 1000 || e.GID != 1001 || !e.MTime.Equal(mtime.Add(time.Hour)) {
		t.Errorf("bin: got owner %d:%d, time %v", e.UID, e.GID, e.MTime)
	}
}

func TestMoreThan65536Members(t *testing.T) {
	const n = 1<<16 + 1
	a := open(t, build(t, func(w *zip.Writer) {
		for i := range n {
			add(t, w, zip.FileHeader{Name: fmt.Sprintf("d%d/f%d", i%100, i)}, "")
		}
	}))
	if got, want := a.Tree().Len(), n+100+1; got != want {
		t.Errorf("inodes: got %d, want %d", got, want)
	}
}

func TestEncryptedIsRefused(t *testing.T) {
	a := open(t, build(t, func(w *zip.Writer) {
		f, err := w.CreateRaw(&zip.FileHeader{Name: "secret", Method: zip.Deflate, Flags: 1, CompressedSize64: 20, UncompressedSize64: 8})
		if err != nil {
			t.Fatal(err)
		}
		f.Write(make([]byte, 20))
		f, _ = w.CreateRaw(&zip.FileHeader{Name: "odd", Method: 12, CompressedSize64: 1, UncompressedSize64: 1})
		f.Write([]byte{0})
	}))
	if _, err := read(t, a, "secret"); !errors.Is(err, archive.ErrEncrypted) {
		t.Errorf("encrypted: got %v, want ErrEncrypted", err)
	}
	if _, err := read(t, a, "odd"); !errors.Is(err, archive.ErrUnsupported) {
		t.Errorf("method 12: got %v, want ErrUnsupported", err)
	}
}

func TestLiesAreLeftOut(t *testing.T) {
	var packed bytes.Buffer
	fw, _ := flate.NewWriter(&packed, 6)
	io.WriteString(fw, text(1000))
	fw.Close()
	raw := func(w *zip.Writer, name string, method uint16, size uint64) {
		f, err := w.CreateRaw(&zip.FileHeader{
			Name: name, Method: method, CRC32: crc32.ChecksumIEEE([]byte(text(1000))),
			CompressedSize64: uint64(packed.Len()), UncompressedSize64: size,
		})
		if err != nil {
			t.Fatal(err)
		}
		f.Write(packed.Bytes())
	}
	a := open(t, build(t, func(w *zip.Writer) {
		raw(w, "good", zip.Deflate, 1000)
		raw(w, "longer", zip.Deflate, 2000) // found when it is read
		raw(w, "shorter", zip.Deflate, 999)
		raw(w, "bomb", zip.Deflate, 1<<50)
		raw(w, "stored", zip.Store, 1000)
		add(t, w, zip.FileHeader{Name: "../out"}, "x")
		add(t, w, zip.FileHeader{Name: "/abs"}, "x")
	}))
	if got, err := read(t, a, "good"); err != nil || got != text(1000) {
		t.Errorf("good: %d bytes, %v", len(got), err)
	}
	if _, err := read(t, a, "longer"); err == nil {
		t.Error("longer: a size that is too large was not noticed")
	}
	for _, name := range []string{"bomb", "stored", "out"} {
		if _, err := read(t, a, name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v, want it left out", name, err)
		}
	}
	if _, err := read(t, a, "abs"); err != nil {
		t.Errorf("abs: %v; want it below the root", err)
	}
}

func TestOverlapIsLeftOut(t *testing.T) {
	data := build(t, func(w *zip.Writer) {
		add(t, w, zip.FileHeader{Name: "a", Method: zip.Store}, text(100))
		add(t, w, zip.FileHeader{Name: "b", Method: zip.Store}, text(100))
	})
	// Let the directory's second record point at the first member.
	dir := bytes.Index(data, []byte("PK\x01\x02"))
	second := dir + 4 + bytes.Index(data[dir+4:], []byte("PK\x01\x02"))
	binary.LittleEndian.PutUint32(data[second+42:], 0)
	a := open(t, data)
	if got := a.Tree().Len(); got != 2 {
		t.Errorf("inodes: got %d, want the root and one file", got)
	}
	if first, _ := a.Tree().Warnings(); len(first) != 1 || !strings.Contains(first[0], "overlap") {
		t.Errorf("warnings: got %q", first)
	}
}

func TestNotAZip(t *testing.T) {
	for name, data := range map[string][]byte{"empty": nil, "text": []byte("no zip"), "cut": build(t, func(w *zip.Writer) { add(t, w, zip.FileHeader{Name: "a"}, "x") })[:40]} {
		if _, err := New(bytes.NewReader(data), int64(len(data)), mtime, nil); err == nil {
			t.Errorf("%s: was opened", name)
		}
	}
}

// FuzzOpen: no panic and bounded work, whatever the bytes.
func FuzzOpen(f *testing.F) {
	f.Add(build(f, func(w *zip.Writer) {
		add(f, w, zip.FileHeader{Name: "a/b", Method: zip.Deflate}, "contents")
		add(f, w, zip.FileHeader{Name: "c", Method: zip.Store}, "contents")
	}))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := New(bytes.NewReader(data), int64(len(data)), mtime, nil)
		if err != nil {
			return
		}
		defer a.Close()
		a.Tree().Walk(func(name string, e *archive.Entry) {
			if e.Index < 0 || e.Size > 1<<16 {
				return
			}
			if c, err := a.open(e.Index); err == nil {
				c.ReadAt(make([]byte, e.Size), 0)
				c.Close()
			}
		})
	})
}
