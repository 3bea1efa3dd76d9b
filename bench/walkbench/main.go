// Command walkbench measures how fast the metadata of an image is read in
// this process, side by side with github.com/erofs/go-erofs on the same image
// in the same run:
//
//	go run ./walkbench -source /usr -runs 9
//
// The image is made by mkfs.erofs, chunk-based, from the source. A walk reads
// every directory, the attributes of every entry and, where it says so, where
// the data of every regular file is. With -million N an image of N files is
// made as well, in memory, and opened.
package main

import (
	"archive/tar"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	goerofs "github.com/erofs/go-erofs"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/build"
	"github.com/sluicefs/sluice/image/detect"
	"github.com/sluicefs/sluice/storage"
)

func main() {
	source := flag.String("source", "", "directory to make the image of (needed)")
	runs := flag.Int("runs", 9, "walks by each reader; the median counts")
	million := flag.Int("million", 0, "files of an image to open, 0 for none")
	flag.Parse()
	if *source == "" || *runs < 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*source, *runs, *million); err != nil {
		fmt.Fprintln(os.Stderr, "walkbench:", err)
		os.Exit(1)
	}
}

// row is one way to walk one image.
type row struct {
	name   string
	walk   func() (entries int, err error)
	times  []time.Duration
	allocs uint64 // of the last walk
	n      int    // entries
}

func run(source string, runs, million int) error {
	work, err := os.MkdirTemp("", "walkbench-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	file := filepath.Join(work, "image.erofs")
	if out, err := exec.Command("mkfs.erofs", "--chunksize=1048576", "--quiet", file, source).CombinedOutput(); err != nil {
		return fmt.Errorf("mkfs.erofs: %w: %s", err, out)
	}
	res, err := build.Create(context.Background(), build.Dir(source), build.Output{Bootstrap: filepath.Join(work, "image.boot"), BlobDir: work}, build.Options{})
	if err != nil {
		return err
	}
	plain, err := newWalker(file)
	if err != nil {
		return err
	}
	defer plain.tree.Close()
	rafs, err := newWalker(res.Bootstrap)
	if err != nil {
		return err
	}
	defer rafs.tree.Close()
	peer, err := openPeer(file)
	if err != nil {
		return err
	}
	rows := []*row{
		{name: "sluice, EROFS: names and attributes", walk: func() (int, error) { return plain.run(false) }},
		{name: "go-erofs, EROFS: names and attributes", walk: func() (int, error) { return walkPeer(peer, false) }},
		{name: "sluice, RAFS v6: names and attributes", walk: func() (int, error) { return rafs.run(false) }},
		{name: "sluice, EROFS: and places of data", walk: func() (int, error) { return plain.run(true) }},
		{name: "go-erofs, EROFS: and places of data", walk: func() (int, error) { return walkPeer(peer, true) }},
		{name: "sluice, RAFS v6: and places of data", walk: func() (int, error) { return rafs.run(true) }},
	}
	for range runs {
		for _, r := range rows {
			if err := r.run(); err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	fmt.Printf("%d CPUs, Linux %s; median of %d walks\n\n", runtime.NumCPU(), strings.TrimSpace(string(kernel)), runs)
	if err := print(rows); err != nil {
		return err
	}
	if million > 0 {
		return openMillion(filepath.Join(work, "million"), million, runs)
	}
	return nil
}

func (r *row) run() error {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	n, err := r.walk()
	r.times = append(r.times, time.Since(began))
	runtime.ReadMemStats(&after)
	r.n, r.allocs = n, after.Mallocs-before.Mallocs
	return err
}

func median(d []time.Duration) time.Duration {
	d = slices.Clone(d)
	slices.Sort(d)
	return d[len(d)/2]
}

func print(rows []*row) error {
	t := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "walk\tentries\tns an entry\tallocations an entry\tthe peer takes")
	for i, r := range rows {
		ratio := ""
		if i%3 != 1 {
			ratio = fmt.Sprintf("%.1fx", float64(median(rows[i/3*3+1].times))/float64(median(r.times)))
		}
		fmt.Fprintf(t, "%s\t%d\t%.0f\t%.4f\t%s\n", r.name, r.n, float64(median(r.times).Nanoseconds())/float64(r.n), float64(r.allocs)/float64(r.n), ratio)
	}
	return t.Flush()
}

// walker walks a tree of ours with memory that it has from the first walk.
type walker struct {
	tree  image.Tree
	stack []uint64
	ext   []storage.Extent
	buf   [1]byte
	in    image.Inode
	data  bool
	n     int
	err   error
	each  func(image.Dirent) bool
}

func newWalker(file string) (*walker, error) {
	tree, err := detect.Open(file, nil)
	if err != nil {
		return nil, err
	}
	w := &walker{tree: tree}
	w.each = w.entry
	return w, nil
}

func (w *walker) run(data bool) (int, error) {
	w.n, w.data, w.err = 1, data, nil
	w.stack = append(w.stack[:0], w.tree.Root())
	for len(w.stack) > 0 {
		dir := w.stack[len(w.stack)-1]
		w.stack = w.stack[:len(w.stack)-1]
		if err := errors.Join(w.tree.ReadDir(dir, 0, w.each), w.err); err != nil {
			return w.n, err
		}
	}
	return w.n, nil
}

func (w *walker) entry(d image.Dirent) bool {
	if string(d.Name) == "." || string(d.Name) == ".." {
		return true
	}
	w.n++
	if w.err = w.tree.Stat(d.NID, &w.in); w.err != nil {
		return false
	}
	switch w.in.Mode & image.TypeMask {
	case image.TypeDirectory:
		w.stack = append(w.stack, d.NID)
	case image.TypeRegular:
		if w.data && w.in.Size > 0 {
			w.ext, w.err = w.tree.Extents(w.ext[:0], d.NID, 0, int64(w.in.Size))
			if w.err == nil && len(w.ext) == 0 {
				_, _, w.err = w.tree.Inline(w.buf[:], d.NID, 0)
			}
		}
	}
	return w.err == nil
}

func openPeer(file string) (fs.FS, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	return goerofs.Open(f)
}

// walkPeer walks in the peer's own form: Info gives the attributes, and
// DataRange of that the places of the data.
func walkPeer(fsys fs.FS, data bool) (n int, err error) {
	ranges := 0
	err = fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		n++
		info, err := d.Info()
		if err != nil {
			return err
		}
		if data && info.Mode().IsRegular() && info.Size() > 0 {
			r, ok := info.(interface{ DataRange() []goerofs.DataRange })
			if !ok {
				return fmt.Errorf("%s: no data ranges", path)
			}
			ranges += len(r.DataRange()) // none for data behind the inode
		}
		return nil
	})
	return n, err
}

