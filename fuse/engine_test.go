package fuse_test

import (
	"bytes"
	"fmt"
	"sync"
	"syscall"
	"testing"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/fuse/fusetest"
	"github.com/sluicefs/sluice/fuse/wire"
)

// memFS is a directory (node 1) with the files "0" to "9" (nodes 2 to 11) of
// one shared content. hook, if set, runs in the handlers.
type memFS struct {
	fuse.RawFileSystem
	server *fuse.Server
	data   []byte
	hook   func(h *fuse.InHeader, cancel <-chan struct{}) fuse.Status

	mu       sync.Mutex
	forgot   map[uint64]uint64
	released int
	unmounts int
}

func newMemFS() *memFS {
	return &memFS{
		RawFileSystem: fuse.NewDefaultRawFileSystem(), data: make([]byte, 1<<20),
		forgot: make(map[uint64]uint64),
	}
}

func (m *memFS) String() string      { return "mem" }
func (m *memFS) Init(s *fuse.Server) { m.server = s }
func (m *memFS) OnUnmount()          { m.unmounts++ }

func (m *memFS) attr(node uint64, a *fuse.Attr) {
	*a = fuse.Attr{Ino: node, Mode: syscall.S_IFREG | 0o644, Nlink: 1, Size: uint64(len(m.data))}
	if node == 1 {
		a.Mode = syscall.S_IFDIR | 0o755
	}
}

func (m *memFS) run(h *fuse.InHeader, cancel <-chan struct{}) fuse.Status {
	if m.hook != nil {
		return m.hook(h, cancel)
	}
	return fuse.OK
}

func (m *memFS) Lookup(cancel <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if len(name) != 1 || name[0] < '0' || name[0] > '9' {
		return fuse.ENOENT
	}
	out.NodeId = uint64(name[0]-'0') + 2
	m.attr(out.NodeId, &out.Attr)
	return m.run(h, cancel)
}

func (m *memFS) Forget(node, n uint64) {
	m.mu.Lock()
	m.forgot[node] += n
	m.mu.Unlock()
}

func (m *memFS) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	m.attr(in.NodeId, &out.Attr)
	return m.run(&in.InHeader, cancel)
}

func (m *memFS) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.Fh = 77
	return fuse.OK
}

func (m *memFS) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	m.mu.Lock()
	m.released++
	m.mu.Unlock()
}

func (m *memFS) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	if st := m.run(&in.InHeader, cancel); st != fuse.OK {
		return nil, st
	}
	if in.Offset > uint64(len(m.data)) {
		return nil, fuse.OK
	}
	return fuse.ReadResultData(buf[:copy(buf, m.data[in.Offset:])]), fuse.OK
}

func (m *memFS) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	return uint32(copy(m.data[min(in.Offset, uint64(len(m.data))):], data)), fuse.OK
}

func (m *memFS) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	names := "0123456789"
	for i := in.Offset; i < 10; i++ {
		e := out.AddDirLookupEntry(fuse.DirEntry{Name: names[i : i+1], Mode: syscall.S_IFREG, Ino: i + 2, Off: i + 1})
		if e == nil {
			break
		}
		e.NodeId = i + 2
		m.attr(e.NodeId, &e.Attr)
	}
	return fuse.OK
}

func (m *memFS) Symlink(_ <-chan struct{}, h *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	if target != "a/target" || name != "link" {
		return fuse.EINVAL
	}
	out.NodeId = 50
	return fuse.OK
}

func (m *memFS) Ioctl(_ <-chan struct{}, in *fuse.IoctlIn, inbuf []byte, out *fuse.IoctlOut, outbuf []byte) fuse.Status {
	out.Result = int32(in.Cmd)
	copy(outbuf, bytes.ToUpper(inbuf))
	return fuse.OK
}

func (m *memFS) GetXAttr(_ <-chan struct{}, _ *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	if len(dest) < 5 {
		return 5, fuse.ERANGE
	}
	return uint32(copy(dest, "value")), fuse.OK
}

// session starts a server of fs on a fake kernel and ends it after the test,
// which fails if the server broke a rule.
func session(t testing.TB, fs fuse.RawFileSystem, ko fusetest.Options, mo *fuse.MountOptions) (*fusetest.Kernel, *fuse.Server) {
	t.Helper()
	k := fusetest.NewKernel(ko)
	s := fuse.NewServerOn(fs, k, mo)
	begin(t, k, s)
	return k, s
}

