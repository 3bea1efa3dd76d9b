package mount

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/internal/sys"
)

// Point is a FUSE session and the place where it is, or will be, mounted. Its
// methods may be called concurrently, Attach once.
type Point struct {
	path string // absolute, symbolic links resolved; "" if not known
	fd   int
	opts Options
	sync bool
	how  Method

	mu       sync.Mutex
	attached bool
	gone     bool   // unmounted by us
	device   string // "major:minor" of the mount, once it is known
	helper   *helper
}

// Prepare checks o and gets a descriptor of /dev/fuse for it. With the method
// Helper, and for a Point of /dev/fd/N, the mount exists when it returns. The
// caller owns the descriptor ([Point.FD]) from now on.
func Prepare(o Options) (*Point, error) {
	if n, ok := strings.CutPrefix(o.Point, "/dev/fd/"); ok {
		fd, err := strconv.Atoi(n)
		if err != nil || fd < 0 {
			return nil, &Error{Op: "mount", Point: o.Point, Err: fmt.Errorf("%q is no descriptor number", n)}
		}
		return Adopt(fd, "")
	}
	if err := o.validate(); err != nil {
		return nil, err
	}
	path, err := target(&o)
	if err != nil {
		return nil, err
	}
	if o.Method == Helper || o.Method == Auto && (o.AutoUnmount || !mayMount()) {
		return prepareHelper(path, o)
	}
	fd, err := sys.OpenFUSE()
	if err != nil {
		return nil, &Error{Op: "open", Point: "/dev/fuse", Err: err, Hint: hintDevice(err)}
	}
	p := &Point{path: path, fd: fd, opts: o}
	if o.SyncInit && o.Method != Syscall {
		p.sync = sys.SyncInit(fd) == nil
	}
	return p, nil
}

// Adopt wraps a descriptor that is mounted already, at path if that is known
// ("": it cannot be unmounted or aborted through this Point). It sets
// close-on-exec.
func Adopt(fd int, path string) (*Point, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &Error{Op: "adopt", Point: "/dev/fd/" + strconv.Itoa(fd), Err: err, Hint: "the descriptor is not open: was it passed to this process?"}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFCHR && (unix.Major(st.Rdev) != 10 || unix.Minor(st.Rdev) != 229) {
		return nil, &Error{Op: "adopt", Point: "/dev/fd/" + strconv.Itoa(fd), Err: unix.ENOTTY, Hint: "it is a device, but not /dev/fuse"}
	}
	unix.CloseOnExec(fd)
	if path != "" {
		if abs, err := filepath.Abs(path); err == nil {
			path = abs
		}
	}
	return &Point{path: path, fd: fd, attached: true, opts: Options{Point: path}}, nil
}

// FD is the session's descriptor. It is the caller's to close.
func (p *Point) FD() int { return p.fd }

// Path is where the session is mounted, absolute; "" if that is not known.
func (p *Point) Path() string { return p.path }

// Synchronous reports whether Attach waits for INIT to be answered.
func (p *Point) Synchronous() bool { return p.sync }

// Method tells how the session was attached; Auto if it was adopted or is not
// attached.
func (p *Point) Method() Method {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.how
}

// Attach mounts. If it fails the descriptor is still open. It does nothing for
// a Point that was mounted by a helper or adopted.
func (p *Point) Attach() error {
	p.mu.Lock()
	done := p.attached
	p.mu.Unlock()
	if done {
		return nil
	}
	how := p.opts.Method
	var err error
	switch how {
	case Syscall:
		err = p.attachSyscall()
	case API:
		err = p.attachAPI()
	default:
		how = API
		err = p.attachAPI()
		// ENOSYS: a kernel before 5.2, or a sandbox that knows only mount(2).
		if errors.Is(err, unix.ENOSYS) && !p.sync {
			how = Syscall
			err = p.attachSyscall()
		}
	}
	if err != nil {
		return &Error{Op: "mount", Point: p.path, Err: err, Hint: hintMount(err)}
	}
	p.mu.Lock()
	p.attached, p.how = true, how
	p.mu.Unlock()
	return nil
}

func (p *Point) rootMode() string {
	if p.opts.RootIsFile {
		return strconv.FormatUint(unix.S_IFREG, 8)
	}
	return strconv.FormatUint(unix.S_IFDIR, 8)
}