// openMillion makes an image of n files and opens it, runs times.
func openMillion(dir string, n, runs int) error {
	layer := build.Layer{Name: "made up", Open: func(context.Context) (io.ReadCloser, error) {
		r, w := io.Pipe()
		go func() { w.CloseWithError(files(w, n)) }()
		return r, nil
	}}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	out := build.Output{Bootstrap: filepath.Join(dir, "image.boot"), BlobDir: dir}
	res, err := build.Create(context.Background(), build.Tars(layer), out, build.Options{})
	if err != nil {
		return err
	}
	r := &row{name: "open"}
	heap := uint64(0)
	r.walk = func() (int, error) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		t, err := detect.Open(res.Bootstrap, nil)
		if err != nil {
			return 0, err
		}
		runtime.ReadMemStats(&after)
		heap = after.TotalAlloc - before.TotalAlloc
		return 1, t.Close()
	}
	for range runs {
		if err := r.run(); err != nil {
			return err
		}
	}
	fmt.Printf("\nopen and close an image of %d files, %d bytes: %v, %d bytes of heap\n", n, res.BootstrapSize, median(r.times), heap)
	return nil
}

// files is a stream of a tar with n empty files, 1000 to a directory.
func files(w io.Writer, n int) error {
	t := tar.NewWriter(w)
	for i := range n {
		if i%1000 == 0 {
			if err := t.WriteHeader(&tar.Header{Name: fmt.Sprintf("d%04d/", i/1000), Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
				return err
			}
		}
		h := &tar.Header{Name: fmt.Sprintf("d%04d/file%07d", i/1000, i), Typeflag: tar.TypeReg, Mode: 0o644}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
	}
	return t.Close()
}
