package estargz

import "encoding/binary"

// flat reads a FlatBuffer: https://flatbuffers.dev/internals. Nothing of it
// is trusted: an offset that leads out makes bad true, and what is read from
// then on is zero.
//
// Many fields may point to one string, so that a small buffer can stand for
// much more than it has; room is how many bytes may still be copied out.
type flat struct {
	b    []byte
	room int64
	bad  bool
}

// table is the position of a table; 0 is none.
type table uint32

func newFlat(b []byte) *flat { return &flat{b: b, room: 4*int64(len(b)) + 1<<16} }

// bytes returns n bytes at a position.
func (f *flat) bytes(at, n uint64) []byte {
	if at > uint64(len(f.b)) || n > uint64(len(f.b))-at {
		f.bad = true
		return nil
	}
	return f.b[at : at+n]
}

func (f *flat) u16(at uint64) uint64 {
	if b := f.bytes(at, 2); b != nil {
		return uint64(binary.LittleEndian.Uint16(b))
	}
	return 0
}

func (f *flat) u32(at uint64) uint64 {
	if b := f.bytes(at, 4); b != nil {
		return uint64(binary.LittleEndian.Uint32(b))
	}
	return 0
}

// follow returns where the offset at a position leads to.
func (f *flat) follow(at uint64) uint64 {
	to := at + f.u32(at)
	if to == at || to >= uint64(len(f.b)) {
		f.bad = true
	}
	return to
}

func (f *flat) root() table { return table(f.follow(0)) }

// field returns the position of a table's field, 0 if it has its default.
func (f *flat) field(t table, slot uint64) uint64 {
	if t == 0 || f.bad {
		return 0
	}
	vtable := int64(t) - int64(int32(f.u32(uint64(t))))
	if vtable < 0 || vtable >= int64(len(f.b)) {
		f.bad = true
		return 0
	}
	if 4+2*slot+2 > f.u16(uint64(vtable)) {
		return 0
	}
	off := f.u16(uint64(vtable) + 4 + 2*slot)
	if off == 0 {
		return 0
	}
	return uint64(t) + off
}

func (f *flat) int64(t table, slot uint64) int64 {
	if at := f.field(t, slot); at != 0 {
		if b := f.bytes(at, 8); b != nil {
			return int64(binary.LittleEndian.Uint64(b))
		}
	}
	return 0
}

func (f *flat) uint32(t table, slot uint64) uint32 {
	if at := f.field(t, slot); at != 0 {
		return uint32(f.u32(at))
	}
	return 0
}

// byte returns a field of one byte, def if it is not there.
func (f *flat) byte(t table, slot uint64, def byte) byte {
	if at := f.field(t, slot); at != 0 {
		if b := f.bytes(at, 1); b != nil {
			return b[0]
		}
	}
	return def
}

func (f *flat) sub(t table, slot uint64) table {
	if at := f.field(t, slot); at != 0 {
		return table(f.follow(at))
	}
	return 0
}

// raw returns the bytes of a vector of bytes, or of a string; they lie in the
// buffer.
func (f *flat) raw(t table, slot uint64) []byte {
	if at := f.field(t, slot); at != 0 {
		return f.rawAt(at)
	}
	return nil
}

func (f *flat) rawAt(at uint64) []byte {
	at = f.follow(at)
	return f.bytes(at+4, f.u32(at))
}

func (f *flat) copied(b []byte) string {
	if f.room -= int64(len(b)); f.room < 0 {
		f.bad = true
		return ""
	}
	return string(b)
}

func (f *flat) string(t table, slot uint64) string { return f.copied(f.raw(t, slot)) }

// vector returns the position of the first of n elements of 4 bytes.
func (f *flat) vector(t table, slot uint64) (at uint64, n int) {
	if at = f.field(t, slot); at == 0 {
		return 0, 0
	}
	at = f.follow(at)
	count := f.u32(at)
	if f.bytes(at+4, 4*count) == nil {
		return 0, 0
	}
	return at + 4, int(count)
}
