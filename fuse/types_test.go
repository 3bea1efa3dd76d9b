package fuse

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/sluicefs/sluice/fuse/wire"
)

// The types are laid over the kernel's bytes, so their sizes are the
// protocol's.
func TestTypeSizes(t *testing.T) {
	const head = wire.InHeaderSize
	in := func(op wire.Opcode) uintptr {
		l, _ := op.Layout()
		return head + uintptr(l.In)
	}
	out := func(op wire.Opcode) uintptr {
		l, _ := op.Layout()
		return uintptr(l.Out)
	}
	for _, c := range []struct {
		name      string
		got, want uintptr
	}{
		{"InHeader", unsafe.Sizeof(InHeader{}), head},
		{"OutHeader", unsafe.Sizeof(OutHeader{}), wire.OutHeaderSize},
		{"Attr", unsafe.Sizeof(Attr{}), wire.AttrSize},
		{"Statx", unsafe.Sizeof(Statx{}), 256},
		{"FileLock", unsafe.Sizeof(FileLock{}), 24},
		{"ForgetOne", unsafe.Sizeof(ForgetOne{}), wire.ForgetOneSize},
		{"BackingMap", unsafe.Sizeof(BackingMap{}), 16},
		{"RemoveMappingOne", unsafe.Sizeof(RemoveMappingOne{}), wire.RemovemappingSize},

		{"ForgetIn", unsafe.Sizeof(ForgetIn{}), in(wire.OpForget)},
		{"GetAttrIn", unsafe.Sizeof(GetAttrIn{}), in(wire.OpGetattr)},
		{"SetAttrIn", unsafe.Sizeof(SetAttrIn{}), in(wire.OpSetattr)},
		{"MknodIn", unsafe.Sizeof(MknodIn{}), in(wire.OpMknod)},
		{"MkdirIn", unsafe.Sizeof(MkdirIn{}), in(wire.OpMkdir)},
		{"RenameIn", unsafe.Sizeof(RenameIn{}), in(wire.OpRename2)},
		{"LinkIn", unsafe.Sizeof(LinkIn{}), in(wire.OpLink)},
		{"OpenIn", unsafe.Sizeof(OpenIn{}), in(wire.OpOpen)},
		{"CreateIn", unsafe.Sizeof(CreateIn{}), in(wire.OpCreate)},
		{"ReadIn", unsafe.Sizeof(ReadIn{}), in(wire.OpRead)},
		{"WriteIn", unsafe.Sizeof(WriteIn{}), in(wire.OpWrite)},
		{"ReleaseIn", unsafe.Sizeof(ReleaseIn{}), in(wire.OpRelease)},
		{"FlushIn", unsafe.Sizeof(FlushIn{}), in(wire.OpFlush)},
		{"FsyncIn", unsafe.Sizeof(FsyncIn{}), in(wire.OpFsync)},
		{"SetXAttrIn", unsafe.Sizeof(SetXAttrIn{}), in(wire.OpSetxattr)},
		{"GetXAttrIn", unsafe.Sizeof(GetXAttrIn{}), in(wire.OpGetxattr)},
		{"LkIn", unsafe.Sizeof(LkIn{}), in(wire.OpSetlk)},
		{"AccessIn", unsafe.Sizeof(AccessIn{}), in(wire.OpAccess)},
		{"InterruptIn", unsafe.Sizeof(InterruptIn{}), in(wire.OpInterrupt)},
		{"BmapIn", unsafe.Sizeof(BmapIn{}), in(wire.OpBmap)},
		{"IoctlIn", unsafe.Sizeof(IoctlIn{}), in(wire.OpIoctl)},
		{"PollIn", unsafe.Sizeof(PollIn{}), in(wire.OpPoll)},
		{"NotifyRetrieveIn", unsafe.Sizeof(NotifyRetrieveIn{}), in(wire.OpNotifyReply)},
		{"FallocateIn", unsafe.Sizeof(FallocateIn{}), in(wire.OpFallocate)},
		{"LseekIn", unsafe.Sizeof(LseekIn{}), in(wire.OpLseek)},
		{"CopyFileRangeIn", unsafe.Sizeof(CopyFileRangeIn{}), in(wire.OpCopyFileRange)},
		{"SetupMappingIn", unsafe.Sizeof(SetupMappingIn{}), in(wire.OpSetupmapping)},
		{"SyncfsIn", unsafe.Sizeof(SyncfsIn{}), in(wire.OpSyncfs)},
		{"StatxIn", unsafe.Sizeof(StatxIn{}), in(wire.OpStatx)},
		{"InitIn", unsafe.Sizeof(InitIn{}), in(wire.OpInit)},

		{"EntryOut", unsafe.Sizeof(EntryOut{}), out(wire.OpLookup)},
		{"AttrOut", unsafe.Sizeof(AttrOut{}), out(wire.OpGetattr)},
		{"OpenOut", unsafe.Sizeof(OpenOut{}), out(wire.OpOpen)},
		{"CreateOut", unsafe.Sizeof(CreateOut{}), out(wire.OpCreate)},
		{"WriteOut", unsafe.Sizeof(WriteOut{}), out(wire.OpWrite)},
		{"StatfsOut", unsafe.Sizeof(StatfsOut{}), out(wire.OpStatfs)},
		{"GetXAttrOut", unsafe.Sizeof(GetXAttrOut{}), out(wire.OpGetxattr)},
		{"LkOut", unsafe.Sizeof(LkOut{}), out(wire.OpGetlk)},
		{"BmapOut", unsafe.Sizeof(BmapOut{}), out(wire.OpBmap)},
		{"IoctlOut", unsafe.Sizeof(IoctlOut{}), out(wire.OpIoctl)},
		{"PollOut", unsafe.Sizeof(PollOut{}), out(wire.OpPoll)},
		{"LseekOut", unsafe.Sizeof(LseekOut{}), out(wire.OpLseek)},
		{"StatxOut", unsafe.Sizeof(StatxOut{}), out(wire.OpStatx)},
		{"CopyFileRangeOut", unsafe.Sizeof(CopyFileRangeOut{}), out(wire.OpCopyFileRange64)},
		{"InitOut", unsafe.Sizeof(InitOut{}), out(wire.OpInit)},

		{"NotifyInvalInodeOut", unsafe.Sizeof(NotifyInvalInodeOut{}), wire.NotifyInvalInodeSize},
		{"NotifyInvalEntryOut", unsafe.Sizeof(NotifyInvalEntryOut{}), wire.NotifyInvalEntrySize},
		{"NotifyInvalDeleteOut", unsafe.Sizeof(NotifyInvalDeleteOut{}), wire.NotifyDeleteSize},
		{"NotifyStoreOut", unsafe.Sizeof(NotifyStoreOut{}), wire.NotifyStoreSize},
		{"NotifyRetrieveOut", unsafe.Sizeof(NotifyRetrieveOut{}), wire.NotifyRetrieveSize},
		{"NotifyPruneOut", unsafe.Sizeof(NotifyPruneOut{}), wire.NotifyPruneSize},
	} {
		if c.got != c.want {
			t.Errorf("size of %s: got %d, want %d", c.name, c.got, c.want)
		}
	}
	if got := unsafe.Offsetof(StatxOut{}.Statx); got != 32 {
		t.Errorf("offset of StatxOut.Statx: got %d, want 32", got)
	}
	if got := unsafe.Offsetof(Statx{}.Atime); got != 64 {
		t.Errorf("offset of Statx.Atime: got %d, want 64", got)
	}
}

