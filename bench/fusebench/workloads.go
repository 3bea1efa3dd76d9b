package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// mode is how the servers of a row are set up.
type mode int

const (
	null  mode = 1 << iota // nothing but a root that answers GETATTR
	meta                   // loopback, nothing cached
	data                   // loopback, attributes and entries cached for 10 s
	trees                  // as data, for whole trees
)

// row is a line of the table. op is one operation, number i of client c, on the
// mount at dir; it returns how many units it did.
type row struct {
	name    string
	unit    string
	mode    mode
	clients int
	fresh   bool // mounted anew for each measurement
	once    bool // one operation is a measurement
	op      func(w *worker, i int) (float64, error)
}

const (
	fileCount  = 1000
	smallSize  = 4096
	bigSize    = 64 << 20
	entryCount = 10000
	chunk      = 1 << 20
)

var rows = []row{
	{name: "getattr1", unit: "ops/s", mode: null, clients: 1, op: opGetattr},
	{name: "getattr8", unit: "ops/s", mode: null, clients: 8, op: opGetattr},
	{name: "stat1", unit: "ops/s", mode: meta, clients: 1, op: opStat},
	{name: "stat8", unit: "ops/s", mode: meta, clients: 8, op: opStat},
	{name: "open", unit: "ops/s", mode: meta, clients: 1, op: opOpen},
	{name: "openread", unit: "ops/s", mode: meta, clients: 1, op: opOpenRead},
	{name: "create", unit: "ops/s", mode: meta, clients: 1, op: opCreate},
	{name: "direct1", unit: "ops/s", mode: data, clients: 1, op: opDirect},
	{name: "direct8", unit: "ops/s", mode: data, clients: 8, op: opDirect},
	{name: "seqread", unit: "MB/s", mode: data, clients: 1, op: opSeqRead},
	{name: "seqwrite", unit: "MB/s", mode: data, clients: 1, op: opSeqWrite},
	{name: "readdir", unit: "entries/s", mode: data, clients: 1, op: opReaddir},
	{name: "find", unit: "trees/s", mode: trees, clients: 1, fresh: true, once: true, op: opFind},
	{name: "tar", unit: "trees/s", mode: trees, clients: 1, fresh: true, once: true, op: opTar},
	{name: "untar", unit: "trees/s", mode: trees, clients: 1, fresh: true, once: true, op: opUntar},
}

// worker is one client thread.
type worker struct {
	id   int
	dir  string
	back string
	fd   int
	buf  []byte
}

func prepare(back string) error {
	for _, d := range []string{"small", "many", "new", "tree"} {
		if err := os.MkdirAll(filepath.Join(back, d), 0o755); err != nil {
			return err
		}
	}
	block := make([]byte, smallSize)
	for i := range fileCount {
		if err := os.WriteFile(filepath.Join(back, "small", fmt.Sprintf("f%04d", i)), block, 0o644); err != nil {
			return err
		}
	}
	for i := range entryCount {
		if err := os.WriteFile(filepath.Join(back, "many", fmt.Sprintf("entry-%05d", i)), nil, 0o644); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(back, "big"), make([]byte, bigSize), 0o644); err != nil {
		return err
	}
	src := filepath.Join(runtime.GOROOT(), "src", "cmd", "compile")
	if _, err := os.Stat(src); err != nil {
		return fmt.Errorf("the tree to copy is missing: %w", err)
	}
	if err := os.CopyFS(filepath.Join(back, "tree", "src"), os.DirFS(src)); err != nil {
		return err
	}
	return exec.Command("tar", "-C", filepath.Join(back, "tree"), "-cf", filepath.Join(back, "tree.tar"), "src").Run()
}

func opGetattr(w *worker, _ int) (float64, error) {
	var st unix.Statx_t
	return 1, unix.Statx(w.fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS, &st)
}

// small opens the directory of the small files once, so that an operation
// looks up one name, and returns that.
func (w *worker) small(i int) (string, error) {
	return fmt.Sprintf("f%04d", (i*7+w.id*131)%fileCount), w.open("small", unix.O_RDONLY|unix.O_DIRECTORY)
}

