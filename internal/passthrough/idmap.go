package passthrough

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// An IDMap maps user or group ids between the mount and the files below. The
// zero value leaves them as they are.
type IDMap []IDRange

// An IDRange maps Count ids: from Mount on in the mount, from Host on below.
type IDRange struct {
	Mount, Host, Count uint32
}

// nobody is shown for an id that no range has.
const nobody = 65534

// ParseIDMap reads ranges such as "0:100000:65536": the first id in the mount,
// the first one below, and how many.
func ParseIDMap(texts []string) (IDMap, error) {
	var m IDMap
	for _, text := range texts {
		var r IDRange
		parts := strings.Split(text, ":")
		if len(parts) != 3 {
			return nil, fmt.Errorf("range of ids %q: three numbers with colons between them", text)
		}
		for i, dst := range []*uint32{&r.Mount, &r.Host, &r.Count} {
			n, err := strconv.ParseUint(parts[i], 10, 32)
			if err != nil {
				return nil, fmt.Errorf("range of ids %q: %q is no number", text, parts[i])
			}
			*dst = uint32(n)
		}
		if r.Count == 0 || uint64(r.Mount)+uint64(r.Count) > 1<<32-1 || uint64(r.Host)+uint64(r.Count) > 1<<32-1 {
			return nil, fmt.Errorf("range of ids %q: empty or too large", text)
		}
		for _, o := range m {
			if overlap(r.Mount, o.Mount, r.Count, o.Count) || overlap(r.Host, o.Host, r.Count, o.Count) {
				return nil, fmt.Errorf("range of ids %q: overlaps another", text)
			}
		}
		m = append(m, r)
	}
	return m, nil
}

func overlap(a, b, na, nb uint32) bool {
	return uint64(a) < uint64(b)+uint64(nb) && uint64(b) < uint64(a)+uint64(na)
}

// shown returns the mount's id for one of the files below.
func (m IDMap) shown(host uint32) uint32 {
	for _, r := range m {
		if host >= r.Host && host-r.Host < r.Count {
			return r.Mount + host - r.Host
		}
	}
	if m == nil {
		return host
	}
	return nobody
}

// below is the inverse of shown; false if no range has the id.
func (m IDMap) below(id uint32) (uint32, bool) {
	for _, r := range m {
		if id >= r.Mount && id-r.Mount < r.Count {
			return r.Host + id - r.Mount, true
		}
	}
	return id, m == nil
}

// Tags of entries of a POSIX ACL that have an id.
const (
	aclUser  = 0x02
	aclGroup = 0x08
)

// isACL reports whether the value of an attribute is a POSIX ACL.
func isACL(attr string) bool {
	return attr == "system.posix_acl_access" || attr == "system.posix_acl_default"
}

// mapACL replaces the ids in b, the value of an ACL attribute (a version, then
// entries of tag, permissions and id, little endian). It reports whether all
// could be.
func mapACL(b []byte, user, group func(uint32) (uint32, bool)) bool {
	le := binary.LittleEndian
	for e := 4; e+8 <= len(b); e += 8 {
		f := user
		switch le.Uint16(b[e:]) {
		case aclUser:
		case aclGroup:
			f = group
		default:
			continue
		}
		id, ok := f(le.Uint32(b[e+4:]))
		if !ok {
			return false
		}
		le.PutUint32(b[e+4:], id)
	}
	return true
}