func TestToStatus(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Status
	}{
		{nil, OK},
		{syscall.ENOSPC, Status(syscall.ENOSPC)},
		{fmt.Errorf("wrapped: %w", syscall.EXDEV), EXDEV},
		{&os.PathError{Op: "open", Path: "x", Err: syscall.EACCES}, EACCES},
		{os.ErrNotExist, ENOENT},
		{os.ErrPermission, EPERM},
		{os.ErrExist, Status(syscall.EEXIST)},
		{context.Canceled, EINTR},
		{context.DeadlineExceeded, Status(syscall.ETIMEDOUT)},
		{errors.ErrUnsupported, ENOTSUP},
		{errors.New("anything"), EIO},
	} {
		if got := ToStatus(c.err); got != c.want {
			t.Errorf("ToStatus(%v): got %v, want %v", c.err, got, c.want)
		}
	}
	if got := OK.String(); got != "OK" {
		t.Errorf("OK: got %q", got)
	}
	if got := ENOENT.String(); !strings.Contains(got, "no such file") {
		t.Errorf("ENOENT: got %q", got)
	}
}

func TestTimeouts(t *testing.T) {
	var e EntryOut
	e.SetEntryTimeout(1500 * time.Millisecond)
	e.SetAttrTimeout(-time.Second)
	if e.EntryValid != 1 || e.EntryValidNsec != 5e8 || e.EntryTimeout() != 1500*time.Millisecond {
		t.Errorf("entry: got %d s %d ns", e.EntryValid, e.EntryValidNsec)
	}
	if e.AttrTimeout() != 0 {
		t.Errorf("negative time-out: got %v, want 0", e.AttrTimeout())
	}
	a := AttrOut{AttrValid: 1 << 63}
	if a.Timeout() <= 0 {
		t.Errorf("huge time-out overflows to %v", a.Timeout())
	}
}

