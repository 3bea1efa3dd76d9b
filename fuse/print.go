package fuse

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// Print returns a protocol struct, or a pointer to one, as a reader of logs
// wants it: one line, without the header and the fields that mean nothing,
// flags by their names.
func Print(obj any) string {
	v := reflect.ValueOf(obj)
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	// A String method of a protocol struct may be that of an embedded Attr,
	// which would hide the rest.
	_, isAttr := obj.(*Attr)
	if v.Kind() != reflect.Struct || isAttr {
		return fmt.Sprint(obj)
	}
	var b strings.Builder
	b.WriteByte('{')
	printFields(&b, v)
	b.WriteByte('}')
	return b.String()
}

// printFields writes name=value for each field of v that says something.
func printFields(b *strings.Builder, v reflect.Value) {
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() || isFiller(f.Name) || f.Type == reflect.TypeFor[InHeader]() {
			continue
		}
		fv := v.Field(i)
		if fv.Kind() == reflect.Struct {
			if b.Len() > 1 {
				b.WriteByte(' ')
			}
			if f.Type == reflect.TypeFor[Attr]() {
				a := fv.Interface().(Attr)
				b.WriteString(a.String())
				continue
			}
			if !f.Anonymous {
				b.WriteString(f.Name + "=")
			}
			b.WriteByte('{')
			printFields(b, fv)
			b.WriteByte('}')
			continue
		}
		if b.Len() > 0 && !strings.HasSuffix(b.String(), "{") {
			b.WriteByte(' ')
		}
		b.WriteString(strings.TrimSuffix(f.Name, "_") + "=" + printField(t, f.Name, fv))
	}
}

// isFiller reports whether a field only keeps others in their place.
func isFiller(name string) bool {
	for _, p := range []string{"Padding", "Unused", "Dummy", "Spare"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

func printField(t reflect.Type, field string, v reflect.Value) string {
	var n uint64
	switch v.Kind() {
	case reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n = v.Uint()
	default:
		return fmt.Sprint(v.Interface())
	}
	if names, ok := flagFields[t.Name()+"."+field]; ok {
		return flagString(n, names)
	}
	switch {
	case field == "Mode" || field == "Umask":
		return "0" + strconv.FormatUint(n, 8)
	case strings.HasSuffix(field, "Flags") || field == "Mask":
		return "0x" + strconv.FormatUint(n, 16)
	}
	return strconv.FormatUint(n, 10)
}

// flagString returns the names of the bits of n, joined by "|", and the rest
// as a number.
func flagString(n uint64, names []string) string {
	if n == 0 {
		return "0"
	}
	var parts []string
	for i, name := range names {
		if name != "" && n&(1<<i) != 0 {
			parts = append(parts, name)
			n &^= 1 << i
		}
	}
	if n != 0 {
		parts = append(parts, "0x"+strconv.FormatUint(n, 16))
	}
	return strings.Join(parts, "|")
}

// capNames are the flags of INIT by bit.
var capNames = []string{
	"ASYNC_READ", "POSIX_LOCKS", "FILE_OPS", "ATOMIC_O_TRUNC", "EXPORT_SUPPORT", "BIG_WRITES",
	"DONT_MASK", "SPLICE_WRITE", "SPLICE_MOVE", "SPLICE_READ", "FLOCK_LOCKS", "IOCTL_DIR",
	"AUTO_INVAL_DATA", "READDIRPLUS", "READDIRPLUS_AUTO", "ASYNC_DIO", "WRITEBACK_CACHE",
	"NO_OPEN_SUPPORT", "PARALLEL_DIROPS", "HANDLE_KILLPRIV", "POSIX_ACL", "ABORT_ERROR",
	"MAX_PAGES", "CACHE_SYMLINKS", "NO_OPENDIR_SUPPORT", "EXPLICIT_INVAL_DATA", "MAP_ALIGNMENT",
	"SUBMOUNTS", "HANDLE_KILLPRIV_V2", "SETXATTR_EXT", "INIT_EXT", "INIT_RESERVED",
	"SECURITY_CTX", "HAS_INODE_DAX", "CREATE_SUPP_GROUP", "HAS_EXPIRE_ONLY",
	"DIRECT_IO_ALLOW_MMAP", "PASSTHROUGH", "NO_EXPORT_SUPPORT", "HAS_RESEND", "ALLOW_IDMAP",
	"OVER_IO_URING", "REQUEST_TIMEOUT",
}

// CapabilityNames returns the names of CAP_... flags, joined by "|".
func CapabilityNames(flags uint64) string { return flagString(flags, capNames) }

var fopenNames = []string{
	"DIRECT_IO", "KEEP_CACHE", "NONSEEKABLE", "CACHE_DIR", "STREAM", "NOFLUSH",
	"PARALLEL_DIRECT_WRITES", "PASSTHROUGH",
}

// flagFields has the names of the bits of Type.Field.
var flagFields = map[string][]string{
	"InitIn.Flags":      capNames[:32],
	"InitOut.Flags":     capNames[:32],
	"InitIn.Flags2":     capNames[32:],
	"InitOut.Flags2":    capNames[32:],
	"OpenOut.OpenFlags": fopenNames,
	"SetAttrInCommon.Valid": {
		"MODE", "UID", "GID", "SIZE", "ATIME", "MTIME", "FH", "ATIME_NOW", "MTIME_NOW",
		"LOCKOWNER", "CTIME", "KILL_SUIDGID",
	},
	"WriteIn.WriteFlags":     {"CACHE", "LOCKOWNER", "KILL_SUIDGID"},
	"ReadIn.ReadFlags":       {1: "LOCKOWNER"},
	"ReleaseIn.ReleaseFlags": {"FLUSH", "FLOCK_UNLOCK"},
	"GetAttrIn.Flags_":       {"FH"},
	"LkIn.LkFlags":           {"FLOCK"},
	"FsyncIn.FsyncFlags":     {"DATASYNC"},
	"PollIn.Flags":           {"SCHEDULE_NOTIFY"},
	"AccessIn.Mask":          {"X", "W", "R"},
	"IoctlIn.Flags":          {"COMPAT", "UNRESTRICTED", "RETRY", "32BIT", "DIR"},
	"Attr.Flags":             {"SUBMOUNT", "DAX"},
}

// String returns the attributes on one line.
func (a *Attr) String() string {
	return fmt.Sprintf("{ino=%d mode=0%o size=%d blocks=%d nlink=%d owner=%d:%d rdev=%d mtime=%d.%09d}",
		a.Ino, a.Mode, a.Size, a.Blocks, a.Nlink, a.Uid, a.Gid, a.Rdev, int64(a.Mtime), a.Mtimensec)
}
