package wire

import "encoding/binary"

// extSuppGroups is the type of a block of supplementary groups; all smaller
// values are the number of security contexts in a block of those.
const (
	maxSecurityContexts = 31
	extSuppGroups       = 32
)

// A SecurityContext is a label that a new inode is to get, as an extended
// attribute would hold it.
type SecurityContext struct {
	Name  string // such as "security.selinux"
	Value []byte // refers to the parsed bytes
}

// Extensions is what can follow the names of a request that creates
// something: SYMLINK, MKNOD, MKDIR, CREATE, TMPFILE.
type Extensions struct {
	Security []SecurityContext // at most 31
	Groups   []uint32          // a group of the caller that the new inode's directory has
}

// ParseExtensions decodes the extension area: the last TotalExtlen*8 bytes of
// a request. Blocks of a type that is not known are skipped. It returns false
// if a length leads outside, or a count contradicts its length.
func ParseExtensions(b []byte) (x Extensions, ok bool) {
	ne := binary.NativeEndian
	for len(b) > 0 {
		if len(b) < 8 {
			return x, false
		}
		size, kind := ne.Uint32(b), ne.Uint32(b[4:])
		if size < 8 || uint64(size) > uint64(len(b)) {
			return x, false
		}
		block := b[8:size]
		switch {
		case kind <= maxSecurityContexts:
			if x.Security, ok = appendSecurity(x.Security, block, int(kind)); !ok {
				return x, false
			}
		case kind == extSuppGroups:
			if x.Groups, ok = appendGroups(x.Groups, block); !ok {
				return x, false
			}
		}
		b = b[min(Align8(int(size)), len(b)):]
	}
	return x, true
}

// appendSecurity decodes n security contexts: for each its size, a name and a
// value, padded to eight bytes.
func appendSecurity(to []SecurityContext, b []byte, n int) ([]SecurityContext, bool) {
	ne := binary.NativeEndian
	if len(to)+n > maxSecurityContexts {
		return to, false
	}
	for range n {
		if len(b) < 8 {
			return to, false
		}
		size := ne.Uint32(b)
		name, rest, ok := CutString(b[8:])
		if !ok || uint64(size) > uint64(len(rest)) {
			return to, false
		}
		to = append(to, SecurityContext{Name: string(name), Value: rest[:size:size]})
		b = b[min(Align8(8+len(name)+1+int(size)), len(b)):]
	}
	return to, true
}

// appendGroups decodes a count and as many group ids.
func appendGroups(to []uint32, b []byte) ([]uint32, bool) {
	// The count takes the place of the first word of the block's data: the
	// header of a block of groups is {size, kind}, then {nr_groups, groups}.
	ne := binary.NativeEndian
	if len(b) < 4 {
		return to, false
	}
	n := ne.Uint32(b)
	b = b[4:]
	if uint64(n)*4 > uint64(len(b)) {
		return to, false
	}
	for ; n > 0; n-- {
		to = append(to, ne.Uint32(b))
		b = b[4:]
	}
	return to, true
}

// AppendExtensions appends x's bytes, whose length is a multiple of eight, to
// b, whose length should be one.
func AppendExtensions(b []byte, x Extensions) []byte {
	ne := binary.NativeEndian
	if len(x.Security) > 0 {
		start := len(b)
		b = ne.AppendUint32(b, 0)
		b = ne.AppendUint32(b, uint32(len(x.Security)))
		for _, s := range x.Security {
			b = ne.AppendUint32(b, uint32(len(s.Value)))
			b = ne.AppendUint32(b, 0)
			b = append(append(b, s.Name...), 0)
			b = pad8(append(b, s.Value...), start)
		}
		ne.PutUint32(b[start:], uint32(len(b)-start))
	}
	if len(x.Groups) > 0 {
		start := len(b)
		b = ne.AppendUint32(b, uint32(12+4*len(x.Groups)))
		b = ne.AppendUint32(b, extSuppGroups)
		b = ne.AppendUint32(b, uint32(len(x.Groups)))
		for _, g := range x.Groups {
			b = ne.AppendUint32(b, g)
		}
		b = pad8(b, start)
	}
	return b
}

// pad8 fills b with zeros until it is a multiple of eight bytes from start.
func pad8(b []byte, start int) []byte {
	for (len(b)-start)%8 != 0 {
		b = append(b, 0)
	}
	return b
}
