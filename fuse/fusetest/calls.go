package fusetest

import (
	"syscall"
	"unsafe"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/fuse/channel"
	"github.com/sluicefs/sluice/fuse/wire"
)

// InitReply is what a server answered to INIT.
type InitReply = fuse.InitOut

// Init opens the session as Linux does, and waits until the server's channel
// has been started.
func (k *Kernel) Init() (InitReply, syscall.Errno) {
	in := fuse.InitIn{Major: 7, Minor: k.opts.Minor, MaxReadAhead: 128 << 10}
	in.Flags, in.Flags2 = uint32(k.opts.Flags), uint32(k.opts.Flags>>32)
	if in.Flags&fuse.CAP_INIT_EXT == 0 {
		in.Flags2 = 0
	}
	args := argsOf(&in)
	if k.opts.Minor < 36 {
		args = args[:16]
	}
	var out InitReply
	reply := k.Call(&Request{Op: wire.OpInit, Args: args, plain: true})
	copy(bytesOf(&out), reply.Body)
	if reply.Errno == 0 {
		<-k.started
	}
	return out, reply.Errno
}

// Params returns what the server told its channel after INIT.
func (k *Kernel) Params() channel.Params {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.params
}

// bytesOf views a protocol struct as its bytes.
func bytesOf[T any](v *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))
}

// Args returns the fixed arguments of in, one of package fuse's In types. They
// are in's own memory.
func Args[T any](in *T) []byte { return argsOf(in) }

// argsOf is bytesOf for one of package fuse's In types, without its header.
func argsOf[T any](in *T) []byte { return bytesOf(in)[wire.InHeaderSize:] }

// Do puts an operation with the fixed arguments of in, one of package fuse's
// In types (nil = none), names and data to the server; the answer's fixed
// struct is out (struct{} = none), followed by rest.
func Do[Out, In any](k *Kernel, op wire.Opcode, node uint64, in *In, names []string, data []byte) (out Out, rest []byte, errno syscall.Errno) {
	r := &Request{Op: op, Node: node}
	if in != nil {
		r.Args = argsOf(in)
	}
	for _, name := range names {
		r.Payload = append(append(r.Payload, name...), 0)
	}
	r.Payload = append(r.Payload, data...)
	reply := k.Call(r)
	n := copy(bytesOf(&out), reply.Body)
	return out, reply.Body[n:], reply.Errno
}

type none struct{ fuse.InHeader }

// Lookup asks for a name of a directory.
func (k *Kernel) Lookup(parent uint64, name string) (fuse.EntryOut, syscall.Errno) {
	out, _, errno := Do[fuse.EntryOut, none](k, wire.OpLookup, parent, nil, []string{name}, nil)
	return out, errno
}

// Getattr asks for attributes.
func (k *Kernel) Getattr(node uint64) (fuse.AttrOut, syscall.Errno) {
	out, _, errno := Do[fuse.AttrOut](k, wire.OpGetattr, node, &fuse.GetAttrIn{}, nil, nil)
	return out, errno
}

// Open opens a file.
func (k *Kernel) Open(node uint64, flags uint32) (fuse.OpenOut, syscall.Errno) {
	out, _, errno := Do[fuse.OpenOut](k, wire.OpOpen, node, &fuse.OpenIn{Flags: flags}, nil, nil)
	return out, errno
}

// Read reads from an open file.
func (k *Kernel) Read(node, fh, offset uint64, size uint32) ([]byte, syscall.Errno) {
	_, data, errno := Do[struct{}](k, wire.OpRead, node, &fuse.ReadIn{Fh: fh, Offset: offset, Size: size}, nil, nil)
	return data, errno
}

// Write writes to an open file.
func (k *Kernel) Write(node, fh, offset uint64, data []byte) (uint32, syscall.Errno) {
	in := fuse.WriteIn{Fh: fh, Offset: offset, Size: uint32(len(data))}
	out, _, errno := Do[fuse.WriteOut](k, wire.OpWrite, node, &in, nil, data)
	return out.Size, errno
}

// Readdirplus lists a directory from offset on.
func (k *Kernel) Readdirplus(node, fh, offset uint64, size uint32) ([]byte, syscall.Errno) {
	_, data, errno := Do[struct{}](k, wire.OpReaddirplus, node, &fuse.ReadIn{Fh: fh, Offset: offset, Size: size}, nil, nil)
	return data, errno
}

// Release closes a handle.
func (k *Kernel) Release(node, fh uint64) syscall.Errno {
	_, _, errno := Do[struct{}](k, wire.OpRelease, node, &fuse.ReleaseIn{Fh: fh}, nil, nil)
	return errno
}

// Interrupt tells the server that a request's caller got a signal.
func (k *Kernel) Interrupt(unique uint64) {
	args := ne.AppendUint64(nil, unique)
	k.Call(&Request{Op: wire.OpInterrupt, Unique: unique | wire.UniqueInterrupt, Args: args, plain: true})
}
