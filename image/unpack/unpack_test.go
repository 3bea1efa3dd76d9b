package unpack_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/detect"
	"github.com/sluicefs/sluice/image/direct"
	"github.com/sluicefs/sluice/image/unpack"
	"github.com/sluicefs/sluice/storage"
)

const testdata = "../rafs/testdata"

func open(t *testing.T, name string) (image.Tree, *direct.Dir) {
	t.Helper()
	tree, err := detect.Open(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	dir, err := direct.OpenDir(filepath.Dir(name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return tree, dir
}

func TestTarHasTheFiles(t *testing.T) {
	tree, dir := open(t, filepath.Join(testdata, "rafs-v6-2.2.boot"))
	var out bytes.Buffer
	r, err := unpack.Tar(t.Context(), tree, &out, unpack.Options{Backend: dir})
	if err != nil {
		t.Fatal(err)
	}
	if r.Entries != 2 || r.Bytes != 30331 {
		t.Errorf("got %+v, want 2 entries of 30331 bytes", r)
	}
	want := map[string]string{
		"lib.rs":     "1810eba864521293bb0d6b55a3c82318d4d89f294ed761c456d9088a17de0c69",
		"sync_io.rs": "e629ab260ff0dc02a24648a3e0dd8c13a5daf233d535c330e3201925f5eeff96",
	}
	for in := tar.NewReader(&out); ; {
		h, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, in); err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(sum.Sum(nil)); got != want[h.Name] || h.ModTime.Unix() != 1676819553 {
			t.Errorf("%s: got sha256 %s, time %v; want %s", h.Name, got, h.ModTime, want[h.Name])
		}
		delete(want, h.Name)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}

func TestFailedRunsLeaveNothing(t *testing.T) {
	tree, _ := open(t, filepath.Join(testdata, "rafs-v6-2.2.boot"))
	base := t.TempDir()
	if _, err := unpack.TarFile(t.Context(), tree, filepath.Join(base, "out.tar"), unpack.Options{}); err == nil {
		t.Error("tar without blobs: got no error")
	}
	if _, err := unpack.Dir(t.Context(), tree, filepath.Join(base, "out"), unpack.Options{NoOwner: true}); err == nil {
		t.Error("directory without blobs: got no error")
	} else if !strings.Contains(err.Error(), "lib.rs") {
		t.Errorf("got error %v, want the file's name in it", err)
	}
	list, err := os.ReadDir(base)
	if err != nil || len(list) != 0 {
		t.Errorf("left: got %v, %v; want nothing", list, err)
	}
}

func TestDirMustBeEmpty(t *testing.T) {
	tree, dir := open(t, filepath.Join(testdata, "rafs-v6-2.2.boot"))
	base := t.TempDir()
	if err := os.WriteFile(filepath.Join(base, "own"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := unpack.Dir(t.Context(), tree, base, unpack.Options{Backend: dir, NoOwner: true}); err == nil {
		t.Error("got no error")
	}
}

// fakeTree is a tree of a few entries that a reader of a real format would
// refuse, or that is made to lead outside.
type fakeTree struct {
	image.Tree
	nodes map[uint64]fakeNode
}

type fakeNode struct {
	mode     uint32
	target   string
	children []image.Dirent
}

func (f fakeTree) Root() uint64     { return 1 }
func (f fakeTree) Info() image.Info { return image.Info{Format: "fake"} }
func (f fakeTree) Close() error     { return nil }

func (f fakeTree) Stat(nid uint64, in *image.Inode) error {
	n, ok := f.nodes[nid]
	if !ok {
		return fs.ErrInvalid
	}
	*in = image.Inode{NID: nid, Mode: n.mode, Nlink: 1, Size: uint64(len(n.target)), UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	return nil
}

func (f fakeTree) ReadDir(dir, _ uint64, fn func(image.Dirent) bool) error {
	for _, d := range f.nodes[dir].children {
		if !fn(d) {
			break
		}
	}
	return nil
}

func (f fakeTree) Readlink(nid uint64) ([]byte, error) { return []byte(f.nodes[nid].target), nil }

func (f fakeTree) ListXattr(uint64, func(string, []byte) bool) error { return nil }

func (f fakeTree) Inline(p []byte, nid uint64, off int64) (int, bool, error) {
	return copy(p, f.nodes[nid].target[off:]), true, nil
}

func (f fakeTree) Blobs() []*storage.Blob { return nil }

func TestNothingLeadsOutside(t *testing.T) {
	for _, tt := range [...]struct {
		name  string
		nodes map[uint64]fakeNode
	}{
		{"link and directory of one name", map[uint64]fakeNode{
			1: {mode: 0o40755, children: []image.Dirent{{Name: []byte("a"), NID: 2}, {Name: []byte("a"), NID: 3}}},
			2: {mode: 0o120777, target: "OUTSIDE"},
			3: {mode: 0o40755, children: []image.Dirent{{Name: []byte("evil"), NID: 4}}},
			4: {mode: 0o100644, target: "data"},
		}},
		{"link and file of one name", map[uint64]fakeNode{
			1: {mode: 0o40755, children: []image.Dirent{{Name: []byte("a"), NID: 2}, {Name: []byte("a"), NID: 4}}},
			2: {mode: 0o120777, target: "OUTSIDE/evil"},
			4: {mode: 0o100644, target: "data"},
		}},
		{"name with a slash", map[uint64]fakeNode{
			1: {mode: 0o40755, children: []image.Dirent{{Name: []byte("../evil"), NID: 4}}},
			4: {mode: 0o100644, target: "data"},
		}},
		{"cycle", map[uint64]fakeNode{
			1: {mode: 0o40755, children: []image.Dirent{{Name: []byte("a"), NID: 1}}},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			base := t.TempDir()
			outside := filepath.Join(base, "outside")
			if err := os.Mkdir(outside, 0o755); err != nil {
				t.Fatal(err)
			}
			for nid, n := range tt.nodes {
				n.target = strings.Replace(n.target, "OUTSIDE", outside, 1)
				tt.nodes[nid] = n
			}
			target := filepath.Join(base, "target")
			if _, err := unpack.Dir(t.Context(), fakeTree{nodes: tt.nodes}, target, unpack.Options{NoOwner: true}); err == nil {
				t.Error("got no error")
			}
			for _, name := range [...]string{"evil", "outside/evil", "target"} {
				if _, err := os.Lstat(filepath.Join(base, name)); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s: got %v, want fs.ErrNotExist", name, err)
				}
			}
		})
	}
}
