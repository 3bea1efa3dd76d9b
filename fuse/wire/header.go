package wire

import "encoding/binary"

// Sizes, in bytes, of structs that several messages share.
const (
	InHeaderSize       = 40
	OutHeaderSize      = 16
	AttrSize           = 88
	EntryOutSize       = 128
	OpenOutSize        = 16
	DirentSize         = 24 // then the name, padded to 8
	DirentplusSize     = EntryOutSize + DirentSize
	ForgetOneSize      = 16
	RemovemappingSize  = 16
	SetxattrCompatSize = 8 // SETXATTR's struct without SETXATTR_EXT
	InitOutCompatSize  = 8 // INIT's reply below 7.5
	InitOut22Size      = 24
)

// InHeader begins every request: fuse_in_header, [InHeaderSize] bytes.
type InHeader struct {
	Length      uint32 // bytes of the whole request, this header included
	Opcode      Opcode
	Unique      uint64 // id of the request; see UniqueResend and UniqueInterrupt
	NodeID      uint64 // the inode that it is about
	UID, GID    uint32 // of the caller, in the user namespace of the mount
	PID         uint32 // thread id of the caller; 0 = the kernel itself, or not visible
	TotalExtlen uint16 // length of the extension area in units of 8 bytes (7.38)
	Padding     uint16
}

// ParseInHeader decodes the first bytes of a request. It returns false if b
// is shorter than a header or than the header says that the request is, or if
// the lengths inside contradict each other.
func ParseInHeader(b []byte) (h InHeader, ok bool) {
	if len(b) < InHeaderSize {
		return h, false
	}
	ne := binary.NativeEndian
	h = InHeader{
		Length:      ne.Uint32(b),
		Opcode:      Opcode(ne.Uint32(b[4:])),
		Unique:      ne.Uint64(b[8:]),
		NodeID:      ne.Uint64(b[16:]),
		UID:         ne.Uint32(b[24:]),
		GID:         ne.Uint32(b[28:]),
		PID:         ne.Uint32(b[32:]),
		TotalExtlen: ne.Uint16(b[36:]),
		Padding:     ne.Uint16(b[38:]),
	}
	if h.Length < InHeaderSize || uint64(h.Length) > uint64(len(b)) {
		return h, false
	}
	return h, int(h.TotalExtlen)*8 <= int(h.Length)-InHeaderSize
}

// AppendInHeader appends h's bytes to b.
func AppendInHeader(b []byte, h InHeader) []byte {
	ne := binary.NativeEndian
	b = ne.AppendUint32(b, h.Length)
	b = ne.AppendUint32(b, uint32(h.Opcode))
	b = ne.AppendUint64(b, h.Unique)
	b = ne.AppendUint64(b, h.NodeID)
	b = ne.AppendUint32(b, h.UID)
	b = ne.AppendUint32(b, h.GID)
	b = ne.AppendUint32(b, h.PID)
	b = ne.AppendUint16(b, h.TotalExtlen)
	return ne.AppendUint16(b, h.Padding)
}

// OutHeader begins every reply and notification: fuse_out_header,
// [OutHeaderSize] bytes.
type OutHeader struct {
	Length uint32 // bytes of the whole reply, this header included
	Error  int32  // 0, a negated errno, or a NotifyCode if Unique is 0
	Unique uint64 // id of the request that is answered; 0 = a notification
}

// ParseOutHeader decodes the first bytes of a reply. It returns false if b is
// not exactly as long as the header says, as the kernel does.
func ParseOutHeader(b []byte) (h OutHeader, ok bool) {
	if len(b) < OutHeaderSize {
		return h, false
	}
	ne := binary.NativeEndian
	h = OutHeader{ne.Uint32(b), int32(ne.Uint32(b[4:])), ne.Uint64(b[8:])}
	return h, uint64(h.Length) == uint64(len(b))
}

// AppendOutHeader appends h's bytes to b.
func AppendOutHeader(b []byte, h OutHeader) []byte {
	ne := binary.NativeEndian
	b = ne.AppendUint32(b, h.Length)
	b = ne.AppendUint32(b, uint32(h.Error))
	return ne.AppendUint64(b, h.Unique)
}

// PutOutHeader writes h to the first [OutHeaderSize] bytes of b, which must
// have them.
func PutOutHeader(b []byte, h OutHeader) {
	_ = b[OutHeaderSize-1]
	ne := binary.NativeEndian
	ne.PutUint32(b, h.Length)
	ne.PutUint32(b[4:], uint32(h.Error))
	ne.PutUint64(b[8:], h.Unique)
}
