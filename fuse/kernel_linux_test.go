package fuse_test

import (
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fuse"
)

// countFS is a directFS whose names and attributes the kernel may keep; it
// counts what it is asked all the same. It has what is optional, too.
type countFS struct {
	directFS
	lookups, getattrs, reads, polls, copies, statxs atomic.Int64

	mu    sync.Mutex
	locks map[uint64]chan struct{} // node -> closed when it is unlocked
	kh    atomic.Uint64            // of the last poll
	kind  atomic.Uint32            // ... events that are there
}

func newCountFS() *countFS {
	return &countFS{directFS: newDirectFS(), locks: make(map[uint64]chan struct{})}
}

func (c *countFS) Lookup(cancel <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	c.lookups.Add(1)
	out.SetEntryTimeout(time.Hour)
	out.SetAttrTimeout(time.Hour)
	return c.directFS.Lookup(cancel, h, name, out)
}

func (c *countFS) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	c.getattrs.Add(1)
	out.SetTimeout(time.Hour)
	return c.directFS.GetAttr(cancel, in, out)
}

func (c *countFS) Open(_ <-chan struct{}, _ *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	return fuse.OK
}

func (c *countFS) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	c.reads.Add(1)
	return c.directFS.Read(cancel, in, buf)
}

func (c *countFS) Poll(_ <-chan struct{}, in *fuse.PollIn, out *fuse.PollOut) fuse.Status {
	c.polls.Add(1)
	c.kh.Store(in.Kh)
	out.Revents = c.kind.Load()
	return fuse.OK
}

func (c *countFS) CopyFileRange64(_ <-chan struct{}, in *fuse.CopyFileRangeIn, out *fuse.CopyFileRangeOut) fuse.Status {
	c.copies.Add(1)
	out.BytesCopied = in.Len
	return fuse.OK
}

func (c *countFS) Statx(_ <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	c.statxs.Add(1)
	out.Statx = fuse.Statx{Mask: unix.STATX_BASIC_STATS | unix.STATX_BTIME, Mode: syscall.S_IFREG | 0o644, Nlink: 1, Ino: in.NodeId, Size: uint64(len(c.data))}
	out.Statx.Btime.Sec = 1234567
	return fuse.OK
}

func (c *countFS) Tmpfile(_ <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	out.NodeId = 9
	c.attr(9, &out.Attr)
	out.Attr.Nlink = 0
	return fuse.OK
}

// No file has a capability that a write would have to take away.
func (c *countFS) GetXAttr(<-chan struct{}, *fuse.InHeader, string, []byte) (uint32, fuse.Status) {
	return 0, fuse.ENODATA
}

func (c *countFS) SetLk(_ <-chan struct{}, in *fuse.LkIn) fuse.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	held := c.locks[in.NodeId]
	if in.Lk.Typ == syscall.F_UNLCK {
		if held != nil {
			close(held)
			delete(c.locks, in.NodeId)
		}
		return fuse.OK
	}
	if held != nil {
		return fuse.EAGAIN
	}
	c.locks[in.NodeId] = make(chan struct{})
	return fuse.OK
}

func (c *countFS) SetLkw(cancel <-chan struct{}, in *fuse.LkIn) fuse.Status {
	for {
		if st := c.SetLk(cancel, in); st != fuse.EAGAIN {
			return st
		}
		c.mu.Lock()
		held := c.locks[in.NodeId]
		c.mu.Unlock()
		if held == nil {
			continue
		}
		select {
		case <-held:
		case <-cancel:
			return fuse.EINTR
		}
	}
}

func stat(t *testing.T, path string) {
	t.Helper()
	if err := statFile(path); err != nil {
		t.Fatal(err)
	}
}

// The kernel does what notifications say.
func TestIntegrationNotify(t *testing.T) {
	transports(t, func(t *testing.T, o *fuse.MountOptions) {
		fs := newCountFS()
		s, dir := mounted(t, fs, o)
		path := dir + "/4" // node 6
		stat(t, path)
		fs.lookups.Store(0)
		fs.getattrs.Store(0)
		n := s.Notifier()
		for what, step := range map[string]func() *fuse.Notice{
			"Entry":    func() *fuse.Notice { return n.Entry(1, "4") },
			"Expire":   func() *fuse.Notice { return n.Expire(1, "4") },
			"Delete":   func() *fuse.Notice { return n.Delete(1, 6, "4") },
			"IncEpoch": func() *fuse.Notice { return n.IncEpoch() },
		} {
			stat(t, path)
			before := fs.lookups.Load()
			stat(t, path)
			if fs.lookups.Load() != before {
				t.Errorf("%s: the name was not cached", what)
			}
			if st := step().Wait(ctxFor(t)); st != fuse.OK {
				t.Errorf("%s: %v", what, st)
			}
			stat(t, path)
			if fs.lookups.Load() == before {
				t.Errorf("%s: the name was not looked up again", what)
			}
		}
		before := fs.getattrs.Load() + fs.statxs.Load()
		if st := s.InodeNotify(6, -1, 0); st != fuse.OK {
			t.Errorf("InodeNotify: %v", st)
		}
		stat(t, path)
		if fs.getattrs.Load()+fs.statxs.Load() == before {
			t.Error("attributes were not asked for again")
		}
		if st := s.InodeNotify(4040, 0, 0); st != fuse.ENOENT {
			t.Errorf("InodeNotify of an unknown node: %v", st)
		}
		if st := s.PruneNotify([]uint64{2, 3, 4040}); st != fuse.OK {
			t.Errorf("PruneNotify: %v", st)
		}
	})
}