func opStat(w *worker, i int) (float64, error) {
	name, err := w.small(i)
	if err != nil {
		return 0, err
	}
	var st unix.Stat_t
	return 1, unix.Fstatat(w.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
}

func (w *worker) openSmall(i int) (fd int, err error) {
	name, err := w.small(i)
	if err != nil {
		return -1, err
	}
	return unix.Openat(w.fd, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

func opOpen(w *worker, i int) (float64, error) {
	fd, err := w.openSmall(i)
	if err != nil {
		return 0, err
	}
	return 1, unix.Close(fd)
}

func opOpenRead(w *worker, i int) (float64, error) {
	fd, err := w.openSmall(i)
	if err != nil {
		return 0, err
	}
	n, err := unix.Pread(fd, w.buf[:smallSize], 0)
	if err == nil && n != smallSize {
		err = io.ErrUnexpectedEOF
	}
	return 1, errors.Join(err, unix.Close(fd))
}

func opCreate(w *worker, i int) (float64, error) {
	if err := w.open("new", unix.O_RDONLY|unix.O_DIRECTORY); err != nil {
		return 0, err
	}
	name := fmt.Sprintf("c%d-%d", w.id, i)
	fd, err := unix.Openat(w.fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return 0, err
	}
	return 1, errors.Join(unix.Close(fd), unix.Unlinkat(w.fd, name, 0))
}

// open keeps one open file in w.
func (w *worker) open(name string, flags int) (err error) {
	if w.fd < 0 {
		w.fd, err = unix.Open(filepath.Join(w.dir, name), flags|unix.O_CLOEXEC, 0o644)
	}
	return err
}

func opDirect(w *worker, _ int) (float64, error) {
	if err := w.open("big", unix.O_RDONLY|unix.O_DIRECT); err != nil {
		return 0, err
	}
	_, err := unix.Pread(w.fd, w.buf[:smallSize], rand.Int64N(bigSize/smallSize)*smallSize)
	return 1, err
}

func opSeqRead(w *worker, i int) (float64, error) {
	if err := w.open("big", unix.O_RDONLY); err != nil {
		return 0, err
	}
	off := int64(i%(bigSize/chunk)) * chunk
	if off == 0 { // cold again
		if err := unix.Fadvise(w.fd, 0, 0, unix.FADV_DONTNEED); err != nil {
			return 0, err
		}
	}
	n, err := unix.Pread(w.fd, w.buf[:chunk], off)
	return float64(n) / 1e6, err
}

func opSeqWrite(w *worker, i int) (float64, error) {
	if err := w.open("new/written", unix.O_WRONLY|unix.O_CREAT); err != nil {
		return 0, err
	}
	n, err := unix.Pwrite(w.fd, w.buf[:chunk], int64(i%(bigSize/chunk))*chunk)
	return float64(n) / 1e6, err
}

func opReaddir(w *worker, _ int) (float64, error) {
	fd, err := unix.Open(w.dir+"/many", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	count := 0
	for {
		n, err := unix.Getdents(fd, w.buf[:32<<10])
		if err != nil {
			return 0, err
		}
		if n == 0 {
			break
		}
		for b := w.buf[:n]; len(b) > 0; count++ {
			b = b[int(b[16])|int(b[17])<<8:]
		}
	}
	if count < entryCount {
		return 0, fmt.Errorf("%d entries instead of %d", count, entryCount)
	}
	return float64(count), nil
}

func opFind(w *worker, _ int) (float64, error) {
	return 1, exec.Command("find", w.dir+"/tree", "-size", "+1000M").Run()
}

// opTar reads the whole tree; archive/tar would be measured with it, so the
// program is used.
func opTar(w *worker, _ int) (float64, error) {
	cmd := exec.Command("tar", "-C", w.dir+"/tree", "-cf", "-", "src")
	cmd.Stdout = nil // tar must not see /dev/null: it would not read the files
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	if _, err := tar.NewReader(out).Next(); err != nil {
		return 0, err
	}
	for { // drained without copying it on
		n, err := out.Read(w.buf)
		if n == 0 || err != nil {
			break
		}
	}
	return 1, cmd.Wait()
}

func opUntar(w *worker, _ int) (float64, error) {
	dir := filepath.Join(w.dir, "new", "untar")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return 0, err
	}
	return 1, exec.Command("tar", "-C", dir, "-xf", filepath.Join(w.back, "tree.tar")).Run()
}

// sample is one measurement. CPU times are microseconds an operation, or for a
// unit of MB/s or entries/s, a thousandth of it.
type sample struct{ rate, server, total, p50 float64 }

func measure(o *options, r *row, s *server) (sample, error) {
	workers := make([]*worker, r.clients)
	for i := range workers {
		buf, err := unix.Mmap(-1, 0, chunk, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
		if err != nil {
			return sample{}, err
		}
		defer unix.Munmap(buf)
		workers[i] = &worker{id: i, dir: s.mount, back: s.back, fd: -1, buf: buf}
		if r.mode == null {
			if workers[i].fd, err = unix.Open(s.mount, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
				return sample{}, err
			}
		}
	}
	defer func() {
		for _, w := range workers {
			if w.fd >= 0 {
				unix.Close(w.fd)
			}
		}
		_ = os.RemoveAll(filepath.Join(s.back, "new", "untar"))
	}()
	if !r.once { // warm up
		for _, w := range workers {
			if _, err := r.op(w, 0); err != nil {
				return sample{}, err
			}
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var units, ops float64
	var failure error
	var times []time.Duration
	client, srv := selfCPU(), s.cpu()
	begin := time.Now()
	for _, w := range workers {
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			var sum float64
			var mine []time.Duration
			var err error
			i := 1
			for last := begin; ; i++ {
				var n float64
				n, err = r.op(w, i)
				sum += n
				now := time.Now()
				if len(mine) < 200000 {
					mine = append(mine, now.Sub(last))
				}
				last = now
				if err != nil || r.once || now.Sub(begin) >= o.time {
					break
				}
			}
			mu.Lock()
			defer mu.Unlock()
			units += sum
			ops += float64(i)
			times = append(times, mine...)
			failure = errors.Join(failure, err)
		})
	}
	wg.Wait()
	wall := time.Since(begin).Seconds()
	if failure != nil {
		return sample{}, failure
	}
	slices.Sort(times)
	server := float64((s.cpu() - srv).Microseconds()) / ops
	total := server + float64((selfCPU()-client).Microseconds())/ops
	return sample{units / wall, server, total, float64(times[len(times)/2].Nanoseconds()) / 1e3}, nil
}

// selfCPU is the processor time of this process and its children that ended.
func selfCPU() (d time.Duration) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if unix.Getrusage(who, &u) == nil {
			d += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return d
}