func TestSetAttrValid(t *testing.T) {
	in := SetAttrInCommon{
		Valid: FATTR_MODE | FATTR_UID | FATTR_MTIME,
		Mode:  syscall.S_IFREG | 0o4755, Owner: Owner{Uid: 7, Gid: 8}, Mtime: 5, Mtimensec: 6,
	}
	if m, ok := in.GetMode(); !ok || m != 0o4755 {
		t.Errorf("mode: got %o, %v", m, ok)
	}
	if u, ok := in.GetUID(); !ok || u != 7 {
		t.Errorf("uid: got %d, %v", u, ok)
	}
	if g, ok := in.GetGID(); ok || g != ^uint32(0) {
		t.Errorf("gid that is not to change: got %d, %v", g, ok)
	}
	if mt, ok := in.GetMTime(); !ok || !mt.Equal(time.Unix(5, 6)) {
		t.Errorf("mtime: got %v, %v", mt, ok)
	}
	if _, ok := in.GetATime(); ok {
		t.Error("atime is to change, though it is not valid")
	}
	in.Valid = FATTR_ATIME | FATTR_ATIME_NOW
	before := time.Now()
	if at, ok := in.GetATime(); !ok || at.Before(before) {
		t.Errorf("atime now: got %v, %v", at, ok)
	}
}

func TestInitFlags(t *testing.T) {
	var out InitOut
	out.SetFlags64(CAP_ASYNC_READ | CAP_PASSTHROUGH)
	if out.Flags != CAP_ASYNC_READ|CAP_INIT_EXT || out.Flags2 != CAP_PASSTHROUGH>>32 {
		t.Errorf("got %x, %x", out.Flags, out.Flags2)
	}
	in := InitIn{Major: 7, Minor: 39, Flags: CAP_ASYNC_READ, Flags2: 1}
	if in.Flags64() != CAP_ASYNC_READ {
		t.Errorf("flags2 without INIT_EXT counts: %x", in.Flags64())
	}
	if in.SupportsNotify(NOTIFY_RESEND) || !in.SupportsNotify(NOTIFY_DELETE) || in.SupportsNotify(-99) {
		t.Error("notifications of 7.39 are not told from newer and unknown ones")
	}
	if !in.SupportsVersion(7, 39) || in.SupportsVersion(7, 40) || !in.SupportsVersion(6, 99) {
		t.Error("versions compare wrongly")
	}
}

func TestContext(t *testing.T) {
	cancel := make(chan struct{})
	c := &Context{Caller: Caller{Owner: Owner{Uid: 3}}, Cancel: cancel}
	ctx, stop := context.WithCancel(c)
	defer stop()
	if who, ok := FromContext(ctx); !ok || who.Uid != 3 {
		t.Errorf("caller: got %v, %v", who, ok)
	}
	if who, ok := FromContext(NewContext(ctx, &Caller{Pid: 9})); !ok || who.Pid != 9 {
		t.Errorf("caller of the inner context: got %v, %v", who, ok)
	}
	if _, ok := FromContext(t.Context()); ok {
		t.Error("a plain context has a caller")
	}
	if ctx.Err() != nil {
		t.Errorf("cancelled from the start: %v", ctx.Err())
	}
	close(cancel)
	<-ctx.Done()
	if !errors.Is(ctx.Err(), context.Canceled) {
		t.Errorf("after an interrupt: got %v", ctx.Err())
	}
}

func TestFileLock(t *testing.T) {
	for _, lk := range []FileLock{
		{Start: 0, End: offsetMax, Typ: syscall.F_WRLCK, Pid: 1},
		{Start: 10, End: 10, Typ: syscall.F_RDLCK, Pid: 2},
		{Start: 5, End: 104, Typ: syscall.F_RDLCK},
	} {
		var f syscall.Flock_t
		var back FileLock
		lk.ToFlockT(&f)
		back.FromFlockT(&f)
		if back != lk {
			t.Errorf("%+v through %+v: got %+v", lk, f, back)
		}
	}
}

func TestPrint(t *testing.T) {
	for _, c := range []struct {
		obj  any
		want string
	}{
		{&ReadIn{Fh: 3, Offset: 4096, Size: 100, ReadFlags: READ_LOCKOWNER}, "{Fh=3 Offset=4096 Size=100 ReadFlags=LOCKOWNER LockOwner=0 Flags=0x0}"},
		{OpenOut{Fh: 1, OpenFlags: FOPEN_KEEP_CACHE | FOPEN_STREAM | 1<<20}, "{Fh=1 OpenFlags=KEEP_CACHE|STREAM|0x100000 BackingID=0}"},
		{&MkdirIn{Mode: 0o755, Umask: 0o22}, "{Mode=0755 Umask=022}"},
		{&LkOut{Lk: FileLock{End: 9}}, "{Lk={Start=0 End=9 Typ=0 Pid=0}}"},
		{OK, "OK"},
		{"text", "text"},
	} {
		if got := Print(c.obj); got != c.want {
			t.Errorf("Print(%T):\n got %s\nwant %s", c.obj, got, c.want)
		}
	}
	e := Print(&EntryOut{NodeId: 7, Attr: Attr{Ino: 8, Mode: 0o100644}})
	if !strings.Contains(e, "NodeId=7") || !strings.Contains(e, "mode=0100644") {
		t.Errorf("an entry shows as %s", e)
	}
	if got := CapabilityNames(CAP_OVER_IO_URING | CAP_ASYNC_READ); got != "ASYNC_READ|OVER_IO_URING" {
		t.Errorf("capabilities: got %s", got)
	}
}