// begin serves until the end of the test.
func begin(t testing.TB, k *fusetest.Kernel, s *fuse.Server) {
	t.Helper()
	go s.Serve()
	if _, errno := k.Init(); errno != 0 {
		t.Fatalf("INIT: %v", errno)
	}
	t.Cleanup(func() {
		k.Close()
		s.Wait()
		for _, f := range k.Faults() {
			t.Error(f)
		}
	})
}

// both runs a test with messages as the device has them and as a ring does.
func both(t *testing.T, f func(t *testing.T, o fusetest.Options)) {
	t.Run("device", func(t *testing.T) { f(t, fusetest.Options{}) })
	t.Run("ring", func(t *testing.T) { f(t, fusetest.Options{Ring: true}) })
}

func TestOperations(t *testing.T) {
	both(t, func(t *testing.T, o fusetest.Options) {
		fs := newMemFS()
		copy(fs.data, "hello, world")
		k, _ := session(t, fs, o, nil)
		e, errno := k.Lookup(1, "3")
		if errno != 0 || e.NodeId != 5 || e.Attr.Size != 1<<20 {
			t.Fatalf("LOOKUP: %+v %v", e, errno)
		}
		if _, errno := k.Lookup(1, "x"); errno != syscall.ENOENT {
			t.Errorf("LOOKUP of what is not there: %v", errno)
		}
		if a, errno := k.Getattr(5); errno != 0 || a.Attr.Ino != 5 {
			t.Errorf("GETATTR: %+v %v", a, errno)
		}
		open, errno := k.Open(5, 0)
		if errno != 0 || open.Fh != 77 {
			t.Errorf("OPEN: %+v %v", open, errno)
		}
		if n, errno := k.Write(5, 77, 7, []byte("there")); n != 5 || errno != 0 {
			t.Errorf("WRITE: %d %v", n, errno)
		}
		if b, errno := k.Read(5, 77, 0, 12); string(b) != "hello, there" || errno != 0 {
			t.Errorf("READ: %q %v", b, errno)
		}
		if b, errno := k.Read(5, 77, 2<<20, 12); len(b) != 0 || errno != 0 {
			t.Errorf("READ past the end: %q %v", b, errno)
		}
		b, errno := k.Readdirplus(1, 0, 0, 400)
		if es, outs, err := fuse.ParseDirLookupEntries(b); errno != 0 || err != nil || len(es) != 2 || outs[1].NodeId != 3 {
			t.Errorf("READDIRPLUS: %v %v %v", es, errno, err)
		}
		if errno := k.Release(5, 77); errno != 0 || fs.released != 1 {
			t.Errorf("RELEASE: %v", errno)
		}
		_, _, errno = fusetest.Do[fuse.EntryOut, fuse.InterruptIn](k, wire.OpSymlink, 1, nil, []string{"link", "a/target"}, nil)
		if errno != 0 {
			t.Errorf("SYMLINK: %v", errno)
		}
		if refs := k.Refs(); refs[5] != 1 || refs[2] != 1 || refs[3] != 1 || refs[50] != 1 {
			t.Errorf("references: %v", refs)
		}
		k.ForgetAll()
		if fs.forgot[5] != 1 || fs.forgot[2] != 1 || fs.forgot[50] != 1 {
			t.Errorf("forgotten: %v", fs.forgot)
		}
	})
}

func TestIoctlAndXattr(t *testing.T) {
	both(t, func(t *testing.T, o fusetest.Options) {
		k, _ := session(t, newMemFS(), o, nil)
		out, rest, errno := fusetest.Do[fuse.IoctlOut](k, wire.OpIoctl, 2,
			&fuse.IoctlIn{Cmd: 9, InSize: 4, OutSize: 6}, nil, []byte("abcd"))
		if errno != 0 || out.Result != 9 || string(rest) != "ABCD\x00\x00" {
			t.Errorf("IOCTL: %+v %q %v", out, rest, errno)
		}
		for _, c := range []struct {
			size  uint32
			want  string
			errno syscall.Errno
		}{{0, "\x05\x00\x00\x00\x00\x00\x00\x00", 0}, {1, "", syscall.ERANGE}, {4, "", syscall.ERANGE}, {5, "value", 0}, {64, "value", 0}} {
			_, b, errno := fusetest.Do[struct{}](k, wire.OpGetxattr, 2, &fuse.GetXAttrIn{Size: c.size}, []string{"user.a"}, nil)
			if string(b) != c.want || errno != c.errno {
				t.Errorf("GETXATTR with room for %d: %q %v, want %q %v", c.size, b, errno, c.want, c.errno)
			}
		}
	})
}

