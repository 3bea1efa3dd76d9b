package wire

import (
	"bytes"
	"encoding/binary"
	"iter"
)

// MaxName is the longest name in bytes, without its NUL, that the kernel
// passes: FUSE_NAME_MAX.
const MaxName = 1024

// CutString returns the NUL-terminated string at the start of b, without the
// NUL, and what follows it. Both keep referring to b. It returns false if b
// has no NUL. The string may be empty.
func CutString(b []byte) (s, rest []byte, ok bool) {
	i := bytes.IndexByte(b, 0)
	if i < 0 {
		return nil, b, false
	}
	return b[:i], b[i+1:], true
}

// ValidName reports whether b may name a directory entry: not empty, not
// longer than [MaxName], without a slash or NUL.
func ValidName(b []byte) bool {
	if len(b) == 0 || len(b) > MaxName {
		return false
	}
	for _, c := range b {
		if c == 0 || c == '/' {
			return false
		}
	}
	return true
}

// A Forget takes back Nlookup references to a node: fuse_forget_one.
type Forget struct {
	NodeID  uint64
	Nlookup uint64
}

// ParseBatchForget checks the body of BATCH_FORGET, the bytes after the
// header, and returns its entries without copying them. It returns false if
// the count does not fit the bytes.
func ParseBatchForget(b []byte) (n int, forgets iter.Seq[Forget], ok bool) {
	if len(b) < 8 {
		return 0, nil, false
	}
	ne := binary.NativeEndian
	count := ne.Uint32(b)
	b = b[8:]
	if uint64(count)*ForgetOneSize > uint64(len(b)) {
		return 0, nil, false
	}
	b = b[:int(count)*ForgetOneSize]
	return int(count), func(yield func(Forget) bool) {
		for ; len(b) > 0; b = b[ForgetOneSize:] {
			if !yield(Forget{ne.Uint64(b), ne.Uint64(b[8:])}) {
				return
			}
		}
	}, true
}

// Align8 rounds n up to a multiple of eight, the alignment of directory
// records and extension blocks.
func Align8(n int) int { return (n + 7) &^ 7 }