func TestIntegrationStoreRetrieve(t *testing.T) {
	transports(t, func(t *testing.T, o *fuse.MountOptions) {
		fs := newCountFS()
		s, dir := mounted(t, fs, o)
		stat(t, dir+"/5") // node 7
		page := make([]byte, 4096)
		copy(page, "stored by the server")
		if st := s.InodeNotifyStoreCache(7, 0, page); st != fuse.OK {
			t.Fatalf("store: %v", st)
		}
		fd, err := unix.Open(dir+"/5", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		buf := make([]byte, 20)
		if n, err := unix.Pread(fd, buf, 0); err != nil || string(buf[:n]) != "stored by the server" || fs.reads.Load() != 0 {
			t.Errorf("%q %v, %d reads came to the server", buf[:n], err, fs.reads.Load())
		}
		back := make([]byte, 4096)
		n, st := s.InodeRetrieveCache(7, 0, back)
		if n != 4096 || st != fuse.OK || string(back) != string(page) {
			t.Errorf("retrieve: %d %v %q", n, st, back[:20])
		}
		if _, st := s.InodeRetrieveCache(4040, 0, back); st != fuse.ENOENT {
			t.Errorf("retrieve of an unknown node: %v", st)
		}
	})
}

// Operations that few file systems have reach those that do.
func TestIntegrationOptional(t *testing.T) {
	transports(t, func(t *testing.T, o *fuse.MountOptions) {
		fs := newCountFS()
		_, dir := mounted(t, fs, o)
		var stx unix.Statx_t
		if err := unix.Statx(unix.AT_FDCWD, dir+"/2", 0, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &stx); err != nil || stx.Btime.Sec != 1234567 {
			t.Errorf("statx: birth %d, %v", stx.Btime.Sec, err)
		}
		fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err != nil {
			t.Errorf("O_TMPFILE: %v", err)
		} else {
			unix.Close(fd)
		}
		a, errA := unix.Open(dir+"/1", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		b, errB := unix.Open(dir+"/2", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		defer unix.Close(a)
		defer unix.Close(b)
		var from, to int64
		if n, err := unix.CopyFileRange(a, &from, b, &to, 4096, 0); n != 4096 || err != nil || fs.copies.Load() != 1 {
			t.Errorf("copy_file_range: %d %v, %d came to the server", n, err, fs.copies.Load())
		}
	})
}

// A poll waits in the kernel until the server says that something happened.
func TestIntegrationPoll(t *testing.T) {
	transports(t, func(t *testing.T, o *fuse.MountOptions) {
		fs := newCountFS()
		s, dir := mounted(t, fs, o)
		fd, err := unix.Open(dir+"/1", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		came := make(chan int16, 1)
		go func() {
			p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			for {
				if _, err := unix.Poll(p, int(watchdog/time.Millisecond)); err != unix.EINTR {
					break
				}
			}
			came <- p[0].Revents
		}()
		eventually(t, "a poll", func() bool { return fs.polls.Load() > 0 })
		fs.kind.Store(unix.POLLIN)
		s.Notifier().Poll(fs.kh.Load())
		if r := within(t, "the event", came); r != unix.POLLIN {
			t.Errorf("events %#x", r)
		}
	})
}

// A lock that waits is given up when its caller is killed, and got when it is
// free.
func TestIntegrationLocks(t *testing.T) {
	transports(t, func(t *testing.T, o *fuse.MountOptions) {
		o.EnableLocks = true
		fs := newCountFS()
		s, dir := mounted(t, fs, o)
		fd, err := unix.Open(dir+"/1", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := unix.Flock(fd, unix.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		p := startLocker(t, dir+"/1")
		eventually(t, "a wait for the lock", func() bool {
			run := s.Running()
			return len(run) > 0 && run[0].Op == "SETLKW"
		})
		if err := p.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = waitFor(t, p)
		p = startLocker(t, dir+"/1")
		if err := unix.Flock(fd, unix.LOCK_UN); err != nil {
			t.Fatal(err)
		}
		if err := waitFor(t, p); err != nil {
			t.Errorf("the lock that is free was not got: %v", err)
		}
	})
}

// locker is what the process of startLocker does.
func locker(path string) error {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	for {
		if err := unix.Flock(fd, unix.LOCK_EX); err != unix.EINTR {
			return err
		}
	}
}
