package estargz_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/check"
	"github.com/sluicefs/sluice/image/direct"
	"github.com/sluicefs/sluice/image/estargz"
	"github.com/sluicefs/sluice/image/imagetest"
)

type entry = imagetest.TOCEntry

func file(e entry, data []byte) imagetest.LayerFile {
	return imagetest.LayerFile{TOCEntry: e, Data: data}
}

func noise(n int) []byte {
	r := rand.New(rand.NewPCG(uint64(n), 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func lowFiles(big []byte) []imagetest.LayerFile {
	return []imagetest.LayerFile{
		file(entry{"name": "usr/", "type": "dir", "mode": 0o40750, "uid": 5, "modtime": "2024-01-02T03:04:05Z"}, nil),
		file(entry{"name": "usr/big", "type": "reg", "mode": 0o100755, "gid": 7, "xattrs": map[string][]byte{"user.a": []byte("1")}}, big),
		file(entry{"name": ".prefetch.landmark", "type": "reg", "mode": 0o644}, []byte{0xf}),
		file(entry{"name": "./usr/small1", "type": "reg", "mode": 0o644, "share": true}, []byte("one")),
		file(entry{"name": "usr/small2", "type": "reg", "mode": 0o644, "share": true}, []byte("two!")),
		file(entry{"name": "usr/empty", "type": "reg", "mode": 0o644}, nil),
		file(entry{"name": "usr/hard", "type": "hardlink", "linkName": "usr/small1"}, nil),
		file(entry{"name": "usr/link", "type": "symlink", "linkName": "../etc/x", "mode": 0o777}, nil),
		file(entry{"name": "dev/null", "type": "char", "mode": 0o20666, "devMajor": 1, "devMinor": 3}, nil),
		file(entry{"name": "gone/file", "type": "reg", "mode": 0o644}, []byte("gone")),
		file(entry{"name": "hidden/a", "type": "reg", "mode": 0o644}, []byte("a")),
		file(entry{"name": "lib", "type": "symlink", "linkName": "usr", "mode": 0o777}, nil),
	}
}

func highFiles(holes []byte) []imagetest.LayerFile {
	return []imagetest.LayerFile{
		file(entry{"name": ".wh.gone", "type": "reg", "mode": 0o644}, nil),
		file(entry{"name": "hidden/.wh..wh..opq", "type": "reg", "mode": 0o644}, nil),
		file(entry{"name": "hidden/b", "type": "reg", "mode": 0o644}, []byte("b")),
		file(entry{"name": "usr/small2", "type": "reg", "mode": 0o600}, []byte("new")),
		file(entry{"name": "lib/inside", "type": "reg", "mode": 0o644}, []byte("not behind the link")),
		file(entry{"name": "holes", "type": "reg", "mode": 0o644}, holes),
		file(entry{"name": "usr", "type": "dir", "mode": 0o711, "uid": 9}, nil),
	}
}

func TestLayersAreMerged(t *testing.T) {
	big := noise(2*imagetest.ChunkSize + 500)
	holes := append(append(noise(imagetest.ChunkSize), make([]byte, imagetest.ChunkSize)...), noise(77)...)
	for name, layer := range map[string]func(testing.TB, memory, []imagetest.LayerFile) estargz.Layer{
		"estargz": stargz, "zstd:chunked": chunked, "zstd:chunked by stargz": chunkedStargz,
	} {
		t.Run(name, func(t *testing.T) {
			m := memory{}
			testMerge(t, m, []estargz.Layer{layer(t, m, lowFiles(big)), chunked(t, m, highFiles(holes))}, big, holes)
			testMerge(t, m, []estargz.Layer{stargz(t, m, lowFiles(big)), layer(t, m, highFiles(holes))}, big, holes)
		})
	}
}

func testMerge(t *testing.T, m memory, layers []estargz.Layer, big, holes []byte) {
	t.Helper()
	if !estargz.Lazy(layers) {
		t.Error("lazy: got false")
	}
	tree, err := estargz.Open(t.Context(), m, layers)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	var got []string
	r := direct.NewReader(m)
	contents := map[string]string{}
	err = imagetest.Walk(tree, 100, func(e *imagetest.Entry) error {
		got = append(got, fmt.Sprintf("%s %o %d:%d %d %d %s", e.Path, e.Mode, e.UID, e.GID, e.Nlink, e.Rdev, e.Link))
		if e.Mode&image.TypeMask == image.TypeRegular {
			var b bytes.Buffer
			if err := r.Copy(t.Context(), &b, tree, e.NID, int64(e.Size)); err != nil {
				return err
			}
			contents[e.Path] = b.String()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `/ 40755 0:0 6 0 
/dev 40755 0:0 2 0 
/dev/null 20666 0:0 1 259 
/hidden 40755 0:0 2 0 
/hidden/b 100644 0:0 1 0 
/holes 100644 0:0 1 0 
/lib 40755 0:0 2 0 
/lib/inside 100644 0:0 1 0 
/usr 40711 9:0 2 0 
/usr/big 100755 0:7 1 0 
/usr/empty 100644 0:0 1 0 
/usr/hard 100644 0:0 2 0 
/usr/link 120777 0:0 1 0 ../etc/x
/usr/small1 100644 0:0 2 0 
/usr/small2 100600 0:0 1 0 `
	if s := strings.Join(got, "\n"); s != want {
		t.Errorf("got\n%s\nwant\n%s", s, want)
	}
	for path, want := range map[string]string{
		"/usr/big": string(big), "/usr/hard": "one", "/usr/small2": "new", "/holes": string(holes), "/usr/empty": "", "/hidden/b": "b",
		"/lib/inside": "not behind the link",
	} {
		if contents[path] != want {
			t.Errorf("%s: got %d bytes, want %d", path, len(contents[path]), len(want))
		}
	}
	for _, b := range tree.Blobs() {
		for i := range b.ChunkCount + 1 {
			if c, ok := b.Neighbour(i); ok != (i < b.ChunkCount) || ok && c.Index != i {
				t.Errorf("blob %d: neighbour %d: got %d, %v", b.Index, i, c.Index, ok)
			}
		}
	}
	if p := tree.Prefetch(); len(p) != 1 {
		t.Errorf("prefetch: got %v, want one file", p)
	}
	nid, err := image.Find(tree, "/usr/big")
	if err != nil {
		t.Fatal(err)
	}
	if v, err := tree.Xattr(nid, "user.a"); string(v) != "1" {
		t.Errorf("xattr: got %q, %v", v, err)
	}
	report, err := check.Run(t.Context(), tree, check.Options{Backend: m, Workers: 2})
	if err != nil || !report.OK() || report.Verified < 6 || report.NoDigest != 0 {
		t.Errorf("check: got %+v, %v", report, err)
	}
	imagetest.Run(t, tree)
}

func TestWrongLayersAreRefused(t *testing.T) {
	one := func(e entry, data string) []imagetest.LayerFile { return []imagetest.LayerFile{file(e, []byte(data))} }
	for _, tt := range [...]struct {
		name   string
		files  []imagetest.LayerFile
		change func(m memory, l *estargz.Layer)
		want   string
	}{
		{"path leads out", one(entry{"name": "../evil", "type": "reg"}, "x"), nil, "leads out"},
		{"link leads out", one(entry{"name": "l", "type": "hardlink", "linkName": "../../etc/passwd"}, ""), nil, "hard link"},
		{"link to nothing", one(entry{"name": "l", "type": "hardlink", "linkName": "none"}, ""), nil, "not there"},
		{"unknown type", one(entry{"name": "l", "type": "door"}, ""), nil, `type "door"`},
		{"root is a file", one(entry{"name": "/", "type": "reg"}, ""), nil, "root"},
		{"no digest of the table", one(entry{"name": "a", "type": "reg"}, "x"), func(_ memory, l *estargz.Layer) { l.Annotations = nil }, "no digest"},
		{"other digest of the table", one(entry{"name": "a", "type": "reg"}, "x"), func(_ memory, l *estargz.Layer) {
			l.Annotations = map[string]string{"containerd.io/snapshot/stargz/toc.digest": imagetest.Digest(nil)}
		}, "digest"},
		{"footer", one(entry{"name": "a", "type": "reg"}, "x"), func(m memory, l *estargz.Layer) {
			b := bytes.Clone(m[l.ID])
			b[len(b)-30] = 'f'
			m[l.ID] = b
		}, "table of contents"},
		{"short", one(entry{"name": "a", "type": "reg"}, "x"), func(_ memory, l *estargz.Layer) { l.Size = 20 }, "too short"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := memory{}
			l := stargz(t, m, tt.files)
			if tt.change != nil {
				tt.change(m, &l)
			}
			tree, err := estargz.Open(t.Context(), m, []estargz.Layer{l})
			var format *image.FormatError
			if !errors.As(err, &format) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, %v; want a FormatError with %q", tree, err, tt.want)
			}
		})
	}
}

func TestChangedDataIsNotGivenOut(t *testing.T) {
	m := memory{}
	l := stargz(t, m, []imagetest.LayerFile{file(entry{"name": "a", "type": "reg", "mode": 0o644}, noise(5000))})
	tree, err := estargz.Open(t.Context(), m, []estargz.Layer{l})
	if err != nil {
		t.Fatal(err)
	}
	b := bytes.Clone(m[l.ID])
	b[2000] ^= 1
	m[l.ID] = b
	nid, err := tree.Lookup(tree.Root(), "a")
	if err != nil {
		t.Fatal(err)
	}
	err = direct.NewReader(m).Pieces(t.Context(), tree, nid, 5000, func([]byte, int64) error {
		t.Error("gave out bytes")
		return nil
	})
	if err == nil {
		t.Error("got no error")
	}
}

func TestLazyNeedsEveryLayer(t *testing.T) {
	m := memory{}
	l := stargz(t, m, nil)
	if estargz.Lazy(nil) || estargz.Lazy([]estargz.Layer{l, {ID: l.ID}}) || !estargz.Lazy([]estargz.Layer{l}) {
		t.Error("lazy: wrong for none, one without, or one with a table")
	}
}

func TestLookUpsDoNotAllocate(t *testing.T) {
	m := memory{}
	tree, err := estargz.Open(t.Context(), m, []estargz.Layer{stargz(t, m, lowFiles(noise(100)))})
	if err != nil {
		t.Fatal(err)
	}
	var in image.Inode
	n := testing.AllocsPerRun(100, func() {
		nid, err := tree.Lookup(tree.Root(), "usr")
		if err != nil || tree.Stat(nid, &in) != nil {
			t.Fatal(err)
		}
		if _, err := tree.Lookup(nid, "absent"); err != fs.ErrNotExist {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("allocations: got %v, want 0", n)
	}
}

func FuzzTOC(f *testing.F) {
	for _, files := range [...][]imagetest.LayerFile{lowFiles(noise(100)), highFiles(noise(50))} {
		var toc []entry
		for _, x := range files {
			toc = append(toc, x.TOCEntry)
		}
		b, err := json.Marshal(map[string]any{"version": 1, "entries": toc})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, where := range [...]string{`"offset":1`, `"offset":1,"endOffset":9`, `"offset":1,"innerOffset":7`} {
		f.Add([]byte(`{"version":1,"entries":[{"name":"a","type":"reg","size":5,` + where + `,"digest":"` + imagetest.Digest(nil) + `"}]}`))
	}
	f.Add([]byte(`{"version":1,"entries":[{"name":"a","type":"reg","size":5,"offset":9,"endOffset":40,"chunkSize":3,"chunkDigest":"` + imagetest.Digest(nil) +
		`"},{"name":"a","type":"chunk","offset":20,"chunkOffset":3,"chunkDigest":"` + imagetest.Digest(nil) + `"}]}`))
	f.Fuzz(func(t *testing.T, toc []byte) {
		m := memory{}
		stored := imagetest.Zstd(t, toc)
		blob := append(make([]byte, 4096), stored...)
		l := store(m, blob, map[string]string{
			"io.containers.zstd-chunked.manifest-position": fmt.Sprintf("4096:%d:%d:1", len(stored), len(toc)),
			"io.containers.zstd-chunked.manifest-checksum": imagetest.Digest(stored),
		})
		tree, err := estargz.Open(t.Context(), m, []estargz.Layer{l, l})
		if err != nil {
			return
		}
		if err := imagetest.Exercise(tree, 200); err != nil {
			t.Error(err)
		}
	})
}