// What the kernel does not take is taken back.
func TestRefusedAnswers(t *testing.T) {
	fs := newMemFS()
	k, s := session(t, fs, fusetest.Options{}, nil)
	k.Call(&fusetest.Request{Op: wire.OpLookup, Node: 1, Payload: []byte("4\x00"), Refuse: syscall.ENOENT})
	k.Call(&fusetest.Request{Op: wire.OpOpen, Node: 6, Args: make([]byte, 8), Refuse: syscall.ENOENT})
	args := make([]byte, 40)
	args[17] = 8 // room for 2048 bytes
	k.Call(&fusetest.Request{Op: wire.OpReaddirplus, Node: 1, Args: args, Refuse: syscall.ENOENT})
	if fs.forgot[6] != 2 || fs.forgot[2] != 1 || fs.released != 1 {
		t.Errorf("forgotten %v, released %d", fs.forgot, fs.released)
	}
	if n := s.Stats().Unanswered; n != 3 {
		t.Errorf("%d unanswered", n)
	}
}

func TestPanic(t *testing.T) {
	fs := newMemFS()
	var log bytes.Buffer
	k, s := session(t, fs, fusetest.Options{}, &fuse.MountOptions{Logger: logTo(&log)})
	fs.hook = func(*fuse.InHeader, <-chan struct{}) fuse.Status { panic("boom") }
	if _, errno := k.Getattr(2); errno != syscall.EIO {
		t.Errorf("errno %v", errno)
	}
	fs.hook = nil
	if _, errno := k.Getattr(2); errno != 0 || s.Stats().Panics != 1 {
		t.Errorf("after the panic: %v, %d panics", errno, s.Stats().Panics)
	}
	if !bytes.Contains(log.Bytes(), []byte("boom")) || !bytes.Contains(log.Bytes(), []byte("engine_test.go")) {
		t.Errorf("log: %s", log.Bytes())
	}
}

// Every operation cut short at every length is answered with an error, and
// the session goes on.
func TestTruncated(t *testing.T) {
	both(t, func(t *testing.T, o fusetest.Options) {
		k, _ := session(t, newMemFS(), o, nil)
		for op := range wire.Opcode(wire.OpLimit) {
			l, known := op.Layout()
			if !known || l.Flags&wire.NoReply != 0 || op == wire.OpInterrupt {
				continue
			}
			if o.Ring {
				l.In = 0 // a ring has room for all of it
			}
			for n := range int(l.In) + int(l.Names) {
				if n >= wire.SetxattrCompatSize && op == wire.OpSetxattr {
					continue // names would begin here
				}
				args := bytes.Repeat([]byte{'a'}, n)
				if r := k.Call(&fusetest.Request{Op: op, Node: 1, Args: args}); r.Errno == 0 {
					t.Errorf("%v of %d bytes was carried out", op, n)
				}
			}
		}
		if _, errno := k.Getattr(1); errno != 0 {
			t.Errorf("session is over: %v", errno)
		}
	})
}