// attachAPI mounts by fsopen and its kin.
func (p *Point) attachAPI() error {
	o := &p.opts
	ctx, err := unix.Fsopen("fuse", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(ctx)
	values := [][2]string{
		{"source", o.source()}, {"fd", strconv.Itoa(p.fd)}, {"rootmode", p.rootMode()},
		{"user_id", strconv.Itoa(os.Getuid())}, {"group_id", strconv.Itoa(os.Getgid())},
	}
	if o.Subtype != "" {
		values = append(values, [2]string{"subtype", o.Subtype})
	}
	if o.MaxRead != 0 {
		values = append(values, [2]string{"max_read", strconv.FormatUint(uint64(o.MaxRead), 10)})
	}
	for _, s := range o.Security {
		k, v, _ := strings.Cut(s, "=")
		values = append(values, [2]string{k, v})
	}
	for _, kv := range values {
		if err := unix.FsconfigSetString(ctx, kv[0], kv[1]); err != nil {
			return configError(ctx, kv[0], err)
		}
	}
	for _, f := range []struct {
		on   bool
		name string
	}{
		{o.AllowOther, "allow_other"}, {o.DefaultPermissions, "default_permissions"},
		{o.ReadOnly, "ro"}, {o.Sync, "sync"}, {o.DirSync, "dirsync"},
	} {
		if !f.on {
			continue
		}
		if err := unix.FsconfigSetFlag(ctx, f.name); err != nil {
			return configError(ctx, f.name, err)
		}
	}
	if err := unix.FsconfigCreate(ctx); err != nil {
		return configError(ctx, "create", err)
	}
	var attrs int
	for _, f := range []struct {
		on   bool
		attr int
	}{
		{o.ReadOnly, unix.MOUNT_ATTR_RDONLY}, {o.NoSuid, unix.MOUNT_ATTR_NOSUID}, {o.NoDev, unix.MOUNT_ATTR_NODEV},
		{o.NoExec, unix.MOUNT_ATTR_NOEXEC}, {o.NoAtime, unix.MOUNT_ATTR_NOATIME},
		{o.NoDirAtime, unix.MOUNT_ATTR_NODIRATIME}, {o.StrictAtime && !o.NoAtime, unix.MOUNT_ATTR_STRICTATIME},
	} {
		if f.on {
			attrs |= f.attr
		}
	}
	tree, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, attrs)
	if err != nil {
		return fmt.Errorf("fsmount: %w", err)
	}
	defer unix.Close(tree)
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, p.path, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move_mount: %w", err)
	}
	return nil
}

// configError adds what the kernel wrote to the context's log, which says far
// more than the errno.
func configError(ctx int, key string, err error) error {
	buf := make([]byte, 1024)
	if n, rerr := unix.Read(ctx, buf); rerr == nil && n > 2 {
		return fmt.Errorf("fsconfig %s: %w: %s", key, err, strings.TrimSpace(string(buf[2:n])))
	}
	return fmt.Errorf("fsconfig %s: %w", key, err)
}

// attachSyscall mounts by mount(2).
func (p *Point) attachSyscall() error {
	o := &p.opts
	data := fmt.Sprintf("fd=%d,rootmode=%s,user_id=%d,group_id=%d", p.fd, p.rootMode(), os.Getuid(), os.Getgid())
	if o.AllowOther {
		data += ",allow_other"
	}
	if o.DefaultPermissions {
		data += ",default_permissions"
	}
	if o.MaxRead != 0 {
		data += ",max_read=" + strconv.FormatUint(uint64(o.MaxRead), 10)
	}
	for _, s := range o.Security {
		// Security contexts may hold commas (categories); quoted, they pass.
		k, v, _ := strings.Cut(s, "=")
		data += "," + k + `="` + strings.Trim(v, `"`) + `"`
	}
	var flags uintptr
	for _, f := range []struct {
		on   bool
		flag uintptr
	}{
		{o.ReadOnly, unix.MS_RDONLY}, {o.NoSuid, unix.MS_NOSUID}, {o.NoDev, unix.MS_NODEV}, {o.NoExec, unix.MS_NOEXEC},
		{o.NoAtime, unix.MS_NOATIME}, {o.NoDirAtime, unix.MS_NODIRATIME}, {o.StrictAtime && !o.NoAtime, unix.MS_STRICTATIME},
		{o.Sync, unix.MS_SYNCHRONOUS}, {o.DirSync, unix.MS_DIRSYNC},
	} {
		if f.on {
			flags |= f.flag
		}
	}
	return unix.Mount(o.source(), p.path, o.fstype(), flags, data)
}

// target resolves and checks the mount point, without following a dead mount.
func target(o *Options) (string, error) {
	fail := func(err error, hint string) (string, error) {
		return "", &Error{Op: "mount", Point: o.Point, Err: err, Hint: hint}
	}
	path, err := filepath.Abs(o.Point)
	if err != nil {
		return fail(err, "")
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		switch {
		case errors.Is(err, unix.ENOTCONN):
			return fail(unix.ENOTCONN, "a FUSE mount is there whose server is gone: take it off with \"umount -l\" or \"fusermount3 -uz\"")
		case errors.Is(err, fs.ErrNotExist):
			return fail(unix.ENOENT, "make the mount point first")
		}
		return fail(err, "")
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		if err == unix.ENOTCONN {
			return fail(err, "a FUSE mount is there whose server is gone: take it off with \"umount -l\" or \"fusermount3 -uz\"")
		}
		return fail(err, "")
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if o.RootIsFile && isDir {
		return fail(unix.EISDIR, "the root is a file, so the mount point must be one")
	}
	if !o.RootIsFile && !isDir {
		return fail(unix.ENOTDIR, "the mount point must be a directory")
	}
	return path, nil
}

// mayMount reports whether this process has CAP_SYS_ADMIN in its user
// namespace, which is what mounting takes.
func mayMount() bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return os.Geteuid() == 0
	}
	return data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

func hintDevice(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "load the module with \"modprobe fuse\"; in a container pass the device: --device /dev/fuse"
	case errors.Is(err, fs.ErrPermission):
		return "this user may not open it: mode 0666 is usual; in a container pass --device /dev/fuse"
	}
	return ""
}

func hintMount(err error) string {
	switch {
	case errors.Is(err, unix.EPERM):
		return "mounting needs CAP_SYS_ADMIN; ordinary users need fusermount3 (package fuse3) or a user namespace of their own"
	case errors.Is(err, unix.ENODEV):
		return "this kernel has no FUSE: load the module with \"modprobe fuse\""
	case errors.Is(err, unix.EBUSY):
		return "the session is mounted already, or the mount point is in use"
	}
	return ""
}
