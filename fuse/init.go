package fuse

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"github.com/sluicefs/sluice/fuse/channel"
	"github.com/sluicefs/sluice/fuse/wire"
)

var pageSize = os.Getpagesize()

// handleInit answers INIT, tells the file system and the channel, and opens
// the session.
func (e *engine) handleInit(r *Request) {
	in := inAs[InitIn](r)
	m, op := r.msg, wire.OpInit
	if e.state.Load() != sessionNew {
		e.refuse(m, r, op, Status(syscall.ENOTCONN))
		return
	}
	if t := e.trace.Load(); t != nil {
		r.unique.Store(r.in.Unique)
		t.received(r)
	}
	out := outAs[InitOut](r)
	*out = InitOut{}
	if in.Major < wire.KernelVersion || len(m.Args) < 8 {
		e.fail("the kernel speaks fuse protocol %d.%d; 7.0 or newer is needed", in.Major, in.Minor)
		e.send(m, r, op, syscall.EPROTO, 0)
		return
	}
	if in.Major > wire.KernelVersion { // it will ask again with ours
		out.Major, out.Minor = wire.KernelVersion, wire.KernelMinorVersion
		e.send(m, r, op, 0, wire.InitOutCompatSize)
		return
	}
	e.initIn = *in
	e.negotiate(in, out)
	e.initOut = *out
	e.settleLayout()
	e.guard(r, func() Status { e.fs.Init(e.server); return OK })
	n := int(unsafe.Sizeof(*out))
	if in.Minor < 23 {
		n = wire.InitOut22Size
	}
	if in.Minor < 5 {
		n = wire.InitOutCompatSize
	}
	e.state.Store(sessionOn)
	if t := e.trace.Load(); t != nil {
		t.answered(r, 0, n)
	}
	e.send(m, r, op, 0, n)
	e.open()
}

// open starts the channel with what was agreed, and lets those in who wait
// for the mount.
func (e *engine) open() {
	if err := e.ch.Start(e.params); err != nil {
		e.fail("start the %s channel: %w", e.ch.Caps().Transport, err)
	}
	e.notify.open()
	e.readied.Do(func() { close(e.ready) })
}

// negotiate fills out with what the session will use, out of what the kernel
// offers, the options want and the channel can.
func (e *engine) negotiate(in *InitIn, out *InitOut) {
	caps := e.ch.Caps()
	flags := e.wantedFlags(in, caps)
	out.Major = wire.KernelVersion
	out.Minor = min(in.Minor, wire.KernelMinorVersion)
	out.MaxReadAhead = in.MaxReadAhead
	if n := e.opts.MaxReadAhead; n > 0 && uint32(min(n, 1<<30)) < in.MaxReadAhead {
		out.MaxReadAhead = uint32(n)
	}
	out.MaxBackground = uint16(min(max(e.opts.MaxBackground, 0), 1<<16-1))
	if out.MaxBackground == 0 {
		out.MaxBackground = 12
	}
	out.CongestionThreshold = uint16(min(max(e.opts.CongestionThreshold, 0), 1<<16-1))
	if out.CongestionThreshold == 0 {
		out.CongestionThreshold = uint16(uint32(out.MaxBackground) * 3 / 4)
	}
	out.TimeGran = 1
	pages := e.maxPages(flags, caps)
	out.MaxPages = uint16(pages)
	out.MaxWrite = uint32(max(min(e.wantedWrite(), pages*pageSize), 4096))
	if flags&CAP_PASSTHROUGH != 0 {
		out.MaxStackDepth = uint32(min(max(e.opts.MaxStackDepth, 1), 2))
	}
	if flags&CAP_REQUEST_TIMEOUT != 0 {
		out.RequestTimeout = uint16(min(max(e.opts.RequestTimeout.Seconds(), 1), 1<<16-1))
	}
	out.SetFlags64(flags)
	if in.Flags&CAP_INIT_EXT == 0 {
		out.Flags &^= CAP_INIT_EXT
		out.Flags2 = 0
	}
	e.params = channel.Params{
		Minor: out.Minor, Flags: out.Flags64(), MaxWrite: out.MaxWrite,
		MaxPages: uint32(pages), MaxBackground: out.MaxBackground,
	}
}

// baseFlags are used wherever the kernel offers them. AUTO_INVAL_DATA is one
// of them because a stale read is worse than the GETATTR that it costs where
// attributes have expired; DisabledCapabilities turns it off.
const baseFlags = CAP_ASYNC_READ | CAP_AUTO_INVAL_DATA | CAP_BIG_WRITES | CAP_READDIRPLUS | CAP_ASYNC_DIO |
	CAP_NO_OPEN_SUPPORT | CAP_PARALLEL_DIROPS | CAP_ABORT_ERROR | CAP_MAX_PAGES |
	CAP_NO_OPENDIR_SUPPORT | CAP_IOCTL_DIR | CAP_INIT_EXT | CAP_HAS_EXPIRE_ONLY | CAP_HAS_RESEND |
	CAP_PASSTHROUGH

