package fuse_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/testenv"
)

// protocolFS is a directFS that notes what it is asked, in the words of the
// tests below, and does it as far as an answer is needed.
type protocolFS struct {
	directFS
	setuid bool   // files look like programs with the bits set
	group  uint32 // of the root

	mu    sync.Mutex
	notes []string
	free  chan struct{} // closed when the lock of SetLkw is free
}

func newProtocolFS() *protocolFS {
	return &protocolFS{directFS: newDirectFS(), free: make(chan struct{})}
}

func (p *protocolFS) note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.notes = append(p.notes, fmt.Sprintf(format, args...))
}

// noted reports whether a note begins so.
func (p *protocolFS) noted(prefix string) bool { return p.count(prefix) > 0 }

func (p *protocolFS) count(prefix string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.notes {
		if strings.HasPrefix(s, prefix) {
			n++
		}
	}
	return n
}

func (p *protocolFS) want(t *testing.T, prefixes ...string) {
	t.Helper()
	for _, s := range prefixes {
		if !p.noted(s) {
			p.mu.Lock()
			t.Errorf("not asked for %q, but for %q", s, p.notes)
			p.mu.Unlock()
		}
	}
}

func (p *protocolFS) attr(node uint64, a *fuse.Attr) {
	p.directFS.attr(node, a)
	if node == 1 {
		a.Gid = p.group
		a.Mode |= 0o777
	} else if p.setuid {
		a.Mode = syscall.S_IFREG | 0o6777
	}
}

func (p *protocolFS) Lookup(cancel <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	st := p.directFS.Lookup(cancel, h, name, out)
	if st.Ok() {
		p.attr(out.NodeId, &out.Attr)
	}
	return st
}

func (p *protocolFS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	p.attr(in.NodeId, &out.Attr)
	return fuse.OK
}

func (p *protocolFS) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	p.note("setattr kill=%v size=%v", in.Valid&fuse.FATTR_KILL_SUIDGID != 0, in.Valid&fuse.FATTR_SIZE != 0)
	p.attr(in.NodeId, &out.Attr)
	return fuse.OK
}

func (p *protocolFS) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	p.note("write kill=%v", in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0)
	return uint32(len(data)), fuse.OK
}

func (p *protocolFS) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	x, ok := p.server.Request(&in.InHeader).Extensions()
	p.note("mkdir uid=%d groups=%d ext=%v", in.Uid, x.Groups, ok)
	out.NodeId = 60
	out.Attr = fuse.Attr{Ino: 60, Mode: syscall.S_IFDIR | 0o755, Nlink: 2}
	return fuse.OK
}

func (p *protocolFS) SetXAttr(_ <-chan struct{}, in *fuse.SetXAttrIn, name string, data []byte) fuse.Status {
	p.note("setxattr %s=%s size=%d flags=%d", name, data, in.Size, in.Flags)
	return fuse.OK
}

func (p *protocolFS) ListXAttr(_ <-chan struct{}, _ *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	const names = "user.a\x00user.b\x00"
	if len(dest) < len(names) {
		return uint32(len(names)), fuse.ERANGE
	}
	return uint32(copy(dest, names)), fuse.OK
}

func (p *protocolFS) RemoveXAttr(_ <-chan struct{}, _ *fuse.InHeader, name string) fuse.Status {
	p.note("removexattr %s", name)
	return fuse.OK
}

func (p *protocolFS) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	p.note("lseek %d whence=%d", in.Offset, in.Whence)
	out.Offset = in.Offset + 100
	return fuse.OK
}

func (p *protocolFS) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	p.note("fallocate %d+%d mode=%d", in.Offset, in.Length, in.Mode)
	return fuse.OK
}

func (p *protocolFS) Rename(_ <-chan struct{}, in *fuse.RenameIn, from, to string) fuse.Status {
	p.note("rename %s %s flags=%d", from, to, in.Flags)
	return fuse.OK
}

func (p *protocolFS) Ioctl(_ <-chan struct{}, in *fuse.IoctlIn, inbuf []byte, out *fuse.IoctlOut, outbuf []byte) fuse.Status {
	p.note("ioctl %#x in=%s out=%d", in.Cmd, inbuf, len(outbuf))
	out.Result = 7
	copy(outbuf, bytes.ToUpper(inbuf))
	return fuse.OK
}

func (p *protocolFS) GetLk(_ <-chan struct{}, in *fuse.LkIn, out *fuse.LkOut) fuse.Status {
	out.Lk = fuse.FileLock{Start: in.Lk.Start, End: in.Lk.End, Typ: syscall.F_WRLCK, Pid: 1}
	return fuse.OK
}

func (p *protocolFS) SetLk(_ <-chan struct{}, in *fuse.LkIn) fuse.Status {
	p.note("setlk %d-%d type=%d", in.Lk.Start, in.Lk.End, in.Lk.Typ)
	return fuse.OK
}

