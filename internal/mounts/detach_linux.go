package mounts

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrBusy says that something on the mount is still open.
var ErrBusy = errors.New("busy")

// Detach unmounts mountpoint: directly, or through fusermount3 for a user
// who may not. With lazy it goes at once from sight, and ends with the last
// file that is open on it.
func Detach(mountpoint string, lazy bool) error {
	flags := unix.UMOUNT_NOFOLLOW
	if lazy {
		flags |= unix.MNT_DETACH
	}
	err := unix.Unmount(mountpoint, flags)
	if errors.Is(err, unix.EPERM) {
		err = fusermount(mountpoint, lazy)
	}
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("unmount %s: %w", mountpoint, ErrBusy)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("unmount %s: not a mount point", mountpoint)
	case err != nil:
		return fmt.Errorf("unmount %s: %w", mountpoint, err)
	}
	return nil
}

func fusermount(mountpoint string, lazy bool) error {
	args := []string{"-u"}
	if lazy {
		args = append(args, "-z")
	}
	out, err := exec.Command("fusermount3", append(args, "--", mountpoint)...).CombinedOutput()
	switch text := strings.TrimSpace(string(out)); {
	case err == nil:
		return nil
	case strings.Contains(strings.ToLower(text), "busy"):
		return unix.EBUSY
	case text != "":
		return errors.New(text)
	}
	return err
}
