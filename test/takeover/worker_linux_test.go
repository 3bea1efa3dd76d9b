package takeover

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// A worker is a process of its own that reads or writes until its standard
// input ends. It must not be the process that starts daemons: between fork and
// exec a child has the files of its parent, and closing one waits for the
// daemon that it is to become.
type worker struct {
	Kind  string   // "read" or "write"
	Dirs  []string // to read: what is there is contents
	Dir   string   // to write
	Seed  uint64
	Start int64 // ns since 1970: zero of the times that are printed
}

// A worker prints a line for each operation that took longer than this, with
// when it began and how long it took, and at the end how many there were.
const slow = 5 * time.Millisecond

// contents are the files that readers find.
func contents(seed uint64) map[string][]byte {
	files := map[string][]byte{}
	rng := rand.NewChaCha8([32]byte{byte(seed)})
	for i, size := range []int{0, 10, 4096, 70_000, 300_000, 1_500_000} {
		b := make([]byte, size)
		_, _ = rng.Read(b)
		files[fmt.Sprintf("dir%d/sub/file", i%3)+fmt.Sprint(i)] = b
	}
	return files
}

func (w *worker) run() error {
	var end atomic.Bool
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		end.Store(true)
	}()
	var step func() error
	var finish func() error
	if w.Kind == "read" {
		step = w.reader()
	} else {
		var err error
		if step, finish, err = w.writer(); err != nil {
			return err
		}
	}
	n := 0
	for !end.Load() {
		if err := step(); err != nil {
			return err
		}
		if n++; n%16 == 0 {
			fmt.Println("alive")
		}
	}
	fmt.Println("steps", n)
	if finish != nil {
		return finish()
	}
	return nil
}

