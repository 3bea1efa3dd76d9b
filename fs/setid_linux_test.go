package fs_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/internal/testenv"
)

// asNobody runs f on a thread of its own whose file system user is nobody,
// without the capabilities that go with it.
func asNobody(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		unix.RawSyscall(unix.SYS_SETFSGID, 65534, 0, 0)
		unix.RawSyscall(unix.SYS_SETFSUID, 65534, 0, 0)
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

// TestIntegrationLoopbackSetID changes files with set-id bits, as root and as
// another user, and expects what the file system below does by itself. The
// kernel keeps attributes for long: it must not show the bits for as long.
func TestIntegrationLoopbackSetID(t *testing.T) {
	testenv.Root(t)
	testenv.MountFUSE(t)
	for _, pass := range []bool{false, true} {
		t.Run(fmt.Sprintf("passthrough=%t", pass), func(t *testing.T) {
			mnt, orig := mountSetID(t, pass)
			for name, change := range changes {
				for _, mode := range []uint32{0o4777, 0o6777, 0o2777, 0o6767} {
					for _, root := range []bool{false, true} {
						where := fmt.Sprintf("%s of %o by root=%t", name, mode, root)
						run := func(dir string) uint32 {
							path := filepath.Join(dir, "f")
							if err := errors.Join(os.WriteFile(path, []byte("some data"), 0o600), unix.Chmod(path, mode)); err != nil {
								t.Fatal(err)
							}
							do := func() error { return change(path) }
							if !root {
								do = func() error { return asNobody(func() error { return change(path) }) }
							}
							if err := do(); err != nil {
								t.Errorf("%s in %s: %v", where, dir, err)
							}
							var st unix.Stat_t
							if err := unix.Stat(path, &st); err != nil {
								t.Fatal(err)
							}
							var below unix.Stat_t
							if err := unix.Stat(filepath.Join(orig, filepath.Base(dir), "f"), &below); dir != orig && err == nil && below.Mode != st.Mode {
								t.Errorf("%s: mode %o on the mount, %o below", where, st.Mode, below.Mode)
							}
							os.Remove(path)
							return st.Mode & 0o7777
						}
						got, want := run(filepath.Join(mnt, "sub")), run(filepath.Join(orig, "native"))
						left := !root && name != "nothing" && (got&syscall.S_ISUID != 0 || got&(syscall.S_ISGID|syscall.S_IXGRP) == syscall.S_ISGID|syscall.S_IXGRP)
						if pass { // written to by this process, without the privilege to keep the bits
							got, want = cleared(got), cleared(want)
						}
						if got != want || left {
							t.Errorf("%s: got mode %o, want %o as below", where, got, want)
						}
					}
				}
			}
		})
	}
}

// cleared is mode without the bits that a write of this process may or may not
// leave: with a backing file all of them if root writes, and the
// set-group-id bit of a file that the group cannot run.
func cleared(mode uint32) uint32 { return mode &^ (syscall.S_ISUID | syscall.S_ISGID) }

func mountSetID(t *testing.T, pass bool) (mnt, orig string) {
	hour := time.Hour
	opts := &fs.Options{EntryTimeout: &hour, AttrTimeout: &hour}
	opts.AllowOther = true
	opts.MountOptions.Options = []string{"default_permissions"}
	orig = t.TempDir()
	for _, dir := range []string{"sub", "native"} {
		if err := errors.Join(os.Mkdir(filepath.Join(orig, dir), 0o755),
			os.WriteFile(filepath.Join(orig, dir, "source"), []byte("other data"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for dir := orig; dir != "/" && dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	root, err := fs.NewLoopbackRoot(orig)
	if err != nil {
		t.Fatal(err)
	}
	root.(*fs.LoopbackNode).RootData.NoPassthrough = !pass
	mnt = t.TempDir()
	mount(t, mnt, root, opts)
	return mnt, orig
}
