package erofs_test

import (
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/erofs"
	"github.com/sluicefs/sluice/image/imagetest"
	"github.com/sluicefs/sluice/internal/mmap"
)

var seeds = [...]string{"plain.erofs", "chunks.erofs", "lz4.erofs", "zstd.erofs", "deflate.erofs"}

func open(t *testing.T, file string, devices ...erofs.BlobStore) *erofs.Image {
	t.Helper()
	im, err := erofs.Open(file, &erofs.Options{Devices: devices})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { im.Close() })
	return im
}

// exercise asks everything of b and fails the test unless all errors are
// FormatErrors.
func exercise(t testing.TB, b []byte, limit int) {
	t.Helper()
	im, err := erofs.New(mmap.Of(b), nil)
	if err != nil {
		var format *image.FormatError
		if !errors.As(err, &format) {
			t.Errorf("open: got %T %v, want a FormatError", err, err)
		}
		return
	}
	defer im.Close()
	if err := imagetest.Exercise(im, limit); err != nil {
		t.Error(err)
	}
}

func TestCutImagesGiveErrors(t *testing.T) {
	for _, name := range seeds {
		b := imagetest.File(t, "testdata", name)
		for n := 0; n < len(b); n += 512 {
			exercise(t, b[:n], 400)
		}
	}
}

func TestFlippedBitsGiveErrors(t *testing.T) {
	for _, name := range seeds {
		b := imagetest.File(t, "testdata", name)
		b[erofs.SuperOffset+8] &^= erofs.CompatChecksum // or the checksum would catch the superblock's
		for i := erofs.SuperOffset; i < len(b); i++ {
			if i%25 != 0 && testing.Short() || i%5 != 0 && (b[i] == 0 || b[i] >= ' ') {
				continue // most of these are padding or text
			}
			old := b[i]
			b[i] ^= 0xff
			exercise(t, b, 20)
			b[i] = old
		}
	}
}

func FuzzOpen(f *testing.F) {
	images := make([][]byte, len(seeds))
	for i, name := range seeds {
		images[i] = imagetest.File(f, "testdata", name)
		images[i][erofs.SuperOffset+8] &^= erofs.CompatChecksum
		f.Add(uint8(i), []byte{0x80, 0x04, 0, 0x14, 0xff, 0xff, 0xff, 0})
		f.Add(uint8(i), []byte{0x0c, 0x04, 0, 9, 0x50, 0x04, 0, 0xff})
	}
	f.Fuzz(func(t *testing.T, i uint8, patch []byte) {
		exercise(t, imagetest.Patch(images[int(i)%len(images)], patch), 400)
	})
}

func TestSuperblockChecksumIsVerified(t *testing.T) {
	b := imagetest.File(t, "testdata", "plain.erofs")
	b[erofs.SuperOffset+48] ^= 1 // the UUID, which nothing else looks at
	m, err := mmap.Copy(bytes.NewReader(b), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, err := erofs.New(m, nil); err == nil || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("got %v, want an error about the checksum", err)
	}
}

func TestSuperAppendsWhatItParses(t *testing.T) {
	b := imagetest.File(t, "testdata", "plain.erofs")[erofs.SuperOffset:][:erofs.SuperSize]
	s, ok := erofs.ParseSuper(b)
	if got := s.Append(nil); !ok || !bytes.Equal(got, b) {
		t.Errorf("got %x, want %x", got, b)
	}
}

func lookup(t *testing.T, tree image.Tree, name string) (nid uint64) {
	t.Helper()
	nid = tree.Root()
	var err error
	for part := range strings.SplitSeq(name, "/") {
		if nid, err = tree.Lookup(nid, part); err != nil {
			t.Fatalf("lookup %s: %v", name, err)
		}
	}
	return nid
}

func TestSmallImages(t *testing.T) {
	numbers := new(strings.Builder)
	for i := range 2000 {
		numbers.WriteString(strconv.Itoa(i+1) + "\n")
	}
	for _, name := range seeds {
		t.Run(name, func(t *testing.T) {
			im := open(t, filepath.Join("testdata", name))
			e := imagetest.Entry{}
			if err := imagetest.ReadEntry(im, lookup(t, im, "numbers"), &e); err != nil {
				t.Fatal(err)
			}
			if e.Size != uint64(numbers.Len()) || e.MTime != 1700000000 || e.Xattrs["user.one"] != "1" {
				t.Errorf("numbers: got %+v", e)
			}
			b, err := imagetest.Content(im, &e)
			if err != nil || string(b) != numbers.String() {
				t.Errorf("numbers: got %d bytes, %v; want the numbers to 2000", len(b), err)
			}
			if a, b := lookup(t, im, "dir/small"), lookup(t, im, "dir/hard"); a != b {
				t.Errorf("hard link: got inodes %d and %d", a, b)
			}
			if target, err := im.Readlink(lookup(t, im, "dir/link")); string(target) != "../numbers" {
				t.Errorf("link: got %q, %v", target, err)
			}
			if v, err := im.Xattr(lookup(t, im, "dir/small"), "user.two"); len(v) != 100 {
				t.Errorf("xattr: got %q, %v", v, err)
			}
			for i := range 150 {
				lookup(t, im, "dir/sub/entry-number-"+strconv.Itoa(i+1))
			}
			for _, no := range [...]string{"", "a", "zzz", "entry-number-151", strings.Repeat("x", 300)} {
				if _, err := im.Lookup(lookup(t, im, "dir/sub"), no); err != fs.ErrNotExist {
					t.Errorf("lookup %q: got %v, want fs.ErrNotExist", no, err)
				}
			}
		})
	}
}

func TestReadDirGoesOnAtAnyCookie(t *testing.T) {
	im := open(t, "testdata/plain.erofs")
	dir := lookup(t, im, "dir/sub")
	var names []string
	var cookies []uint64
	err := im.ReadDir(dir, 0, func(d image.Dirent) bool {
		names, cookies = append(names, string(d.Name)), append(cookies, d.Next)
		return true
	})
	if err != nil || len(names) != 152 {
		t.Fatalf("got %d names, %v; want 152", len(names), err)
	}
	for i, c := range cookies {
		next := ""
		if err := im.ReadDir(dir, c, func(d image.Dirent) bool { next = string(d.Name); return false }); err != nil {
			t.Fatal(err)
		}
		if want := append(names, "")[i+1]; next != want {
			t.Errorf("behind %q: got %q, want %q", names[i], next, want)
		}
	}
}
