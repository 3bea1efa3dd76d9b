package fuse_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/fuse/wire"
	"github.com/sluicefs/sluice/internal/testenv"
)

// mounted mounts fs for a test and unmounts it after it.
func mounted(t *testing.T, fs fuse.RawFileSystem, opts *fuse.MountOptions) (*fuse.Server, string) {
	t.Helper()
	testenv.MountFUSE(t)
	dir := t.TempDir()
	s, err := fuse.Mount(dir, fs, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), watchdog)
		defer stop()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		}
	})
	return s, dir
}

// transports runs a test on each of them.
func transports(t *testing.T, f func(t *testing.T, o *fuse.MountOptions)) {
	t.Run("device", func(t *testing.T) { f(t, &fuse.MountOptions{Transport: fuse.TransportDevice}) })
	t.Run("uring", func(t *testing.T) {
		testenv.URing(t)
		f(t, &fuse.MountOptions{Transport: fuse.TransportURing})
	})
}

// run runs a command whose process is the mount's user, not this one: a fork
// of this process would copy files that it serves.
func run(t *testing.T, script string, args ...string) (string, error) {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), watchdog)
	defer stop()
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", script, "sh"}, args...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestIntegrationServe(t *testing.T) {
	transports(t, func(t *testing.T, o *fuse.MountOptions) {
		s, dir := mounted(t, newDirectFS(), o)
		t.Log(s.Transport())
		if err := readFile(dir+"/7", newDirectFS().data); err != nil {
			t.Error(err)
		}
		if es, err := os.ReadDir(dir); err != nil || len(es) != 10 {
			t.Errorf("%d entries, %v", len(es), err)
		}
		if _, err := os.Stat(dir + "/none"); !os.IsNotExist(err) {
			t.Errorf("stat of what is not there: %v", err)
		}
		if h := s.Latency("LOOKUP"); h.Count == 0 || h.Quantile(0.5) <= 0 {
			t.Errorf("histogram of LOOKUP: %+v", h)
		}
	})
}

// Two thousand blocked requests hold up neither the others nor the machine.
func TestIntegrationBlockedHandlers(t *testing.T) {
	transports(t, func(t *testing.T, o *fuse.MountOptions) {
		fs := newDirectFS()
		goOn := make(chan struct{})
		var blocked atomic.Int64
		fs.hook = func(h *fuse.InHeader, _ <-chan struct{}) fuse.Status {
			if wire.Opcode(h.Opcode) == wire.OpRead {
				blocked.Add(1)
				<-goOn
			}
			return fuse.OK
		}
		n := 2000
		if testing.Short() {
			n = 200
		}
		s, dir := mounted(t, fs, o)
		free := sync.OnceFunc(func() { close(goOn) })
		defer free()
		p := startReaders(t, dir, n)
		eventually(t, "the arrival of all readers", func() bool { return blocked.Load() == int64(n) })
		if out, err := run(t, `stat "$1"/3 >/dev/null`, dir); err != nil {
			t.Errorf("another caller: %v %s", err, out)
		}
		got := threads(t)
		t.Logf("%d threads for %d blocked requests", got, n)
		if got > 200 {
			t.Error("too many")
		}
		if got := s.Stats().Running; got != int64(n) {
			t.Errorf("%d running", got)
		}
		free()
		if err := waitFor(t, p); err != nil {
			t.Errorf("readers: %v", err)
		}
	})
}

// startReaders starts a process whose n threads read a file each.
func startReaders(t *testing.T, dir string, n int) *exec.Cmd {
	t.Helper()
	return startUser(t, fmt.Sprintf("read %s %d", dir, n))
}

// startLocker starts a process that locks a file, which may have to wait.
func startLocker(t *testing.T, path string) *exec.Cmd {
	t.Helper()
	return startUser(t, "lock "+path)
}

// startUser starts a process that uses a mount of this one.
func startUser(t *testing.T, what string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+what)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	return cmd
}

