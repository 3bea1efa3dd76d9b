package sys

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrUnreachableCPU says that this process may not run on a processor.
var ErrUnreachableCPU = errors.New("processor is off line or not in our cpuset")

// A Kick is a process that makes requests of a file system.
type Kick struct{ pid int }

// StartKick makes a process that asks the file system at path, NUL-terminated,
// for its statistics n times, on processor cpu, and then ends. It is a process and not
// a thread because whoever waits for a FUSE server's answer cannot be killed:
// if this process, which is that server, were killed meanwhile, a thread would
// keep it, and with it its descriptors, from ending. The new one has no
// descriptors at all. End it with [Kick.Wait].
func StartKick(path []byte, cpu, n int) (Kick, error) {
	if len(path) == 0 || path[len(path)-1] != 0 {
		return Kick{}, unix.EINVAL
	}
	var set unix.CPUSet
	set.Set(cpu)
	if !set.IsSet(cpu) {
		return Kick{}, ErrUnreachableCPU
	}
	stat := new(unix.Statfs_t)
	pid, errno := forkStatfs(&path[0], &set, stat, n)
	if errno != 0 {
		return Kick{}, fmt.Errorf("clone: %w", errno)
	}
	return Kick{pid}, nil
}

// Wait waits for the process to end. The error is ErrUnreachableCPU if it
// could not run where it should; what the file system answered is of no
// interest.
func (k Kick) Wait() error {
	var status unix.WaitStatus
	for {
		// Its end sends no signal, so only __WALL finds it, and a wait for any
		// child of other parts of the program does not.
		_, err := unix.Wait4(k.pid, &status, unix.WALL, nil)
		if err == unix.EINTR {
			continue
		}
		if err == nil && status.ExitStatus() == kickUnreachable {
			err = ErrUnreachableCPU
		}
		return err
	}
}

// kickUnreachable is how a kick ends that cannot run on its processor.
const kickUnreachable = 1

// forkStatfs is fork and what the child does. As between fork and exec, the
// child has one thread and a runtime that does not work: it only makes system
// calls, with all signals blocked, on a copy of this stack.
//
//go:noinline
//go:nosplit
//go:norace
func forkStatfs(path *byte, set *unix.CPUSet, stat *unix.Statfs_t, n int) (pid int, errno syscall.Errno) {
	all, old := ^uint64(0), uint64(0)
	const sigsetSize = 8
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&old)), sigsetSize, 0, 0)
	r, _, e := syscall.RawSyscall6(unix.SYS_CLONE, 0, 0, 0, 0, 0, 0)
	if e != 0 || r != 0 {
		syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&old)), 0, sigsetSize, 0, 0)
		return int(r), e
	}
	code := uintptr(kickUnreachable)
	syscall.RawSyscall(unix.SYS_CLOSE_RANGE, 0, 1<<32-1, 0)
	_, _, e = syscall.RawSyscall(unix.SYS_SCHED_SETAFFINITY, 0, unsafe.Sizeof(*set), uintptr(unsafe.Pointer(set)))
	if e == 0 {
		for range n {
			syscall.RawSyscall(unix.SYS_STATFS, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(stat)), 0)
		}
		code = 0
	}
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, code, 0, 0)
	}
}
