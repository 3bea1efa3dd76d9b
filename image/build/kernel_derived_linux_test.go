package build

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/imagetest"
	"github.com/sluicefs/sluice/internal/testenv"
	"github.com/sluicefs/sluice/storage"
)

// Three layers, and the tree that they make, put together by hand: what the
// middle layer hides the top one brings back in part.
var (
	threeLayers = [][]string{
		{
			"d .", "d a", "f a/kept kept", "f a/gone gone", "f a/changed old", "d opaque", "f opaque/hidden hidden", "d opaque/below", "f opaque/below/x x",
			"d whole", "f whole/x x", "f back first", "f big " + strings.Repeat("0123456789abcdef", 20_000), "h a/link big", "l a/symlink ../big",
		},
		{
			"d .", "d a", "f a/.wh.gone", "f a/changed new", "d opaque", "f opaque/.wh..wh..opq", "f opaque/new new",
			"f .wh.whole", "f .wh.back", "f middle " + strings.Repeat("middle", 30_000), "f .wh.big",
		},
		{"d .", "f back again", "d a", "d a/changed", "f a/changed/inside is a directory now", "d opaque", "f opaque/.wh.new", "f whole is a file now"},
	}
	threeLayersMake = []string{
		"d .", "d a", "f a/kept kept", "d a/changed", "f a/changed/inside is a directory now", "l a/symlink ../big",
		"f a/link " + strings.Repeat("0123456789abcdef", 20_000), "d opaque", "f whole is a file now", "f back again",
		"f middle " + strings.Repeat("middle", 30_000),
	}
)

// handMade lists a directory with the files that lines in the form of
// [archive] name, made by system calls.
func handMade(t *testing.T, lines ...string) map[string]string {
	t.Helper()
	root := t.TempDir()
	var err error
	for _, line := range lines {
		kind, rest, _ := strings.Cut(line, " ")
		name, arg, _ := strings.Cut(rest, " ")
		path := filepath.Join(root, name)
		switch {
		case name == ".":
			err = errors.Join(err, os.Chmod(path, 0o755))
		case kind == "d":
			err = errors.Join(err, os.Mkdir(path, 0o755), os.Chmod(path, 0o755))
		case kind == "l":
			err = errors.Join(err, os.Symlink(arg, path))
		default:
			err = errors.Join(err, os.WriteFile(path, []byte(arg), 0o644), os.Chmod(path, 0o644))
		}
	}
	at := unix.NsecToTimespec(time.Unix(1e9, 0).UnixNano())
	for _, line := range lines { // when no directory changes any more
		name := strings.Fields(line)[1]
		err = errors.Join(err, unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(root, name), []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW))
	}
	if err != nil {
		t.Fatal(err)
	}
	listed := osLines(t, root)
	for path, line := range listed {
		// archive gives symbolic links a mode that a real one has not.
		if f := strings.Split(line, "\t"); f[1] == "l" {
			f[2] = "644"
			listed[path] = strings.Join(f, "\t")
		}
	}
	return listed
}

// withoutOwners is a listing as an image without owners has it.
func withoutOwners(lines map[string]string) map[string]string {
	out := map[string]string{}
	for path, line := range lines {
		f := strings.Split(line, "\t")
		f[3], f[4] = "0", "0"
		if path == "/" {
			f[7] = "0"
		}
		out[path] = strings.Join(f, "\t")
	}
	return out
}

// derivation makes images of images in one directory of blobs.
type derivation struct {
	t    *testing.T
	dir  string
	last string // path of the last image
}

func (r *derivation) out(name string) Output {
	return Output{Bootstrap: filepath.Join(r.dir, name), BlobDir: r.dir, volatile: true}
}

// open returns the image name after the build that ended with err.
func (r *derivation) open(name string, _ *Result, err error) image.Tree {
	r.t.Helper()
	if err != nil {
		r.t.Fatalf("%s: %v", name, err)
	}
	r.last = filepath.Join(r.dir, name)
	return openTree(r.t, r.last)
}

func (r *derivation) create(name string, src Source, opt Options) image.Tree {
	r.t.Helper()
	res, err := Create(r.t.Context(), src, r.out(name), opt)
	return r.open(name, res, err)
}

func (r *derivation) convert(name string, from image.Tree, opt Options) image.Tree {
	r.t.Helper()
	return r.create(name, Image(from, backend(r.t, r.dir)), opt)
}

func (r *derivation) compact(name string, from image.Tree, ratio float64) image.Tree {
	r.t.Helper()
	res, err := Compact(r.t.Context(), from, backend(r.t, r.dir), CompactOptions{MinUsedRatio: ratio}, r.out(name), Options{})
	return r.open(name, res, err)
}

func (r *derivation) optimize(name string, from image.Tree, hot ...Hot) image.Tree {
	r.t.Helper()
	res, err := Optimize(r.t.Context(), from, backend(r.t, r.dir), hot, r.out(name), Options{})
	return r.open(name, res, err)
}

func (r *derivation) export(name string, from image.Tree) image.Tree {
	r.t.Helper()
	_, err := Export(r.t.Context(), from, backend(r.t, r.dir), filepath.Join(r.dir, name), ExportOptions{volatile: true})
	return r.open(name, nil, err)
}

