package fuse

import (
	"strings"
	"unsafe"
)

func opOpen(e *engine, r *Request) Status {
	out := outAs[OpenOut](r)
	*out = OpenOut{}
	return reply[OpenOut](r, e.fs.Open(r.cancel, inAs[OpenIn](r), out))
}

func opOpendir(e *engine, r *Request) Status {
	out := outAs[OpenOut](r)
	*out = OpenOut{}
	return reply[OpenOut](r, e.fs.OpenDir(r.cancel, inAs[OpenIn](r), out))
}

func opCreate(e *engine, r *Request) Status {
	out := outAs[CreateOut](r)
	*out = CreateOut{}
	return reply[CreateOut](r, e.fs.Create(r.cancel, inAs[CreateIn](r), r.name, out))
}

func opTmpfile(e *engine, r *Request) Status {
	out := outAs[CreateOut](r)
	*out = CreateOut{}
	return reply[CreateOut](r, e.fs.Tmpfile(r.cancel, inAs[CreateIn](r), out))
}

// opRead lets the file system read into the answer; what it returns from
// elsewhere is copied there. Copying beats splice here.
func opRead(e *engine, r *Request) Status {
	buf := r.out[:r.wanted()]
	res, st := e.fs.Read(r.cancel, inAs[ReadIn](r), buf)
	if st != OK {
		return st
	}
	if res == nil {
		return OK
	}
	data, st := res.Bytes(buf)
	if st == OK {
		data = data[:min(len(data), len(buf))]
		if len(data) > 0 && unsafe.SliceData(data) != unsafe.SliceData(buf) {
			copy(buf, data)
		}
		r.n = len(data)
	}
	res.Done()
	return st
}

// opWrite offers the data as a vector first, as the API promises.
func opWrite(e *engine, r *Request) Status {
	in := inAs[WriteIn](r)
	if uint64(in.Size) > uint64(len(r.payload)) {
		return EINVAL
	}
	data := r.payload[:in.Size:in.Size]
	r.vector[0] = data
	n, st := e.fs.Writev(r.cancel, in, r.vector[:])
	if st == ENOSYS {
		n, st = e.fs.Write(r.cancel, in, data)
	}
	if st == OK {
		*outAs[WriteOut](r) = WriteOut{Size: min(n, in.Size)}
	}
	return reply[WriteOut](r, st)
}

func opRelease(e *engine, r *Request) Status {
	e.fs.Release(r.cancel, inAs[ReleaseIn](r))
	return OK
}

func opReleasedir(e *engine, r *Request) Status {
	e.fs.ReleaseDir(inAs[ReleaseIn](r))
	return OK
}

func opFlush(e *engine, r *Request) Status { return e.fs.Flush(r.cancel, inAs[FlushIn](r)) }

func opFsync(e *engine, r *Request) Status { return e.fs.Fsync(r.cancel, inAs[FsyncIn](r)) }

func opFsyncdir(e *engine, r *Request) Status { return e.fs.FsyncDir(r.cancel, inAs[FsyncIn](r)) }

func opFallocate(e *engine, r *Request) Status {
	return e.fs.Fallocate(r.cancel, inAs[FallocateIn](r))
}

func opLseek(e *engine, r *Request) Status {
	out := outAs[LseekOut](r)
	*out = LseekOut{}
	return reply[LseekOut](r, e.fs.Lseek(r.cancel, inAs[LseekIn](r), out))
}

func opCopyFileRange(e *engine, r *Request) Status {
	in := inAs[CopyFileRangeIn](r)
	n, st := e.fs.CopyFileRange(r.cancel, in)
	if st == OK {
		*outAs[WriteOut](r) = WriteOut{Size: n}
	}
	return reply[WriteOut](r, st)
}

func opReaddir(e *engine, r *Request) Status {
	in := inAs[ReadIn](r)
	r.dirents.reset(r.out[:r.wanted()], in.Offset)
	st := e.fs.ReadDir(r.cancel, in, &r.dirents)
	r.n = len(r.dirents.Bytes())
	return st
}

func opReaddirplus(e *engine, r *Request) Status {
	in := inAs[ReadIn](r)
	r.dirents.reset(r.out[:r.wanted()], in.Offset)
	st := e.fs.ReadDirPlus(r.cancel, in, &r.dirents)
	r.n = len(r.dirents.Bytes())
	return st
}

func opGetlk(e *engine, r *Request) Status {
	out := outAs[LkOut](r)
	*out = LkOut{}
	return reply[LkOut](r, e.fs.GetLk(r.cancel, inAs[LkIn](r), out))
}

func opSetlk(e *engine, r *Request) Status { return e.fs.SetLk(r.cancel, inAs[LkIn](r)) }

// opSetlkw waits by its nature, so it gives its reader back at once.
func opSetlkw(e *engine, r *Request) Status {
	r.msg.Slot.Block()
	return e.fs.SetLkw(r.cancel, inAs[LkIn](r))
}

// opIoctl has the answer's struct and data behind each other; a request whose
// data lies in the same memory is copied away first.
func opIoctl(e *engine, r *Request) Status {
	in := inAs[IoctlIn](r)
	if uint64(in.InSize) > uint64(len(r.payload)) {
		return EINVAL
	}
	const head = int(unsafe.Sizeof(IoctlOut{}))
	data := r.payload[:in.InSize:in.InSize]
	if r.msg.Shared {
		data = r.keep(data)
	}
	room := r.out[head:]
	if uint64(in.OutSize) > uint64(len(room)) {
		return EINVAL
	}
	room = room[:in.OutSize]
	clear(room)
	out := outAs[IoctlOut](r)
	*out = IoctlOut{}
	st := e.fs.Ioctl(r.cancel, in, data, out, room)
	if st == OK {
		r.n = head + len(room)
	}
	return st
}

func opSetxattr(e *engine, r *Request) Status {
	in := inAs[SetXAttrIn](r)
	if uint64(in.Size) > uint64(len(r.payload)) {
		return EINVAL
	}
	return e.fs.SetXAttr(r.cancel, in, r.name, r.payload[:in.Size:in.Size])
}

func opRemovexattr(e *engine, r *Request) Status {
	return e.fs.RemoveXAttr(r.cancel, &r.in.InHeader, r.name)
}

func opGetxattr(e *engine, r *Request) Status {
	if e.skipsXattr(r.name) {
		return ENODATA
	}
	size := inAs[GetXAttrIn](r).Size
	n, st := e.fs.GetXAttr(r.cancel, &r.in.InHeader, r.name, r.out[:r.wanted()])
	return r.xattrs(size, n, st)
}

func opListxattr(e *engine, r *Request) Status {
	size := inAs[GetXAttrIn](r).Size
	n, st := e.fs.ListXAttr(r.cancel, &r.in.InHeader, r.out[:r.wanted()])
	return r.xattrs(size, n, st)
}

// xattrs answers an operation that was given room for size bytes, 0 to ask
// how many there are, and found n of them.
func (r *Request) xattrs(size, n uint32, st Status) Status {
	if size == 0 && (st == OK || st == ERANGE) {
		*outAs[GetXAttrOut](r) = GetXAttrOut{Size: n}
		return reply[GetXAttrOut](r, OK)
	}
	if st != OK {
		return st
	}
	if uint64(n) > uint64(r.wanted()) {
		return ERANGE
	}
	r.n = int(n)
	return OK
}

// skipsXattr reports whether an attribute is kept from the file system
// (MountOptions.IgnoreSecurityLabels).
func (e *engine) skipsXattr(name string) bool {
	return e.opts.IgnoreSecurityLabels && strings.HasPrefix(name, "security.")
}
