package fuse

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/internal/testenv"
)

// flatFS has a root directory with files "f0", "f1", ... of one line each; it
// counts what is called.
type flatFS struct {
	RawFileSystem
	files int
	hook  func(op string, cancel <-chan struct{}, h *InHeader) Status // may be nil
}

func newFlatFS(files int) *flatFS {
	return &flatFS{RawFileSystem: NewDefaultRawFileSystem(), files: files}
}

func (f *flatFS) String() string { return "flat" }

func (f *flatFS) call(op string, cancel <-chan struct{}, h *InHeader) Status {
	if f.hook == nil {
		return OK
	}
	return f.hook(op, cancel, h)
}

func (f *flatFS) content(node uint64) string { return fmt.Sprintf("file %d\n", node-2) }

func (f *flatFS) fill(node uint64, a *Attr) bool {
	switch {
	case node == FUSE_ROOT_ID:
		*a = Attr{Ino: 1, Mode: syscall.S_IFDIR | 0o755, Nlink: 2}
	case node >= 2 && node < uint64(f.files)+2:
		*a = Attr{Ino: node, Mode: syscall.S_IFREG | 0o644, Nlink: 1, Size: uint64(len(f.content(node)))}
	default:
		return false
	}
	return true
}

func (f *flatFS) Lookup(cancel <-chan struct{}, h *InHeader, name string, out *EntryOut) Status {
	if st := f.call("LOOKUP", cancel, h); st != OK {
		return st
	}
	var n int
	if _, err := fmt.Sscanf(name, "f%d", &n); err != nil || n < 0 || n >= f.files {
		return ENOENT
	}
	out.NodeId = uint64(n) + 2
	f.fill(out.NodeId, &out.Attr)
	return OK
}

func (f *flatFS) GetAttr(cancel <-chan struct{}, in *GetAttrIn, out *AttrOut) Status {
	if st := f.call("GETATTR", cancel, &in.InHeader); st != OK {
		return st
	}
	if !f.fill(in.NodeId, &out.Attr) {
		return ESTALE
	}
	return OK
}

func (f *flatFS) Open(cancel <-chan struct{}, in *OpenIn, out *OpenOut) Status {
	return f.call("OPEN", cancel, &in.InHeader)
}

func (f *flatFS) Read(cancel <-chan struct{}, in *ReadIn, buf []byte) (ReadResult, Status) {
	if st := f.call("READ", cancel, &in.InHeader); st != OK {
		return nil, st
	}
	s := f.content(in.NodeId)
	s = s[min(uint64(len(s)), in.Offset):]
	return ReadResultData(buf[:copy(buf, s)]), OK
}

func (f *flatFS) OpenDir(cancel <-chan struct{}, in *OpenIn, out *OpenOut) Status { return OK }

func (f *flatFS) ReadDirPlus(cancel <-chan struct{}, in *ReadIn, out *DirEntryList) Status {
	for i := in.Offset; i < uint64(f.files); i++ {
		e := out.AddDirLookupEntry(DirEntry{Name: fmt.Sprintf("f%d", i), Mode: syscall.S_IFREG, Ino: i + 2, Off: i + 1})
		if e == nil {
			break
		}
		e.NodeId = i + 2
		f.fill(e.NodeId, &e.Attr)
	}
	return OK
}

// mountTest mounts fs for a test, over the transport, and unmounts it after.
func mountTest(t *testing.T, fs RawFileSystem, opts *MountOptions) (*Server, string) {
	t.Helper()
	testenv.MountFUSE(t)
	dir := t.TempDir()
	s, err := Mount(dir, fs, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), 30*time.Second)
		defer stop()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		}
	})
	return s, dir
}

func TestIntegrationServe(t *testing.T) {
	s, dir := mountTest(t, newFlatFS(3000), nil)
	t.Log(s.Transport())
	b, err := os.ReadFile(dir + "/f7")
	if err != nil || string(b) != "file 7\n" {
		t.Fatalf("read %q, %v", b, err)
	}
	es, err := os.ReadDir(dir)
	if err != nil || len(es) != 3000 {
		t.Fatalf("%d entries, %v", len(es), err)
	}
	if _, err := os.Stat(dir + "/g"); !os.IsNotExist(err) {
		t.Fatalf("stat of what is not there: %v", err)
	}
	if h := s.Latency("LOOKUP"); h.Count == 0 || h.Quantile(0.5) <= 0 {
		t.Errorf("histogram of LOOKUP: %+v", h)
	}
}