// wantedFlags picks from the kernel's offer.
func (e *engine) wantedFlags(in *InitIn, caps channel.Caps) uint64 {
	o := &e.opts
	want := uint64(baseFlags) | caps.InitFlags
	for _, f := range []struct {
		on   bool
		flag uint64
	}{
		{o.EnableLocks, CAP_POSIX_LOCKS | CAP_FLOCK_LOCKS},
		{o.EnableSymlinkCaching, CAP_CACHE_SYMLINKS},
		{o.ExplicitDataCacheControl, CAP_EXPLICIT_INVAL_DATA},
		{o.EnableAcl, CAP_POSIX_ACL},
		{o.IDMappedMount, CAP_ALLOW_IDMAP},
		{o.RequestTimeout > 0, CAP_REQUEST_TIMEOUT},
		{o.WritebackCache, CAP_WRITEBACK_CACHE},
	} {
		if f.on {
			want |= f.flag
		}
	}
	want |= o.ExtraCapabilities
	if o.SyncRead {
		want &^= CAP_ASYNC_READ
	}
	if o.DisableReadDirPlus {
		want &^= CAP_READDIRPLUS | CAP_READDIRPLUS_AUTO
	}
	// The kernel refuses backing files under a write-back cache.
	if !caps.Backing || want&CAP_WRITEBACK_CACHE != 0 {
		want &^= CAP_PASSTHROUGH
	}
	if want&CAP_EXPLICIT_INVAL_DATA != 0 {
		want &^= CAP_AUTO_INVAL_DATA
	}
	want &^= o.DisabledCapabilities | CAP_INIT_RESERVED | CAP_FILE_OPS
	return want & in.Flags64()
}

func (e *engine) wantedWrite() int {
	if n := e.opts.MaxWrite; n > 0 {
		return n
	}
	return DefaultMaxWrite
}

// maxPages is the most pages of a request: what the options want, the channel
// has room for and the kernel allows.
func (e *engine) maxPages(flags uint64, caps channel.Caps) int {
	if flags&CAP_MAX_PAGES == 0 {
		return 32
	}
	n := (e.wantedWrite() + pageSize - 1) / pageSize
	if caps.MaxPayload > 0 {
		n = min(n, caps.MaxPayload/pageSize)
	}
	return max(min(n, maxPagesLimit()), 1)
}

// maxPagesLimit is the most pages of a request that the kernel allows.
func maxPagesLimit() int {
	b, err := os.ReadFile("/proc/sys/fs/fuse/max_pages_limit")
	if err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && n > 0 {
			return min(n, 65535)
		}
	}
	return 256
}

// settleLayout fits the sizes of arguments to the version and flags in use.
func (e *engine) settleLayout() {
	if e.params.Flags&CAP_SETXATTR_EXT == 0 {
		e.argSizes[wire.OpSetxattr] = wire.SetxattrCompatSize
	}
	if e.params.Minor < 12 {
		e.argSizes[wire.OpMknod] = 8
		e.argSizes[wire.OpCreate] = 8
	}
	if e.params.Minor < 9 {
		e.argSizes[wire.OpGetattr] = 0
		e.argSizes[wire.OpRead] = 24
		e.argSizes[wire.OpWrite] = 24
		e.argSizes[wire.OpReaddir] = 24
	}
}

// compat shortens the answer to op, n bytes, to what an old kernel expects.
// Before 7.9 attributes ended eight bytes earlier, and before 7.4 so did much
// of STATFS.
func (e *engine) compat(op wire.Opcode, m *channel.Request, n int) int {
	if e.params.Minor >= 9 || n == 0 || e.state.Load() == sessionNew {
		return n
	}
	switch op {
	case wire.OpLookup, wire.OpSymlink, wire.OpMknod, wire.OpMkdir, wire.OpLink:
		return n - 8
	case wire.OpGetattr, wire.OpSetattr:
		return n - 8
	case wire.OpCreate:
		copy(m.Out[wire.EntryOutSize-8:], m.Out[wire.EntryOutSize:n])
		return n - 8
	case wire.OpStatfs:
		if e.params.Minor < 4 {
			return 48
		}
	}
	return n
}

// copyHeader decodes a request's header: the layouts are the same.
func copyHeader(h *InHeader, b []byte) {
	copy((*[wire.InHeaderSize]byte)(unsafe.Pointer(h))[:], b)
}
