package fstest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// nobody is a user and a group without privileges.
const nobody = 65534

// asNobody runs f on a thread of its own whose file system user is nobody,
// without the capabilities that go with it.
func asNobody(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		unix.RawSyscall(unix.SYS_SETFSGID, nobody, 0, 0)
		unix.RawSyscall(unix.SYS_SETFSUID, nobody, 0, 0)
		done <- f()
	}()
	return <-done
}

// changes are what takes the set-id bits of a file.
var changes = map[string]func(path string) error{
	"write": func(path string) error {
		return withFile(path, unix.O_WRONLY, func(fd int) error {
			_, err := unix.Pwrite(fd, []byte("x"), 0)
			return err
		})
	},
	"append": func(path string) error {
		return withFile(path, unix.O_WRONLY|unix.O_APPEND, func(fd int) error {
			_, err := unix.Write(fd, []byte("x"))
			return err
		})
	},
	"ftruncate": func(path string) error {
		return withFile(path, unix.O_WRONLY, func(fd int) error { return unix.Ftruncate(fd, 1) })
	},
	"truncate":     func(path string) error { return unix.Truncate(path, 1) },
	"open O_TRUNC": func(path string) error { return withFile(path, unix.O_WRONLY|unix.O_TRUNC, nil) },
	"fallocate": func(path string) error {
		err := withFile(path, unix.O_WRONLY, func(fd int) error { return unix.Fallocate(fd, 0, 0, 8192) })
		if errors.Is(err, unix.EOPNOTSUPP) {
			return nil
		}
		return err
	},
	"copy_file_range": func(path string) error {
		return withFile(filepath.Join(filepath.Dir(path), "source"), unix.O_RDONLY, func(from int) error {
			return withFile(path, unix.O_WRONLY, func(to int) error {
				_, err := unix.CopyFileRange(from, nil, to, nil, 4, 0)
				return err
			})
		})
	},
	"chown":   func(path string) error { return unix.Chown(path, -1, nobody) },
	"nothing": func(path string) error { return withFile(path, unix.O_RDWR, nil) },
}

func withFile(path string, flags int, f func(fd int) error) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if f == nil {
		return nil
	}
	return f(fd)
}

// SetID changes files with set-id bits in mnt, a directory of a mounted file
// system, as root and as another user, and expects that the bits go as they do
// in native, one of a file system of the kernel's. below, if not empty, is where
// the files of mnt are in truth: they must have the same modes there. All users
// are let through to both. It takes root.
//
// With backed the kernel writes to files by itself (passthrough), which takes
// the bits from root's files too.
func SetID(t *testing.T, mnt, below, native string, backed bool) {
	t.Helper()
	for _, dir := range []string{mnt, native} {
		letIn(dir)
		check(t, os.WriteFile(filepath.Join(dir, "source"), []byte("other data"), 0o644))
	}
	for name, change := range changes {
		for i, mode := range []uint32{0o4777, 0o6777, 0o2777, 0o6767, 0o6777, 0o6767, 0o2666} {
			gid := 0
			if i >= 4 {
				gid = nobody
			}
			for _, root := range []bool{false, true} {
				where := fmt.Sprintf("%s of %o, group %d, by root=%t", name, mode, gid, root)
				do := change
				if !root {
					do = func(path string) error { return asNobody(func() error { return change(path) }) }
				}
				got, want := changeSetID(t, mnt, below, where, mode, gid, do), changeSetID(t, native, "", where, mode, gid, do)
				left := !root && name != "nothing" && (got&syscall.S_ISUID != 0 || got&(syscall.S_ISGID|syscall.S_IXGRP) == syscall.S_ISGID|syscall.S_IXGRP)
				if backed && root && name != "chown" {
					got, want = got&^(syscall.S_ISUID|syscall.S_ISGID), want&^(syscall.S_ISUID|syscall.S_ISGID)
				}
				if got != want || left {
					t.Errorf("%s: got mode %o, want %o", where, got, want)
				}
			}
		}
	}
}

// letIn lets all users through to dir, as far as that can be.
func letIn(dir string) {
	for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		_ = os.Chmod(d, 0o755) // a union's own directories are for all
	}
}

// changeSetID makes a file of a mode and a group in dir, changes it, and returns
// its mode then.
func changeSetID(t *testing.T, dir, below, where string, mode uint32, gid int, change func(path string) error) uint32 {
	t.Helper()
	path := filepath.Join(dir, "f")
	check(t, errors.Join(os.WriteFile(path, []byte("some data"), 0o600), unix.Chown(path, nobody, gid), unix.Chmod(path, 0o600)))
	_, err := os.ReadFile(path) // it may be kept open from here on
	check(t, errors.Join(err, unix.Chmod(path, mode)))
	defer os.Remove(path)
	if err := change(path); err != nil {
		t.Errorf("%s in %s: %v", where, dir, err)
	}
	var st, sb unix.Stat_t
	check(t, unix.Stat(path, &st))
	if below != "" {
		check(t, unix.Stat(filepath.Join(below, "f"), &sb))
		if sb.Mode != st.Mode {
			t.Errorf("%s: mode %o on the mount, %o below", where, st.Mode, sb.Mode)
		}
	}
	return st.Mode & 0o7777
}