// merge makes an image of each of the three layers and merges them.
func (r *derivation) merge(name string, opt Options) image.Tree {
	r.t.Helper()
	opt.Whiteouts = WhiteoutsNone
	var layers []MergeLayer
	for i, lines := range threeLayers {
		layers = append(layers, MergeLayer{Tree: r.create(name+string(rune('1'+i)), Tars(bytesLayer("layer", archive(r.t, lines...))), opt)})
	}
	res, err := Merge(r.t.Context(), layers, r.out(name), Options{})
	return r.open(name, res, err)
}

// The kernel shows of every image that was made of images what the reader
// reads and what the tree is by the rules of its making.
func TestIntegrationKernelShowsDerived(t *testing.T) {
	testenv.Root(t)
	testenv.Filesystem(t, "erofs")
	src := makeSource(t)
	for _, name := range []string{"sparse", "random"} { // the rows are many: a few chunks do
		if err := os.Truncate(filepath.Join(src, name), 300_000); err != nil {
			t.Fatal(err)
		}
	}
	source, layers := osLines(t, src), handMade(t, threeLayersMake...)
	zstd := Options{Compressor: storage.Zstd, ChunkSize: 64 << 10}
	five := Options{Version: 5, Compressor: storage.LZ4Block, ChunkSize: 32 << 10}
	cdc := Options{Version: 5, Compressor: storage.Zstd, ChunkSize: 64 << 10, Chunking: ContentChunks}
	var tars []Layer
	for _, lines := range threeLayers {
		tars = append(tars, bytesLayer("layer", archive(t, lines...)))
	}
	// onParent puts the source on an image all of whose files it replaces.
	onParent := func(r *derivation, opt Options) image.Tree {
		opt.Parent = r.create("lower", Tars(bytesLayer("lower", archive(r.t, "d .", "f text to be replaced", "d twice", "f twice/b to be replaced"))), opt)
		return r.create("upper", Dir(src), opt)
	}
	for _, tt := range []struct {
		name string // without a comma: it is in paths of mount options
		want map[string]string
		make func(r *derivation) image.Tree
	}{
		{"layers at once", layers, func(r *derivation) image.Tree { return r.create("image", Tars(tars...), zstd) }},
		{"merge", layers, func(r *derivation) image.Tree { return r.merge("merged", zstd) }},
		{"merge of v5 to v6", layers, func(r *derivation) image.Tree { return r.convert("six", r.merge("merged", five), zstd) }},
		{"merge then compact", layers, func(r *derivation) image.Tree { return r.compact("compact", r.merge("merged", zstd), 1) }},
		{"merge then optimize", layers, func(r *derivation) image.Tree {
			return r.optimize("hot", r.merge("merged", zstd), Hot{Path: "/a/link", Offset: 70_000, Length: 1}, Hot{Path: "/middle"})
		}},
		{"merge then export", layers, func(r *derivation) image.Tree { return r.export("flat", r.merge("merged", zstd)) }},
		{"merge then compact then optimize then export", layers, func(r *derivation) image.Tree {
			return r.export("flat", r.optimize("hot", r.compact("compact", r.merge("merged", zstd), 1), Hot{Path: "/middle"}))
		}},
		{"v5 to v6", source, func(r *derivation) image.Tree { return r.convert("six", r.create("five", Dir(src), five), zstd) }},
		{"v6 to v5 to v6", source, func(r *derivation) image.Tree {
			return r.convert("again", r.convert("five", r.create("six", Dir(src), zstd), five), Options{})
		}},
		{"content-defined chunks to v6", source, func(r *derivation) image.Tree { return r.convert("six", r.create("cdc", Dir(src), cdc), zstd) }},
		{"EROFS to v6", source, func(r *derivation) image.Tree {
			return r.convert("six", r.export("flat", r.create("image", Dir(src), zstd)), Options{Compressor: storage.LZ4Block, ChunkSize: 8192})
		}},
		{"export of v5", source, func(r *derivation) image.Tree { return r.export("flat", r.create("five", Dir(src), five)) }},
		{"directory on parent", source, func(r *derivation) image.Tree { return onParent(r, zstd) }},
		{"directory on parent then compact", source, func(r *derivation) image.Tree { return r.compact("compact", onParent(r, zstd), 1) }},
		{"dictionary", source, func(r *derivation) image.Tree {
			opt := zstd
			opt.Dicts = []image.Tree{r.create("dict", Tars(bytesLayer("dict", archive(r.t, "f a "+string(text(3, 3<<20)), "f b unused"))), zstd)}
			return r.create("image", Dir(src), opt)
		}},
		{"repeatable", withoutOwners(source), func(r *derivation) image.Tree {
			opt := zstd
			opt.Repeatable = true
			return r.create("image", Dir(src), opt)
		}},
		{"repeatable to v5 to v6", withoutOwners(source), func(r *derivation) image.Tree {
			opt := five
			opt.Repeatable = true
			five := r.create("five", Dir(src), opt)
			opt = zstd
			opt.Repeatable = true
			return r.convert("six", five, opt)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &derivation{t: t, dir: t.TempDir()}
			tree := tt.make(r)
			sameLines(t, "reader", treeLines(t, tree, blobFiles(r.dir)), tt.want)
			point := imagetest.MountEROFS(t, r.last, flatBlobs(t, tree, blobFiles(r.dir))...)
			sameLines(t, "kernel", osLines(t, point), tt.want)
		})
	}
}
