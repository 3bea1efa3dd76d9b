// Package mount attaches a FUSE session to a directory and takes it off again,
// without outside programs where the kernel lets it.
//
// A [Point] begins as a descriptor of /dev/fuse ([Prepare]) and becomes a
// mount by [Point.Attach]. The ways to attach, in the order in which
// [Auto] tries them:
//
//   - [API]: fsopen, fsconfig, fsmount, move_mount (Linux 5.2). Option values
//     cannot be mistaken for options, and INIT can be answered before the mount
//     is seen by anyone ([Options.SyncInit], Linux 6.18);
//   - [Syscall]: mount(2), which every kernel has;
//   - [Helper]: the setuid program fusermount3, for ordinary users. It mounts
//     at once, so Prepare does the work and Attach has none.
//
// A descriptor that somebody else has mounted is adopted with [Adopt], or by
// naming /dev/fd/N as the mount point. An ordinary user who has no fusermount3
// can run in a user and mount namespace of its own: see [Namespace].
//
// No call of this package sends a request to the mounted file system, so that
// a server may make them all itself; the exception is [Point.Attach] with
// SyncInit, which waits for INIT.
package mount

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Method is a way to attach.
type Method int

// The ways to attach; see the package comment.
const (
	Auto Method = iota
	API
	Syscall
	Helper
)

var methodNames = [...]string{"auto", "fsopen", "mount", "fusermount3"}

// String names the system call or program.
func (m Method) String() string {
	if m < 0 || int(m) >= len(methodNames) {
		return "method " + strconv.Itoa(int(m))
	}
	return methodNames[m]
}

// Options says what to mount and how. The zero value of each field is the
// kernel's default.
type Options struct {
	// Point is the directory, or the regular file if RootIsFile, to mount
	// on; or /dev/fd/N, where N is a descriptor of a session that is mounted
	// already.
	Point string

	Source  string // first column of /proc/mounts; default: Subtype, or "fuse"
	Subtype string // the type is shown as fuse.Subtype

	AllowOther         bool // let users other than the mounter in
	DefaultPermissions bool // the kernel checks modes and ACLs
	RootIsFile         bool // the root is a regular file, and Point is one

	ReadOnly    bool
	NoSuid      bool // implied for ordinary users
	NoDev       bool // implied for ordinary users
	NoExec      bool
	NoAtime     bool
	NoDirAtime  bool // like NoAtime, for directories
	StrictAtime bool // without it, and NoAtime, times are those of relatime
	Sync        bool // every write is synchronous
	DirSync     bool // changes of directories are synchronous
	AutoUnmount bool // Helper only: it unmounts when this process ends

	MaxRead uint32 // most bytes of a READ; 0: what INIT agrees on

	// Security options of a Linux security module, passed on as they are:
	// "context=...", "fscontext=...", "defcontext=...", "rootcontext=...".
	Security []string

	// Method forces one way to attach.
	Method Method

	// SyncInit makes Attach wait until INIT was answered, if the kernel can
	// and Method is not Helper; [Point.Synchronous] tells. The descriptor
	// must then be read while Attach runs.
	SyncInit bool
}

