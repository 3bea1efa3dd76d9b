package mount

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/internal/sys"
)

// helper is a fusermount3 that stays to unmount when we are gone: it waits for
// its socket to close.
type helper struct {
	sock int
	cmd  *exec.Cmd
}

func (h *helper) close() {
	if h == nil || h.sock < 0 {
		return
	}
	unix.Close(h.sock)
	h.sock = -1
	_ = h.cmd.Wait()
}

// findHelper looks for the setuid program. fusermount is that of fuse 2; it
// speaks the same protocol.
func findHelper() (string, error) {
	for _, name := range []string{"fusermount3", "fusermount", "/bin/fusermount3", "/usr/bin/fusermount3"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", &Error{Op: "find", Point: "fusermount3", Err: exec.ErrNotFound,
		Hint: "an ordinary user needs it to mount: install the package fuse3, or run in a user namespace"}
}

// prepareHelper has fusermount3 mount o at path, and takes the descriptor that
// it opened.
func prepareHelper(path string, o Options) (*Point, error) {
	bin, err := findHelper()
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, &Error{Op: "mount", Point: path, Err: fmt.Errorf("socketpair: %w", err)}
	}
	theirs := os.NewFile(uintptr(pair[1]), "fusermount3")
	var stderr strings.Builder
	cmd := exec.Command(bin, "-o", o.helperOptions(), "--", path)
	cmd.Env = append(os.Environ(), "_FUSE_COMMFD=3")
	cmd.ExtraFiles = []*os.File{theirs}
	if !o.AutoUnmount {
		// With auto_unmount it outlives the call, and a pipe would be waited for.
		cmd.Stderr = &stderr
	}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		unix.Close(pair[0])
		return nil, &Error{Op: "run", Point: bin, Err: err}
	}
	fd, rerr := receiveDevice(pair[0])
	h := &helper{sock: pair[0], cmd: cmd}
	if rerr != nil || !o.AutoUnmount {
		unix.Close(pair[0])
		err = cmd.Wait()
		h = nil
	}
	if rerr != nil {
		return nil, &Error{Op: "fusermount3", Point: path, Err: helperError(stderr.String(), err, rerr), Hint: hintHelper(stderr.String())}
	}
	return &Point{path: path, fd: fd, opts: o, attached: true, how: Helper, helper: h}, nil
}

func receiveDevice(sock int) (int, error) {
	var b [8]byte
	n, fds, err := sys.ReceiveFDs(sock, b[:])
	if err != nil {
		return -1, err
	}
	if n == 0 || len(fds) != 1 {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return -1, errors.New("it gave no descriptor")
	}
	return fds[0], nil
}

func helperError(said string, errs ...error) error {
	if said = strings.TrimSpace(said); said != "" {
		return errors.New(said)
	}
	return errors.Join(errs...)
}

func hintHelper(said string) string {
	if strings.Contains(said, "user_allow_other") {
		return "add the line user_allow_other to /etc/fuse.conf, or do without allow_other"
	}
	return ""
}

// helperOptions writes o for the -o of fusermount3; a comma inside a value has
// a backslash before it.
func (o *Options) helperOptions() string {
	escape := strings.NewReplacer(`\`, `\\`, `,`, `\,`).Replace
	list := []string{"fsname=" + escape(o.source())}
	if o.Subtype != "" {
		list = append(list, "subtype="+escape(o.Subtype))
	}
	if o.MaxRead != 0 {
		list = append(list, "max_read="+strconv.FormatUint(uint64(o.MaxRead), 10))
	}
	for _, f := range []struct {
		on   bool
		name string
	}{
		{o.AllowOther, "allow_other"}, {o.DefaultPermissions, "default_permissions"}, {o.ReadOnly, "ro"},
		{o.NoSuid, "nosuid"}, {o.NoDev, "nodev"}, {o.NoExec, "noexec"}, {o.NoAtime, "noatime"}, {o.NoDirAtime, "nodiratime"},
		{o.Sync, "sync"}, {o.DirSync, "dirsync"}, {o.AutoUnmount, "auto_unmount"},
	} {
		if f.on {
			list = append(list, f.name)
		}
	}
	for _, s := range o.Security {
		list = append(list, escape(s))
	}
	return strings.Join(list, ",")
}

// unmountHelper has fusermount3 unmount path.
func unmountHelper(path string, lazy bool) error {
	bin, err := findHelper()
	if err != nil {
		return err
	}
	args := []string{"-u", "-q", "--", path}
	if lazy {
		args = append([]string{"-z"}, args...)
	}
	out, err := exec.Command(bin, args...).CombinedOutput()
	if err != nil {
		if strings.Contains(string(out), "busy") {
			return &Error{Op: "unmount", Point: path, Err: unix.EBUSY, Hint: "files are open or a process works there"}
		}
		return &Error{Op: "unmount", Point: path, Err: helperError(string(out), err)}
	}
	return nil
}