// timed calls f and prints how long it took if that was long.
func (w *worker) timed(what string, f func() error) error {
	begin := time.Now()
	err := f()
	if took := time.Since(begin); took > slow {
		fmt.Println("slow", begin.UnixNano()-w.Start, int64(took), what)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// reader reads a file after the other, and lists a directory, and checks both.
// One file of each directory stays open all the time.
func (w *worker) reader() func() error {
	files := contents(1)
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	var open []*os.File
	rng := rand.New(rand.NewPCG(w.Seed, 2))
	buf := make([]byte, 1<<20)
	return func() error {
		k := rng.IntN(len(w.Dirs))
		dir := w.Dirs[k]
		if open == nil {
			for _, d := range w.Dirs {
				f, err := os.Open(filepath.Join(d, names[len(names)-1]))
				if err != nil {
					return err
				}
				open = append(open, f)
			}
		}
		name := names[rng.IntN(len(names))]
		if err := w.timed("read "+name, func() error {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err == nil && !bytes.Equal(b, files[name]) {
				err = fmt.Errorf("in %s: wrong content, %d bytes", dir, len(b))
			}
			return err
		}); err != nil {
			return err
		}
		want := files[names[len(names)-1]]
		off := rng.IntN(len(want))
		size := min(rng.IntN(1<<17), len(want)-off)
		if err := w.timed("pread", func() error {
			n, err := open[k].ReadAt(buf[:size], int64(off))
			if err == nil && !bytes.Equal(buf[:n], want[off:off+size]) {
				err = fmt.Errorf("in %s at %d: wrong content", dir, off)
			}
			return err
		}); err != nil {
			return err
		}
		return w.timed("list", func() error {
			list, err := os.ReadDir(filepath.Join(dir, "dir1/sub"))
			if err == nil && (len(list) != 2 || list[0].Name() != "file1") {
				err = fmt.Errorf("in %s: %v", dir, list)
			}
			return err
		})
	}
}

// writer writes to a file that stays open, to one that has lost its name, and
// makes, renames, links and removes others. All is read back and compared, at
// the end too.
func (w *worker) writer() (step, finish func() error, err error) {
	if err := os.MkdirAll(w.Dir, 0o755); err != nil {
		return nil, nil, err
	}
	const size = 1 << 20
	rng := rand.New(rand.NewPCG(w.Seed, 3))
	type kept struct {
		f    *os.File
		want []byte
	}
	var all []kept
	for _, name := range []string{"kept", "unnamed"} {
		f, err := os.Create(filepath.Join(w.Dir, name))
		if err != nil {
			return nil, nil, err
		}
		if err := f.Truncate(size); err != nil {
			return nil, nil, err
		}
		all = append(all, kept{f, make([]byte, size)})
	}
	if err := os.Remove(filepath.Join(w.Dir, "unnamed")); err != nil {
		return nil, nil, err
	}
	check := func(k kept) error {
		got := make([]byte, size)
		if _, err := k.f.ReadAt(got, 0); err != nil {
			return err
		}
		if !bytes.Equal(got, k.want) {
			return fmt.Errorf("%s: wrong content: checksum %08x, want %08x", k.f.Name(), crc32.ChecksumIEEE(got), crc32.ChecksumIEEE(k.want))
		}
		return nil
	}
	n := 0
	step = func() error {
		n++
		for _, k := range all {
			off := rng.IntN(size)
			b := make([]byte, min(1+rng.IntN(1<<16), size-off))
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
			if err := w.timed("write", func() error {
				_, err := k.f.WriteAt(b, int64(off))
				return err
			}); err != nil {
				return err
			}
			copy(k.want[off:], b)
			if n%8 == 0 {
				if err := w.timed("check", func() error { return check(k) }); err != nil {
					return err
				}
			}
		}
		return w.names(n, rng)
	}
	finish = func() error {
		for _, k := range all {
			if err := check(k); err != nil {
				return err
			}
			if err := k.f.Close(); err != nil {
				return err
			}
		}
		return nil
	}
	return step, finish, nil
}

// names does what must not be done twice: make, link, rename and remove.
func (w *worker) names(n int, rng *rand.Rand) error {
	dir := filepath.Join(w.Dir, fmt.Sprintf("d%d", n))
	at := func(name string) string { return filepath.Join(dir, name) }
	text := []byte(strings.Repeat(fmt.Sprint(rng.Uint64()), 1+rng.IntN(500)))
	for _, s := range []struct {
		what string
		do   func() error
	}{
		{"mkdir", func() error { return os.Mkdir(dir, 0o755) }},
		{"create", func() error {
			f, err := os.OpenFile(at("a"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return err
			}
			if _, err := f.Write(text); err != nil {
				return err
			}
			return f.Close()
		}},
		{"symlink", func() error { return os.Symlink("a", at("s")) }},
		{"link", func() error { return os.Link(at("a"), at("b")) }},
		{"rename", func() error { return os.Rename(at("b"), at("c")) }},
		{"read", func() error {
			for _, name := range []string{"c", "s"} {
				b, err := os.ReadFile(at(name))
				if err != nil {
					return err
				}
				if !bytes.Equal(b, text) {
					return fmt.Errorf("%s: wrong content, %d bytes", name, len(b))
				}
			}
			return nil
		}},
		{"unlink", func() error { return os.Remove(at("a")) }},
		{"list", func() error {
			list, err := os.ReadDir(dir)
			if err == nil && len(list) != 2 {
				err = fmt.Errorf("%v", list)
			}
			return err
		}},
		{"unlink", func() error { return os.Remove(at("c")) }},
		{"unlink", func() error { return os.Remove(at("s")) }},
		{"rmdir", func() error { return os.Remove(dir) }},
	} {
		if err := w.timed(s.what, s.do); err != nil {
			return err
		}
	}
	return nil
}

// workerMain runs the worker that text describes.
func workerMain(text string) int {
	var w worker
	err := json.Unmarshal([]byte(text), &w)
	if err == nil {
		err = w.run()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", w.Kind, err)
		return 1
	}
	return 0
}