// Error is what goes wrong here: which step, on which mount point, and what
// the user can do about it.
type Error struct {
	Op    string // "mount", "unmount", "fusermount3", ...
	Point string
	Err   error
	Hint  string // what to do; may be empty
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s %s: %v", e.Op, e.Point, e.Err)
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// flagOptions are the options of "-o" that take no value.
var flagOptions = map[string]func(*Options){
	"allow_other":         func(o *Options) { o.AllowOther = true },
	"default_permissions": func(o *Options) { o.DefaultPermissions = true },
	"auto_unmount":        func(o *Options) { o.AutoUnmount = true },
	"ro":                  func(o *Options) { o.ReadOnly = true },
	"rw":                  func(o *Options) { o.ReadOnly = false },
	"nosuid":              func(o *Options) { o.NoSuid = true },
	"suid":                func(o *Options) { o.NoSuid = false },
	"nodev":               func(o *Options) { o.NoDev = true },
	"dev":                 func(o *Options) { o.NoDev = false },
	"noexec":              func(o *Options) { o.NoExec = true },
	"exec":                func(o *Options) { o.NoExec = false },
	"noatime":             func(o *Options) { o.NoAtime, o.StrictAtime = true, false },
	"atime":               func(o *Options) { o.NoAtime = false },
	"nodiratime":          func(o *Options) { o.NoDirAtime = true },
	"diratime":            func(o *Options) { o.NoDirAtime = false },
	"strictatime":         func(o *Options) { o.StrictAtime, o.NoAtime = true, false },
	"nostrictatime":       func(o *Options) { o.StrictAtime = false },
	"relatime":            func(o *Options) { o.StrictAtime = false },
	"norelatime":          func(o *Options) {}, // the kernel, too, has relatime then
	"sync":                func(o *Options) { o.Sync = true },
	"async":               func(o *Options) { o.Sync = false },
	"dirsync":             func(o *Options) { o.DirSync = true },
}

// Parse applies options as they are written after "-o", one a string or
// several with commas between, to o.
func (o *Options) Parse(list ...string) error {
	for _, s := range list {
		for option := range strings.SplitSeq(s, ",") {
			if option == "" {
				continue
			}
			if err := o.parseOne(option); err != nil {
				return &Error{Op: "mount", Point: o.Point, Err: err}
			}
		}
	}
	return nil
}

func (o *Options) parseOne(option string) error {
	key, value, valued := strings.Cut(option, "=")
	if set := flagOptions[key]; set != nil {
		if valued {
			return fmt.Errorf("option %q takes no value", key)
		}
		set(o)
		return nil
	}
	switch key {
	case "fsname":
		o.Source = value
	case "subtype":
		o.Subtype = value
	case "max_read":
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil {
			return fmt.Errorf("option max_read: %q is no number of bytes", value)
		}
		o.MaxRead = uint32(n)
	case "context", "fscontext", "defcontext", "rootcontext":
		o.Security = append(o.Security, option)
	case "allow_root":
		return fmt.Errorf("option allow_root is not supported: the kernel has no such option; use allow_other and refuse other users in the file system")
	case "fd", "rootmode", "user_id", "group_id":
		return fmt.Errorf("option %q is set by this package", key)
	default:
		return fmt.Errorf("unknown option %q (known: fsname=, subtype=, max_read=, context= and its kin, and %s)", option, strings.Join(flagNames(), ", "))
	}
	return nil
}

// validate finds what the kernel would refuse with a bare EINVAL.
func (o *Options) validate() error {
	bad := func(format string, args ...any) error {
		return &Error{Op: "mount", Point: o.Point, Err: fmt.Errorf(format, args...)}
	}
	switch {
	case o.Point == "":
		return bad("no mount point given")
	case strings.IndexByte(o.Point, 0) >= 0:
		return bad("mount point has a NUL byte")
	case strings.IndexByte(o.Source, 0) >= 0:
		return bad("source has a NUL byte")
	case strings.ContainsAny(o.Subtype, "\x00/, \t\n"):
		return bad("subtype %q: a name without spaces, commas and slashes is needed", o.Subtype)
	case o.Method < Auto || o.Method > Helper:
		return bad("unknown method %d", o.Method)
	case o.AutoUnmount && o.Method != Auto && o.Method != Helper:
		return bad("auto_unmount needs fusermount3, but the method is %v", o.Method)
	case o.MaxRead != 0 && o.MaxRead < 4096:
		return bad("max_read %d is too small: at least 4096", o.MaxRead)
	}
	for _, s := range o.Security {
		if key, _, ok := strings.Cut(s, "="); !ok || !strings.HasSuffix(key, "context") || strings.IndexByte(s, 0) >= 0 {
			return bad("security option %q: want context=..., fscontext=..., defcontext=... or rootcontext=...", s)
		}
	}
	return nil
}

// source is what /proc/mounts shows first.
func (o *Options) source() string {
	if o.Source != "" {
		return o.Source
	}
	if o.Subtype != "" {
		return o.Subtype
	}
	return "fuse"
}

// fstype is the type for mount(2).
func (o *Options) fstype() string {
	if o.Subtype == "" {
		return "fuse"
	}
	return "fuse." + o.Subtype
}

func flagNames() []string {
	return slices.Sorted(maps.Keys(flagOptions))
}