func (p *protocolFS) SetLkw(cancel <-chan struct{}, in *fuse.LkIn) fuse.Status {
	p.note("setlkw %d-%d", in.Lk.Start, in.Lk.End)
	select {
	case <-cancel:
		p.note("cancelled")
		return fuse.EINTR
	case <-p.free:
		return fuse.OK
	}
}

// open opens a file of a mount by a plain system call.
func open(t *testing.T, path string, flags int) int {
	t.Helper()
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("open %s: %v", path, err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// as runs a script as another user, who may go where t.TempDir is.
func as(t *testing.T, user *syscall.Credential, dir, script string, files ...*os.File) {
	t.Helper()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctxFor(t), "/bin/sh", "-c", script, "sh", dir)
	cmd.Dir, cmd.ExtraFiles = "/", files
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: user}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v %s", script, err, out)
	}
}

// What is asked for with data, flags or ranges arrives as it was asked.
func TestIntegrationOperations(t *testing.T) {
	transports(t, func(t *testing.T, o *fuse.MountOptions) {
		fs := newProtocolFS()
		o.ExtraCapabilities = fuse.CAP_SETXATTR_EXT
		_, dir := mounted(t, fs, o)
		file := dir + "/1"
		fd := open(t, file, unix.O_RDWR)
		if n, err := unix.Seek(fd, 4096, unix.SEEK_DATA); n != 4196 || err != nil {
			t.Errorf("SEEK_DATA: %d %v", n, err)
		}
		if n, err := unix.Seek(fd, 512, unix.SEEK_HOLE); n != 612 || err != nil {
			t.Errorf("SEEK_HOLE: %d %v", n, err)
		}
		if err := unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 4096, 8192); err != nil {
			t.Errorf("fallocate: %v", err)
		}
		if err := unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096); err != nil {
			t.Errorf("punch a hole: %v", err)
		}
		if err := unix.Renameat2(unix.AT_FDCWD, file, unix.AT_FDCWD, dir+"/2", unix.RENAME_EXCHANGE); err != nil {
			t.Errorf("exchange: %v", err)
		}
		if err := unix.Renameat2(unix.AT_FDCWD, dir+"/3", unix.AT_FDCWD, dir+"/new", unix.RENAME_NOREPLACE); err != nil {
			t.Errorf("rename: %v", err)
		}
		if err := unix.Setxattr(dir+"/4", "user.x", []byte("some value"), unix.XATTR_CREATE); err != nil {
			t.Errorf("setxattr: %v", err)
		}
		names := make([]byte, 100)
		if n, err := unix.Listxattr(dir+"/4", names); err != nil || string(names[:n]) != "user.a\x00user.b\x00" {
			t.Errorf("listxattr: %q %v", names[:max(n, 0)], err)
		}
		if err := unix.Removexattr(dir+"/4", "user.a"); err != nil {
			t.Errorf("removexattr: %v", err)
		}
		arg := []byte("abcdefgh")
		const cmd = 3<<30 | 8<<16 | 'x'<<8 | 1 // _IOWR('x', 1, [8]byte)
		r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), cmd, uintptr(unsafe.Pointer(&arg[0])))
		if errno != 0 || r != 7 || string(arg) != "ABCDEFGH" {
			t.Errorf("ioctl: %d %q %v", r, arg, errno)
		}
		fs.want(t, "lseek 4096 whence=3", "lseek 512 whence=4", "fallocate 4096+8192 mode=1", "fallocate 0+4096 mode=3",
			"rename 1 2 flags=2", "rename 3 new flags=1", "setxattr user.x=some value size=10 flags=1",
			"removexattr user.a", fmt.Sprintf("ioctl %#x in=abcdefgh out=8", uint32(cmd)))
	})
}