func TestMalformed(t *testing.T) {
	both(t, func(t *testing.T, o fusetest.Options) {
		k, s := session(t, newMemFS(), o, nil)
		name := func(b string) *fusetest.Request {
			return &fusetest.Request{Op: wire.OpLookup, Node: 1, Payload: []byte(b)}
		}
		for what, c := range map[string]struct {
			r    *fusetest.Request
			want syscall.Errno
		}{
			"slash":       {name("a/b\x00"), syscall.EINVAL},
			"empty":       {name("\x00"), syscall.EINVAL},
			"no end":      {name("abc"), syscall.EINVAL},
			"long":        {name(string(bytes.Repeat([]byte{'a'}, 1025)) + "\x00"), syscall.ENAMETOOLONG},
			"unknown":     {&fusetest.Request{Op: 9999, Node: 1}, syscall.ENOSYS},
			"cuse":        {&fusetest.Request{Op: wire.OpCuseInit, Args: make([]byte, 16)}, syscall.ENOSYS},
			"number 7":    {&fusetest.Request{Op: 7}, syscall.ENOSYS},
			"second init": {&fusetest.Request{Op: wire.OpInit, Args: append([]byte{7, 0, 0, 0, 45, 0, 0, 0}, make([]byte, 56)...)}, syscall.ENOTCONN},
			"write short": {&fusetest.Request{Op: wire.OpWrite, Node: 2, Args: append(make([]byte, 16), append([]byte{255, 255, 255, 255}, make([]byte, 20)...)...)}, syscall.EINVAL},
			"xattr short": {&fusetest.Request{Op: wire.OpSetxattr, Node: 2, Args: []byte{255, 255, 255, 255, 0, 0, 0, 0}, Payload: []byte("user.a\x00b")}, syscall.EINVAL},
			"ext":         {&fusetest.Request{Op: wire.OpMkdir, Node: 1, Args: make([]byte, 8), Payload: []byte("d\x00"), Ext: 4096}, syscall.EINVAL},
		} {
			if r := k.Call(c.r); r.Errno != c.want {
				t.Errorf("%s: %v, want %v", what, r.Errno, c.want)
			}
		}
		if !o.Ring {
			for _, length := range []uint32{1, 39, 41, 1 << 31, 1<<32 - 1} {
				if r := k.Call(&fusetest.Request{Op: wire.OpGetattr, Node: 1, Args: make([]byte, 16), Length: length}); r.Errno != syscall.EIO {
					t.Errorf("length %d: %v", length, r.Errno)
				}
			}
		}
		k.Call(&fusetest.Request{Op: wire.OpBatchForget, Args: []byte{255, 255, 255, 255, 0, 0, 0, 0}, Payload: make([]byte, 16)})
		if n := s.Stats().Malformed; n == 0 {
			t.Error("nothing was counted")
		}
	})
}

func TestNegotiation(t *testing.T) {
	for minor := range uint32(51) {
		t.Run(fmt.Sprintf("7.%d", minor), func(t *testing.T) {
			fs := newMemFS()
			k := fusetest.NewKernel(fusetest.Options{Minor: max(minor, 1)})
			s := fuse.NewServerOn(fs, k, nil)
			go s.Serve()
			defer func() { k.Close(); s.Wait() }()
			out, errno := k.Init()
			if errno != 0 || out.Major != 7 || out.Minor != min(max(minor, 1), 45) {
				t.Fatalf("%d.%d %v", out.Major, out.Minor, errno)
			}
			if minor < 36 && out.Flags2 != 0 {
				t.Errorf("flags2 %#x for a kernel that has none", out.Flags2)
			}
			if err := s.WaitMount(); err != nil {
				t.Error(err)
			}
			if _, errno := k.Getattr(1); minor >= 9 && errno != 0 {
				t.Errorf("GETATTR: %v", errno)
			}
			for _, f := range k.Faults() {
				t.Error(f)
			}
		})
	}
}

func TestForeignVersions(t *testing.T) {
	k := fusetest.NewKernel(fusetest.Options{})
	s := fuse.NewServerOn(newMemFS(), k, &fuse.MountOptions{Logger: logTo(new(bytes.Buffer))})
	go s.Serve()
	if r := k.Call(&fusetest.Request{Op: wire.OpGetattr, Node: 1, Args: make([]byte, 16)}); r.Errno != syscall.ENOTCONN {
		t.Errorf("GETATTR before INIT: %v", r.Errno)
	}
	r := k.Call(&fusetest.Request{Op: wire.OpInit, Args: []byte{8, 0, 0, 0, 3, 0, 0, 0}})
	if r.Errno != 0 || len(r.Body) != 8 || r.Body[0] != 7 {
		t.Errorf("protocol 8.3: %v %v", r.Errno, r.Body)
	}
	if r := k.Call(&fusetest.Request{Op: wire.OpInit, Args: []byte{6, 0, 0, 0, 3, 0, 0, 0}}); r.Errno != syscall.EPROTO {
		t.Errorf("protocol 6.3: %v", r.Errno)
	}
	k.Close()
	s.Wait()
	if err := s.WaitMount(); err == nil {
		t.Error("WaitMount is content")
	}
}

func TestEnd(t *testing.T) {
	fs := newMemFS()
	k, s := session(t, fs, fusetest.Options{}, nil)
	go s.Serve() // a second one only waits
	k.Close()
	s.Wait()
	s.Serve()
	if err := s.Unmount(); err != nil {
		t.Errorf("unmounting what has ended: %v", err)
	}
	if fs.unmounts != 1 {
		t.Errorf("OnUnmount was called %d times", fs.unmounts)
	}
}
