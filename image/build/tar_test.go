package build

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/imagetest"
)

// archive makes a tar of lines such as "d dir", "f file content", "l link
// target", "h name target", "c device" (0/0), "o dir" (opaque for overlayfs).
func archive(t testing.TB, lines ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, line := range lines {
		kind, rest, _ := strings.Cut(line, " ")
		name, arg, _ := strings.Cut(rest, " ")
		h := &tar.Header{Name: name, Mode: 0o644, ModTime: time.Unix(1e9, 0), Format: tar.FormatPAX}
		switch kind {
		case "d":
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		case "o":
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
			h.PAXRecords = map[string]string{paxXattr + "trusted.overlay.opaque": "y"}
		case "l":
			h.Typeflag, h.Linkname = tar.TypeSymlink, arg
		case "h":
			h.Typeflag, h.Linkname = tar.TypeLink, arg
		case "c":
			h.Typeflag = tar.TypeChar
		default:
			h.Typeflag, h.Size = tar.TypeReg, int64(len(arg))
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			io.WriteString(w, arg)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func bytesLayer(name string, b []byte) Layer {
	return Layer{name, func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }}
}

// names lists an image in short: path, and for files the size, for links the
// target.
func names(t testing.TB, tree image.Tree) string {
	t.Helper()
	var out []string
	err := imagetest.Walk(tree, 1000, func(e *imagetest.Entry) error {
		switch e.Mode >> 12 {
		case 4:
			out = append(out, strings.TrimSuffix(e.Path, "/")+"/")
		case 10:
			out = append(out, e.Path+">"+e.Link)
		default:
			out = append(out, e.Path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestLayers(t *testing.T) {
	base := []string{"d a", "f a/one 1", "f a/two 2", "d b", "f b/x x", "l s a", "f keep k"}
	for _, c := range []struct {
		name      string
		whiteouts Whiteouts
		upper     []string
		want      string
	}{
		{"replace", WhiteoutsOCI, []string{"f a/one other"}, "/ /a/ /a/one /a/two /b/ /b/x /keep /s>a"},
		{"remove file", WhiteoutsOCI, []string{"f a/.wh.one"}, "/ /a/ /a/two /b/ /b/x /keep /s>a"},
		{"remove directory", WhiteoutsOCI, []string{"f .wh.a"}, "/ /b/ /b/x /keep /s>a"},
		{"remove and make, in either order", WhiteoutsOCI, []string{"d a", "f a/new n", "f .wh.a", "f .wh.b", "d b"}, "/ /a/ /a/new /b/ /keep /s>a"},
		{"opaque first", WhiteoutsOCI, []string{"d a", "f a/.wh..wh..opq", "f a/new n"}, "/ /a/ /a/new /b/ /b/x /keep /s>a"},
		{"opaque last", WhiteoutsOCI, []string{"f a/new n", "f a/.wh..wh..opq"}, "/ /a/ /a/new /b/ /b/x /keep /s>a"},
		{"aufs metadata", WhiteoutsOCI, []string{"f .wh..wh.plnk x"}, "/ /a/ /a/one /a/two /b/ /b/x /keep /s>a"},
		{"through a symlink", WhiteoutsOCI, []string{"f s/new n"}, "/ /a/ /a/new /a/one /a/two /b/ /b/x /keep /s>a"},
		{"file in place of directory", WhiteoutsOCI, []string{"f a x"}, "/ /a /b/ /b/x /keep /s>a"},
		{"directory in place of symlink", WhiteoutsOCI, []string{"d s", "f s/y y"}, "/ /a/ /a/one /a/two /b/ /b/x /keep /s/ /s/y"},
		{"overlayfs", WhiteoutsOverlayfs, []string{"c keep", "o a", "f a/new n"}, "/ /a/ /a/new /b/ /b/x /s>a"},
		{"none", WhiteoutsNone, []string{"f .wh.a", "c keep"}, "/ /.wh.a /a/ /a/one /a/two /b/ /b/x /keep /s>a"},
		{"hard link to lower layer", WhiteoutsOCI, []string{"h again a/one"}, "/ /a/ /a/one /a/two /again /b/ /b/x /keep /s>a"},
		{"dots and slashes", WhiteoutsOCI, []string{"f ./a//./three 3", "f /four 4"}, "/ /a/ /a/one /a/three /a/two /b/ /b/x /four /keep /s>a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			src := Tars(bytesLayer("base", archive(t, base...)), bytesLayer("upper", archive(t, c.upper...)))
			for _, version := range []int{5, 6} {
				tree, _, _ := create(t, src, Options{Whiteouts: c.whiteouts, Version: version})
				if got := names(t, tree); got != c.want {
					t.Errorf("v%d\ngot  %s\nwant %s", version, got, c.want)
				}
			}
		})
	}
}

func TestTarRefused(t *testing.T) {
	for name, lines := range map[string][]string{
		"../x":      {"f ../x y"},
		"a/../../x": {"f a/../../x y"},
		"again":     {"h again nowhere"},
		"loop/x":    {"l loop loop", "f loop/x y"},
	} {
		dir := t.TempDir()
		_, err := Create(t.Context(), Tars(bytesLayer("layer", archive(t, lines...))), Output{Bootstrap: dir + "/boot", BlobDir: dir}, Options{})
		if e := (*Error)(nil); !errors.As(err, &e) || !strings.HasSuffix(e.Path, name) {
			t.Errorf("%s: got %v, want an error that names it", name, err)
		}
		if left := list(t, dir); len(left) != 0 {
			t.Errorf("%s: left behind: %v", name, left)
		}
	}
}

// Compression of the tar does not change the image, and a cut one is refused.
func TestTarCompressed(t *testing.T) {
	plain := archive(t, "d a", "f a/one 1", "f two "+strings.Repeat("two", 100_000))
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	z.Write(plain)
	z.Close()
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	forms := map[string][]byte{"plain": plain, "gzip": zipped.Bytes(), "zstd": e.EncodeAll(plain, nil)}
	var want []string
	for _, name := range slices.Sorted(maps.Keys(forms)) {
		_, res, dir := create(t, Tars(bytesLayer(name, forms[name])), Options{})
		got := append(res.Blobs, hashFile(t, dir+"/image.boot"))
		if want == nil {
			want = got
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
		dir = t.TempDir()
		_, err := Create(t.Context(), Tars(bytesLayer(name, forms[name][:len(forms[name])/2])), Output{Bootstrap: dir + "/b", BlobDir: dir}, Options{})
		if err == nil || len(list(t, dir)) != 0 {
			t.Errorf("%s cut in half: got %v and %v, want an error and nothing", name, err, list(t, dir))
		}
	}
}

func TestTarEmpty(t *testing.T) {
	tree, res, _ := create(t, Tars(bytesLayer("empty", nil)), Options{})
	if got := names(t, tree); got != "/" || len(res.Blobs) != 0 {
		t.Errorf("got %s with blobs %v, want the root alone", got, res.Blobs)
	}
}

// The files that eStargz layers have for themselves are left out on demand.
func TestStargzFiles(t *testing.T) {
	layer := bytesLayer("layer", archive(t, "f .prefetch.landmark x", "f a 1", "d b", "f b/stargz.index.json kept", "f stargz.index.json {}"))
	for stargz, want := range map[bool]string{false: "stargz.index.json", true: ""} {
		tree, _, _ := create(t, Tars(layer), Options{Stargz: stargz})
		_, err := tree.Lookup(tree.Root(), "stargz.index.json")
		if got := err == nil; got != (want != "") {
			t.Errorf("Stargz %v: the table of contents is there: %v", stargz, got)
		}
		if _, err := image.Find(tree, "b/stargz.index.json"); err != nil {
			t.Errorf("Stargz %v: a file of that name elsewhere: %v", stargz, err)
		}
	}
}
