package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// worker is one client thread.
type worker struct {
	id    int
	dir   string
	back  string
	fd    int // what an operation keeps open, -1 before its first turn
	buf   []byte
	names [][]byte // of the small files, C strings
	name  []byte   // room for one
	st    unix.Statx_t
	rand  *rand.Rand
}

func newWorker(id int, dir, back string) (*worker, error) {
	buf, err := unix.Mmap(-1, 0, chunk, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		return nil, err
	}
	w := &worker{id: id, dir: dir, back: back, fd: -1, buf: buf, rand: rand.New(rand.NewPCG(1, uint64(id)))}
	for i := range fileCount {
		w.names = append(w.names, append([]byte(smallName(i)), 0))
	}
	return w, nil
}

// open keeps one open file in w.
func (w *worker) open(name string, flags int) (err error) {
	if w.fd < 0 {
		w.fd, err = unix.Open(filepath.Join(w.dir, name), flags|unix.O_CLOEXEC, 0o644)
	}
	return err
}

func opGetattr(w *worker, _ int) (float64, error) {
	if err := w.open("", unix.O_RDONLY|unix.O_DIRECTORY); err != nil {
		return 0, err
	}
	return 1, callStatx(w.fd, noName, unix.AT_EMPTY_PATH|unix.AT_STATX_FORCE_SYNC, &w.st)
}

// small opens the directory of the small files once, so that an operation
// looks up one name, and returns that.
func (w *worker) small(i int) ([]byte, error) {
	return w.names[(i*7+w.id*131)%fileCount], w.open("small", unix.O_RDONLY|unix.O_DIRECTORY)
}

func opStat(w *worker, i int) (float64, error) {
	name, err := w.small(i)
	if err != nil {
		return 0, err
	}
	return 1, callStatx(w.fd, name, unix.AT_SYMLINK_NOFOLLOW, &w.st)
}

func (w *worker) openSmall(i int) (fd int, err error) {
	name, err := w.small(i)
	if err != nil {
		return -1, err
	}
	return callOpen(w.fd, name, unix.O_RDONLY|unix.O_CLOEXEC)
}

func opOpen(w *worker, i int) (float64, error) {
	fd, err := w.openSmall(i)
	if err != nil {
		return 0, err
	}
	return 1, callClose(fd)
}

func opOpenRead(w *worker, i int) (float64, error) {
	fd, err := w.openSmall(i)
	if err != nil {
		return 0, err
	}
	n, err := callRead(fd, w.buf[:smallSize], 0)
	if err == nil && n != smallSize {
		err = io.ErrUnexpectedEOF
	}
	return 1, errors.Join(err, callClose(fd))
}

func opCreate(w *worker, i int) (float64, error) {
	if err := w.open("new", unix.O_RDONLY|unix.O_DIRECTORY); err != nil {
		return 0, err
	}
	w.name = append(fmt.Appendf(w.name[:0], "c%d-%d", w.id, i), 0)
	fd, err := callOpen(w.fd, w.name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC)
	if err != nil {
		return 0, err
	}
	return 1, errors.Join(callClose(fd), callUnlink(w.fd, w.name))
}

func opDirect(w *worker, _ int) (float64, error) {
	if err := w.open("big", unix.O_RDONLY|unix.O_DIRECT); err != nil {
		return 0, err
	}
	_, err := callRead(w.fd, w.buf[:smallSize], w.rand.Int64N(bigSize/smallSize)*smallSize)
	return 1, err
}

func opSeqRead(w *worker, i int) (float64, error) { return w.seqRead(i, chunk) }

func opSeqRead128(w *worker, i int) (float64, error) { return w.seqRead(i, 128<<10) }

func (w *worker) seqRead(i, size int) (float64, error) {
	if err := w.open("big", unix.O_RDONLY); err != nil {
		return 0, err
	}
	off := int64(i%(bigSize/size)) * int64(size)
	if off == 0 { // cold again
		if err := unix.Fadvise(w.fd, 0, 0, unix.FADV_DONTNEED); err != nil {
			return 0, err
		}
	}
	n, err := callRead(w.fd, w.buf[:size], off)
	return float64(n) / 1e6, err
}

func opSeqWrite(w *worker, i int) (float64, error) { return w.seqWrite(i, chunk) }

func opSeqWrite128(w *worker, i int) (float64, error) { return w.seqWrite(i, 128<<10) }

func (w *worker) seqWrite(i, size int) (float64, error) {
	if err := w.open("new/written", unix.O_WRONLY|unix.O_CREAT); err != nil {
		return 0, err
	}
	n, err := callWrite(w.fd, w.buf[:size], int64(i%(bigSize/size))*int64(size))
	return float64(n) / 1e6, err
}

func opReaddir(w *worker, _ int) (float64, error) {
	if err := w.open("", unix.O_RDONLY|unix.O_DIRECTORY); err != nil {
		return 0, err
	}
	fd, err := callOpen(w.fd, []byte("many\x00"), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC)
	if err != nil {
		return 0, err
	}
	count := 0
	for {
		n, err := callGetdents(fd, w.buf[:32<<10])
		if err != nil {
			return 0, errors.Join(err, callClose(fd))
		}
		if n == 0 {
			break
		}
		for b := w.buf[:n]; len(b) > 0; count++ {
			b = b[int(b[16])|int(b[17])<<8:]
		}
	}
	if count < entryCount {
		err = fmt.Errorf("%d entries instead of %d", count, entryCount)
	}
	return float64(count), errors.Join(err, callClose(fd))
}

func opFind(w *worker, _ int) (float64, error) {
	return 1, exec.Command("find", w.dir+"/tree", "-size", "+1000M").Run()
}

// opTar reads the whole tree. Its archive goes where it costs nothing; to
// /dev/null tar would not read the files.
func opTar(w *worker, _ int) (float64, error) {
	return 1, exec.Command("tar", "-C", w.dir+"/tree", "-cf", "/dev/zero", "src").Run()
}

// opGit has git look for changes in a repository. It writes nothing there.
func opGit(w *worker, _ int) (float64, error) {
	cmd := exec.Command("git", "-c", "safe.directory=*", "-C", w.dir+"/repo", "status", "--porcelain")
	cmd.Env = append(os.Environ(), "GIT_OPTIONAL_LOCKS=0")
	return 1, cmd.Run()
}

func opUntar(w *worker, _ int) (float64, error) {
	dir := filepath.Join(w.dir, "new", "untar")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return 0, err
	}
	return 1, exec.Command("tar", "-C", dir, "-xf", filepath.Join(w.back, "tree.tar")).Run()
}