// waitFor waits for a process of startReaders.
func waitFor(t *testing.T, cmd *exec.Cmd) error {
	t.Helper()
	gone := make(chan error, 1)
	go func() { gone <- cmd.Wait() }()
	return within(t, "the end of the readers", gone)
}

// readers is what the process of startReaders does.
func readers(what string) error {
	var dir string
	var n int
	if _, err := fmt.Sscanf(what, "read %s %d", &dir, &n); err != nil {
		return err
	}
	want := newDirectFS().data
	errs := make(chan error, n)
	for i := range n {
		go func() { errs <- readFile(fmt.Sprintf("%s/%d", dir, i%10), want) }()
	}
	var all error
	for range n {
		all = errors.Join(all, <-errs)
	}
	return all
}

func threads(t *testing.T) int {
	t.Helper()
	es, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(es)
}

// A caller that is killed while its request runs is let go.
func TestIntegrationInterrupt(t *testing.T) {
	transports(t, func(t *testing.T, o *fuse.MountOptions) {
		fs := newDirectFS()
		reading := make(chan struct{}, 1)
		fs.hook = func(h *fuse.InHeader, cancel <-chan struct{}) fuse.Status {
			if wire.Opcode(h.Opcode) != wire.OpRead {
				return fuse.OK
			}
			reading <- struct{}{}
			select {
			case <-cancel:
				return fuse.EINTR
			case <-time.After(watchdog):
				return fuse.EIO
			}
		}
		s, dir := mounted(t, fs, o)
		cmd := exec.Command("/bin/cat", filepath.Join(dir, "3"))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		within(t, "the read", reading)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Error("cat was content")
		}
		if st := s.Stats(); st.Cancelled == 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestIntegrationUnmountBusy(t *testing.T) {
	transports(t, func(t *testing.T, o *fuse.MountOptions) {
		fs := newDirectFS()
		s, dir := mounted(t, fs, o)
		fd, err := unix.Open(dir+"/1", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Unmount(); !errors.Is(err, syscall.EBUSY) {
			t.Errorf("unmounting a busy mount: %v", err)
		}
		ended := make(chan error, 1)
		go func() { ended <- s.Shutdown(context.Background()) }()
		// It is out of the tree, and the file can be read to its end.
		buf := make([]byte, len(fs.data))
		for {
			var st unix.Stat_t
			if err := unix.Lstat(dir+"/1", &st); err == unix.ENOENT {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if n, err := unix.Pread(fd, buf, 0); n != len(buf) || err != nil {
			t.Errorf("read of a detached file: %d, %v", n, err)
		}
		unix.Close(fd)
		if err := within(t, "the end", ended); err != nil {
			t.Error(err)
		}
		s.Wait()
		if err := s.Unmount(); err != nil {
			t.Errorf("unmounting again: %v", err)
		}
		if fs.unmounts != 1 {
			t.Errorf("OnUnmount was called %d times", fs.unmounts)
		}
	})
}

// Aborting frees callers whose handler never comes back.
func TestIntegrationAbort(t *testing.T) {
	transports(t, func(t *testing.T, o *fuse.MountOptions) {
		fs := newDirectFS()
		goOn, reading := make(chan struct{}), make(chan struct{}, 1)
		fs.hook = func(h *fuse.InHeader, _ <-chan struct{}) fuse.Status {
			if wire.Opcode(h.Opcode) == wire.OpRead {
				reading <- struct{}{}
				<-goOn
			}
			return fuse.OK
		}
		o.UnmountTimeout = 100 * time.Millisecond
		s, dir := mounted(t, fs, o)
		p := startReaders(t, dir, 1)
		within(t, "the read", reading)
		ctx, stop := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer stop()
		if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("shutdown: %v", err)
		}
		if err := waitFor(t, p); err == nil {
			t.Error("the reader was content")
		}
		close(goOn)
		s.Wait()
	})
}

// An abort, from whichever side, closes the cancel channels of running handlers
// and waits for them before Unmount returns.
func TestIntegrationAbortCancels(t *testing.T) {
	transports(t, func(t *testing.T, o *fuse.MountOptions) {
		fs := newDirectFS()
		reading := make(chan struct{}, 1)
		var cancelled atomic.Bool
		fs.hook = func(h *fuse.InHeader, cancel <-chan struct{}) fuse.Status {
			if wire.Opcode(h.Opcode) == wire.OpRead {
				reading <- struct{}{}
				<-cancel
				time.Sleep(50 * time.Millisecond) // the longer Unmount does not wait, the surer it shows
				cancelled.Store(true)
				return fuse.EINTR
			}
			return fuse.OK
		}
		s, dir := mounted(t, fs, o)
		p := startReaders(t, dir, 1)
		within(t, "the read", reading)
		if err := s.Abort(); err != nil {
			t.Fatal(err)
		}
		if err := waitFor(t, p); err == nil {
			t.Error("the reader was content")
		}
		if err := s.Unmount(); err != nil {
			t.Error(err)
		}
		if !cancelled.Load() {
			t.Error("unmounted while a handler was running")
		}
	})
}

// A deadline frees the caller, and its reader or ring, from a handler that does
// not come back.
func TestIntegrationDeadline(t *testing.T) {
	transports(t, func(t *testing.T, o *fuse.MountOptions) {
		fs := newDirectFS()
		goOn := make(chan struct{})
		fs.hook = func(h *fuse.InHeader, _ <-chan struct{}) fuse.Status {
			if wire.Opcode(h.Opcode) == wire.OpRead {
				<-goOn
			}
			return fuse.OK
		}
		o.Limits = map[fuse.Class]fuse.Limit{
			fuse.ClassRead: {Deadline: 20 * time.Millisecond, Expired: fuse.Status(syscall.ETIMEDOUT)},
		}
		s, dir := mounted(t, fs, o)
		free := sync.OnceFunc(func() { close(goOn) })
		defer free()
		const n = 10
		for range n {
			if err := readFile(dir+"/1", fs.data); !errors.Is(err, syscall.ETIMEDOUT) {
				t.Fatalf("read: got %v, want %v", err, syscall.ETIMEDOUT)
			}
		}
		if st := s.Stats(); st.Expired != n || st.Running != n {
			t.Errorf("%+v, want %d expired and running", st, n)
		}
		free()
		eventually(t, "the end of the handlers", func() bool { return s.Stats().Running == 0 })
		// On a loaded machine a quick handler may miss its deadline.
		eventually(t, "a read", func() bool { return readFile(dir+"/1", fs.data) == nil })
	})
}

// largestFS remembers its largest WRITE.
type largestFS struct {
	directFS
	largest atomic.Int64
}

func (l *largestFS) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	l.largest.Store(max(l.largest.Load(), int64(len(data))))
	return uint32(len(data)), fuse.OK
}

// A MaxWrite that is no number of pages holds all the same.
func TestIntegrationMaxWrite(t *testing.T) {
	transports(t, func(t *testing.T, o *fuse.MountOptions) {
		for _, size := range []int{4096, 9999, 64 << 10} {
			fs := &largestFS{directFS: newDirectFS()}
			o.MaxWrite = size
			_, dir := mounted(t, fs, o)
			fd, err := unix.Open(dir+"/1", unix.O_WRONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			if n, err := unix.Write(fd, make([]byte, 256<<10)); n != 256<<10 {
				t.Errorf("write: %d %v", n, err)
			}
			unix.Close(fd)
			if n := fs.largest.Load(); n != int64(size) {
				t.Errorf("largest WRITE with MaxWrite %d: got %d", size, n)
			}
		}
	})
}

func TestIntegrationPassthrough(t *testing.T) {
	transports(t, func(t *testing.T, o *fuse.MountOptions) {
		fs := &backedFS{directFS: newDirectFS(), path: filepath.Join(t.TempDir(), "backing")}
		if err := os.WriteFile(fs.path, []byte(strings.Repeat("backing ", 100)), 0o600); err != nil {
			t.Fatal(err)
		}
		o.MaxStackDepth = 2 // temporary files may lie on an overlay
		s, dir := mounted(t, fs, o)
		out, err := run(t, `cat "$1"/1 && cat "$1"/1`, dir)
		if err != nil {
			t.Fatal(out, err)
		}
		if why := s.Passthrough().Reason(); why != nil {
			t.Fatalf("no passthrough: %v", why)
		}
		if want := strings.Repeat("backing ", 200); out != want || fs.reads.Load() != 0 {
			t.Errorf("%d bytes, %d reads came to the server", len(out), fs.reads.Load())
		}
		// Where an ordinary open came first, all are ordinary: no EIO.
		fs.ordinary.Store(true)
		out, err = run(t, `exec 3<"$1"/2; touch "$2"; cat "$1"/2 | wc -c; cat <&3 | wc -c`, dir, fs.path+".switch")
		if err != nil || out != "8192\n8192\n" {
			t.Errorf("mixed opens: %q %v", out, err)
		}
		eventually(t, "the return of all ids", func() bool { return len(s.Passthrough().Backing()) == 0 })
	})
}

// backedFS has files that the kernel can serve by itself, but the first open
// of one is ordinary if ordinary is set.
type backedFS struct {
	directFS
	path     string
	reads    atomic.Int64
	ordinary atomic.Bool
}

func (b *backedFS) GetAttr(c <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	st := b.directFS.GetAttr(c, in, out)
	if in.NodeId == 3 { // the file "1"
		out.Attr.Size = 800
	}
	return st
}

func (b *backedFS) Lookup(c <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	st := b.directFS.Lookup(c, h, name, out)
	if name == "1" {
		out.Attr.Size = 800
	}
	return st
}

func (b *backedFS) Open(c <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	p := b.server.Passthrough()
	if b.ordinary.Swap(false) {
		p.OpenOrdinary(in.NodeId, out)
		return b.directFS.Open(c, in, out)
	}
	fd, err := unix.Open(b.path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fuse.ToStatus(err)
	}
	defer unix.Close(fd)
	if !p.Open(in.NodeId, fd, out) {
		return b.directFS.Open(c, in, out)
	}
	return fuse.OK
}

func (b *backedFS) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	b.server.Passthrough().Close(in.NodeId)
}

func (b *backedFS) Read(c <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	b.reads.Add(1)
	return b.directFS.Read(c, in, buf)
}

// With one processor for Go, a server that uses its own files, forks and
// collects garbage does not stop.
func TestIntegrationOneProcessor(t *testing.T) {
	transports(t, func(t *testing.T, o *fuse.MountOptions) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		_, dir := mounted(t, newDirectFS(), o)
		want := newDirectFS().data
		for i := range 50 {
			// Package os puts what it opens into the runtime's poller.
			b, err := os.ReadFile(fmt.Sprintf("%s/%d", dir, i%10))
			if err != nil || len(b) != len(want) {
				t.Fatalf("%d bytes, %v", len(b), err)
			}
			if i%10 == 0 {
				runtime.GC()
			}
		}
		// Files of the mount that are open when a process is made are closed
		// in it: FLUSH, while this process waits for the child's exec.
		f, err := os.Open(dir + "/1")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for range 5 {
			if out, err := run(t, `cat "$1"/2 | wc -c`, dir); err != nil || out != "8192\n" {
				t.Fatalf("%q %v", out, err)
			}
		}
	})
}

// Stop-the-worlds are not held up by readers or rings that wait.
func TestIntegrationStopTheWorld(t *testing.T) {
	transports(t, func(t *testing.T, o *fuse.MountOptions) {
		_, dir := mounted(t, newDirectFS(), o)
		p := startReaders(t, dir, 8)
		done := make(chan struct{})
		go func() {
			defer close(done)
			var m runtime.MemStats
			for range 300 {
				runtime.ReadMemStats(&m)
			}
		}()
		within(t, "300 stops", done)
		if err := waitFor(t, p); err != nil {
			t.Error(err)
		}
	})
}