// Locks of ranges are asked for, a signal of the caller interrupts one that
// waits, and the kernel asks again if the program wants that.
func TestIntegrationPosixLocks(t *testing.T) {
	transports(t, func(t *testing.T, o *fuse.MountOptions) {
		o.EnableLocks = true
		fs := newProtocolFS()
		s, dir := mounted(t, fs, o)
		fd := open(t, dir+"/1", unix.O_RDWR)
		lk := unix.Flock_t{Type: unix.F_WRLCK, Start: 100, Len: 50}
		if err := unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &lk); err != nil {
			t.Errorf("F_SETLK: %v", err)
		}
		got := unix.Flock_t{Type: unix.F_RDLCK, Start: 5, Len: 10}
		if err := unix.FcntlFlock(uintptr(fd), unix.F_GETLK, &got); err != nil || got.Type != unix.F_WRLCK || got.Start != 5 || got.Len != 10 {
			t.Errorf("F_GETLK: %+v %v", got, err)
		}
		signals := make(chan os.Signal, 10)
		signal.Notify(signals, unix.SIGUSR1)
		defer signal.Stop(signals)
		tid, done := make(chan int, 1), make(chan error, 1)
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			tid <- unix.Gettid()
			err := unix.EINTR
			for err == unix.EINTR {
				_, _, err = unix.Syscall(unix.SYS_FCNTL, uintptr(fd), unix.F_SETLKW, uintptr(unsafe.Pointer(&lk)))
			}
			if err != 0 {
				done <- err
			}
			close(done)
		}()
		waiter := <-tid
		eventually(t, "a wait for the lock", func() bool { return fs.noted("setlkw 100-149") })
		eventually(t, "an interrupt", func() bool {
			if err := unix.Tgkill(os.Getpid(), waiter, unix.SIGUSR1); err != nil {
				t.Fatal(err)
			}
			return fs.noted("cancelled")
		})
		eventually(t, "another wait", func() bool { return fs.count("setlkw") >= 2 })
		close(fs.free)
		if err := within(t, "the lock", done); err != nil {
			t.Errorf("F_SETLKW: %v", err)
		}
		if st := s.Stats(); st.Interrupts == 0 || st.Cancelled == 0 {
			t.Errorf("%+v", st)
		}
		fs.want(t, "setlk 100-149 type=1")
	})
}

// With HANDLE_KILLPRIV_V2 it is the server that takes set-id bits away, and is
// told when.
func TestIntegrationKillPriv(t *testing.T) {
	testenv.Root(t)
	transports(t, func(t *testing.T, o *fuse.MountOptions) {
		o.AllowOther = true
		o.ExtraCapabilities = fuse.CAP_HANDLE_KILLPRIV_V2
		fs := newProtocolFS()
		fs.setuid = true
		_, dir := mounted(t, fs, o)
		as(t, &syscall.Credential{Uid: 1234, Gid: 1234}, dir, `printf x 1<>"$1"/1 && : >"$1"/2`)
		fs.want(t, "write kill=true", "setattr kill=true size=true")
		if err := unix.Truncate(dir+"/3", 0); err != nil { // root keeps them
			t.Error(err)
		}
		fs.want(t, "setattr kill=false size=true")
	})
}

// Groups and security labels come with what creates something.
func TestIntegrationExtensions(t *testing.T) {
	testenv.Root(t)
	transports(t, func(t *testing.T, o *fuse.MountOptions) {
		o.AllowOther = true
		o.ExtraCapabilities = fuse.CAP_CREATE_SUPP_GROUP | fuse.CAP_SECURITY_CTX
		fs := newProtocolFS()
		fs.group = 4321
		_, dir := mounted(t, fs, o)
		as(t, &syscall.Credential{Uid: 1234, Gid: 1234, Groups: []uint32{4321}}, dir, `ls -ld "$1" >&2 && mkdir "$1"/new`) // the kernel has to know the group first
		as(t, &syscall.Credential{Uid: 1234, Gid: 1234}, dir, `mkdir "$1"/other`)
		fs.want(t, "mkdir uid=1234 groups=[4321] ext=true", "mkdir uid=1234 groups=[] ext=true")
	})
}

// An id-mapped mount shows other owners than the server's, and the server is
// told of its own.
func TestIntegrationIDMapped(t *testing.T) {
	testenv.Root(t)
	transports(t, func(t *testing.T, o *fuse.MountOptions) {
		o.AllowOther, o.IDMappedMount = true, true
		fs := newProtocolFS()
		s, dir := mounted(t, fs, o)
		if s.Transport().Flags&fuse.CAP_ALLOW_IDMAP == 0 {
			testenv.Missing(t, "id-mapped FUSE mounts", "the kernel does not offer them (Linux 6.12)")
		}
		ns := userNamespace(t, 1234)
		tree, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns)}); err != nil {
			t.Fatalf("map the ids of the mount: %v", err)
		}
		var st unix.Stat_t
		if err := unix.Fstatat(tree, "1", &st, unix.AT_SYMLINK_NOFOLLOW); err != nil || st.Uid != 1234 {
			t.Errorf("owner through the mapping: %d, %v, want 1234", st.Uid, err)
		}
		root := os.NewFile(uintptr(tree), dir)
		defer root.Close()
		as(t, &syscall.Credential{Uid: 1234, Gid: 1234}, dir, "mkdir /proc/self/fd/3/new", root)
		fs.want(t, "mkdir uid=0 groups=[]")
	})
}

// userNamespace returns a namespace in which 0 is the given user and group.
func userNamespace(t *testing.T, id int) int {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", "read x")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: id, Size: 1}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer in.Close()
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/user", cmd.Process.Pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}
