package fuse

import "github.com/sluicefs/sluice/fuse/wire"

// What a RawFileSystem may have besides. The server looks once, when it is
// made: an operation whose interface is missing is answered with ENOSYS, which
// the kernel remembers for the whole session, and one whose interface is there
// never is: ENOSYS from it becomes ENOTSUP.
type (
	// RawPoller answers POLL: which events of in.Events are there now. With
	// FUSE_POLL_SCHEDULE_NOTIFY in in.Flags the caller waits for more, until
	// Notifier.Poll(in.Kh) is called. It must not block. A server whose file
	// system has it must not open its own files with package os: Go's runtime
	// polls what it opens.
	RawPoller interface {
		Poll(cancel <-chan struct{}, in *PollIn, out *PollOut) Status
	}

	// RawBmapper answers BMAP: where a block of a file is on the device. Only
	// mounts of type fuseblk ask.
	RawBmapper interface {
		Bmap(cancel <-chan struct{}, in *BmapIn, out *BmapOut) Status
	}

	// RawSyncer answers SYNCFS: write out all that is not yet stored.
	RawSyncer interface {
		Syncfs(cancel <-chan struct{}, in *SyncfsIn) Status
	}

	// RawCopier64 answers COPY_FILE_RANGE_64, whose result may exceed 4 GiB
	// (protocol 7.45). Without it the kernel uses CopyFileRange.
	RawCopier64 interface {
		CopyFileRange64(cancel <-chan struct{}, in *CopyFileRangeIn, out *CopyFileRangeOut) Status
	}

	// RawMapper maps ranges of files into the memory window of a virtiofs
	// device (DAX). RemoveMapping's ranges are lent.
	RawMapper interface {
		SetupMapping(cancel <-chan struct{}, in *SetupMappingIn) Status
		RemoveMapping(cancel <-chan struct{}, header *InHeader, ranges []RemoveMappingOne) Status
	}

	// RawDestroyer is told of DESTROY, which block-device and virtiofs mounts
	// send as their last request.
	RawDestroyer interface {
		Destroy()
	}

	// RawLister tells operations apart that a file system has not, though
	// each RawFileSystem has a method for them: opcodes for which Lacks is
	// true are answered with ENOSYS without a call. It is asked once for each
	// opcode, when the server is made.
	RawLister interface {
		Lacks(opcode uint32) bool
	}
)

// present turns an accidental ENOSYS into ENOTSUP.
func present(st Status) Status {
	if st == ENOSYS {
		return ENOTSUP
	}
	return st
}

// registerOptional finds what the file system can do.
func (e *engine) registerOptional() {
	if fs, ok := e.fs.(RawPoller); ok {
		e.ops[wire.OpPoll] = func(_ *engine, r *Request) Status {
			out := outAs[PollOut](r)
			*out = PollOut{}
			return reply[PollOut](r, present(fs.Poll(r.cancel, inAs[PollIn](r), out)))
		}
	}
	if fs, ok := e.fs.(RawBmapper); ok {
		e.ops[wire.OpBmap] = func(_ *engine, r *Request) Status {
			out := outAs[BmapOut](r)
			*out = BmapOut{}
			return reply[BmapOut](r, present(fs.Bmap(r.cancel, inAs[BmapIn](r), out)))
		}
	}
	if fs, ok := e.fs.(RawSyncer); ok {
		e.ops[wire.OpSyncfs] = func(_ *engine, r *Request) Status {
			return present(fs.Syncfs(r.cancel, inAs[SyncfsIn](r)))
		}
	}
	if fs, ok := e.fs.(RawCopier64); ok {
		e.ops[wire.OpCopyFileRange64] = func(_ *engine, r *Request) Status {
			out := outAs[CopyFileRangeOut](r)
			*out = CopyFileRangeOut{}
			return reply[CopyFileRangeOut](r, present(fs.CopyFileRange64(r.cancel, inAs[CopyFileRangeIn](r), out)))
		}
	}
	if fs, ok := e.fs.(RawMapper); ok {
		e.registerMapper(fs)
	}
	if fs, ok := e.fs.(RawDestroyer); ok {
		e.ops[wire.OpDestroy] = func(*engine, *Request) Status { fs.Destroy(); return OK }
	}
	if e.opts.DisableXAttrs {
		for _, op := range []wire.Opcode{wire.OpGetxattr, wire.OpSetxattr, wire.OpListxattr, wire.OpRemovexattr} {
			e.ops[op] = nil
		}
	}
	e.asked[wire.OpSetlkw] = true
	lister, _ := e.fs.(RawLister)
	asker, _ := e.fs.(Interruptible)
	for op := range uint32(wire.OpLimit) {
		if lister != nil && lister.Lacks(op) {
			e.ops[op] = nil
		}
		if asker != nil && asker.Interruptible(op) {
			e.asked[op] = true
		}
	}
}

func (e *engine) registerMapper(fs RawMapper) {
	e.ops[wire.OpSetupmapping] = func(_ *engine, r *Request) Status {
		return present(fs.SetupMapping(r.cancel, inAs[SetupMappingIn](r)))
	}
	e.ops[wire.OpRemovemapping] = func(_ *engine, r *Request) Status {
		count := nativeEndian.Uint32(r.in.args[:])
		if uint64(count)*wire.RemovemappingSize > uint64(len(r.payload)) {
			return EINVAL
		}
		ranges := make([]RemoveMappingOne, count)
		for i := range ranges {
			b := r.payload[i*wire.RemovemappingSize:]
			ranges[i] = RemoveMappingOne{nativeEndian.Uint64(b), nativeEndian.Uint64(b[8:])}
		}
		return present(fs.RemoveMapping(r.cancel, &r.in.InHeader, ranges))
	}
}
