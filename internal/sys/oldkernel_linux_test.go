package sys

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// without runs f on a thread for which the system calls fail with errno, as in
// a kernel, or a sandbox, that does not know them.
func without(errno syscall.Errno, calls []uint32, f func() error) error {
	const ret, allow = unix.BPF_RET | unix.BPF_K, 0x7fff0000
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}} // the call's number
	for _, nr := range calls {
		filter = append(filter,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: nr, Jf: 1},
			unix.SockFilter{Code: ret, K: 0x00050000 | uint32(errno)}) // SECCOMP_RET_ERRNO
	}
	filter = append(filter, unix.SockFilter{Code: ret, K: allow})
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			done <- err
			return
		}
		if _, _, e := syscall.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog))); e != 0 {
			done <- fmt.Errorf("seccomp: %w", e)
			return
		}
		done <- f()
	}()
	return <-done
}

// What young system calls are used for works without them.
func TestOldKernel(t *testing.T) {
	_, dir := openDirectory(t)
	openAt(t, dir, "file", unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
	fd := openAt(t, dir, "file", unix.O_PATH|unix.O_NOFOLLOW, 0)
	calls := []uint32{unix.SYS_FCHMODAT2, unix.SYS_GETXATTRAT, unix.SYS_CLOSE_RANGE}
	for i, errno := range []syscall.Errno{syscall.ENOSYS, syscall.EPERM} {
		mode := uint32(0o700 + i)
		err := without(errno, calls, func() error {
			if e := ChmodFD(fd, mode); e != 0 {
				return fmt.Errorf("chmod: %w", e)
			}
			if _, e := GetxattrAt(dir, "file", "user.test", nil); e != errno {
				return fmt.Errorf("getxattrat: got %v, want %v", e, errno)
			}
			k, err := StartPoll([]byte("/dev/null\x00"))
			if err != nil {
				return err
			}
			return k.Wait()
		})
		if err != nil {
			t.Errorf("with %v: %v", errno, err)
		}
		var st unix.Statx_t
		if e := StatAt(fd, "", unix.STATX_MODE, &st); e != 0 || uint32(st.Mode)&0o7777 != mode {
			t.Errorf("mode %o, %v; want %o", st.Mode, e, mode)
		}
	}
}
