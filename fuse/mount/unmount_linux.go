package mount

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// errNotMounted is what unmounting a Point gives that is not attached.
var errNotMounted = errors.New("not mounted by this session")

// Unmount takes the mount off. Open files make it fail with EBUSY. A mount
// that is gone already is no error.
func (p *Point) Unmount() error { return p.unmount("unmount", 0) }

// Detach takes the mount out of the tree now; the session ends when the last
// open file is closed ("lazy unmount").
func (p *Point) Detach() error { return p.unmount("detach", unix.MNT_DETACH) }

func (p *Point) unmount(op string, flags int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return nil
	}
	if !p.attached || p.path == "" {
		return &Error{Op: op, Point: p.name(), Err: errNotMounted}
	}
	err := unix.Unmount(p.path, flags|unix.UMOUNT_NOFOLLOW)
	switch err {
	case nil:
	case unix.EINVAL, unix.ENOENT: // no mount there any more
	case unix.EPERM:
		if err := unmountHelper(p.path, flags&unix.MNT_DETACH != 0); err != nil {
			return err
		}
	case unix.EBUSY:
		return &Error{Op: op, Point: p.path, Err: err, Hint: "files are open or a process works there; close them, or detach (umount -l)"}
	default:
		return &Error{Op: op, Point: p.path, Err: err}
	}
	p.gone = true
	p.helper.close()
	return nil
}

func (p *Point) name() string {
	if p.path != "" {
		return p.path
	}
	return "/dev/fd/" + strconv.Itoa(p.fd)
}

// Abort ends the kernel's side of the session by force: every caller gets an
// error and the descriptor reads as ENODEV. The mount stays until it is
// unmounted.
func (p *Point) Abort() error {
	dir, err := p.control()
	if err == nil {
		defer dir.Close()
		if err = writeAt(dir, "abort", "1"); err == nil {
			return nil
		}
	}
	if p.Path() != "" {
		// Forced unmounting aborts as well; the mount may be busy and stay.
		if ferr := unix.Unmount(p.path, unix.MNT_FORCE|unix.UMOUNT_NOFOLLOW); ferr == nil || ferr == unix.EBUSY {
			return nil
		}
	}
	return &Error{Op: "abort", Point: p.name(), Err: err}
}

// Waiting is the number of requests that the kernel has sent or queued and
// that are not answered.
func (p *Point) Waiting() (int, error) {
	dir, err := p.control()
	if err != nil {
		return 0, &Error{Op: "read waiting of", Point: p.name(), Err: err}
	}
	defer dir.Close()
	fd, err := unix.Openat(int(dir.Fd()), "waiting", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, &Error{Op: "read waiting of", Point: p.name(), Err: err}
	}
	defer unix.Close(fd)
	buf := make([]byte, 32)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return 0, &Error{Op: "read waiting of", Point: p.name(), Err: err}
	}
	return strconv.Atoi(string(bytes.TrimSpace(buf[:n])))
}

// SetReadAhead lets the kernel read ahead up to size bytes. INIT can only
// agree on less than the kernel's default of 128 KiB; more goes through the
// mount's backing device information in sysfs, which takes root.
func (p *Point) SetReadAhead(size int) error {
	dev, err := p.Device()
	if err == nil {
		file := filepath.Join("/sys/class/bdi", dev, "read_ahead_kb")
		err = os.WriteFile(file, []byte(strconv.Itoa(size/1024)), 0)
	}
	if err != nil {
		return &Error{Op: "set read-ahead of", Point: p.name(), Err: err}
	}
	return nil
}

// Device is the mount's device number, "major:minor", as in
// /proc/self/mountinfo. It is found without a request to the file system.
func (p *Point) Device() (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.device != "" {
		return p.device, nil
	}
	if p.path == "" {
		return "", errors.New("mount point is not known")
	}
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	dev := findDevice(string(b), p.path)
	if dev == "" {
		return "", fmt.Errorf("no FUSE mount at %s in /proc/self/mountinfo", p.path)
	}
	p.device = dev
	return dev, nil
}

// Dead reports whether the mount of a session that has ended is still in the
// tree, where it gives ENOTCONN: the kernel has ended the session by itself. It
// is false if the device is not known.
func (p *Point) Dead() bool {
	p.mu.Lock()
	known, path := p.device != "" && !p.gone, p.path
	device := p.device
	p.mu.Unlock()
	if !known {
		return false
	}
	b, err := os.ReadFile("/proc/self/mountinfo")
	return err == nil && findDevice(string(b), path) == device && disconnected(path)
}

// disconnected reports whether the mount at path has lost its session. One
// that was mounted there since, perhaps with the device number that became
// free, has not; it may even be too busy to answer.
func disconnected(path string) bool {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err == unix.ENOTCONN
	}
	answer := make(chan error, 1)
	go func() {
		defer unix.Close(fd)
		var st unix.Statfs_t
		answer <- unix.Fstatfs(fd, &st)
	}()
	select {
	case err := <-answer:
		return err == unix.ENOTCONN || err == unix.ECONNABORTED
	case <-time.After(time.Second):
		return false
	}
}

// findDevice returns the device of the topmost FUSE mount at path.
func findDevice(mountinfo, path string) (dev string) {
	for line := range strings.Lines(mountinfo) {
		head, tail, ok := strings.Cut(line, " - ")
		if !ok || !strings.HasPrefix(tail, "fuse") {
			continue
		}
		f := strings.Fields(head)
		if len(f) >= 5 && unescape(f[4]) == path {
			dev = f[2]
		}
	}
	return dev
}

// unescape undoes the octal escapes of /proc/self/mountinfo.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// control opens the session's directory of the FUSE control file system:
// where it is mounted by custom, or else in an unseen mount of our own.
func (p *Point) control() (*os.File, error) {
	dev, err := p.Device()
	if err != nil {
		return nil, err
	}
	major, minor, _ := strings.Cut(dev, ":")
	if major != "0" {
		return nil, fmt.Errorf("device %s is no FUSE connection", dev)
	}
	if f, err := os.Open("/sys/fs/fuse/connections/" + minor); err == nil {
		return f, nil
	}
	ctx, err := unix.Fsopen("fusectl", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fusectl is not mounted at /sys/fs/fuse/connections, and fsopen: %w", err)
	}
	defer unix.Close(ctx)
	if err := unix.FsconfigCreate(ctx); err != nil {
		return nil, fmt.Errorf("create a fusectl mount: %w", err)
	}
	tree, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("mount fusectl: %w", err)
	}
	defer unix.Close(tree)
	fd, err := unix.Openat(tree, minor, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("fusectl has no connection %s: %w", minor, err)
	}
	return os.NewFile(uintptr(fd), "fusectl"), nil
}

func writeAt(dir *os.File, name, value string) error {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(value))
	return err
}
