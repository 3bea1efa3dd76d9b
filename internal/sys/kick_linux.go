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

// A Kick is a process that makes requests of a file system whose server this
// process is.
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
	return start(&kickWork{path: &path[0], set: &set, n: n})
}

// StartPoll makes a process, as [StartKick] does and for the same reason, that
// opens the file at path, NUL-terminated, polls it once without waiting, and
// ends. End it with [Kick.Wait].
func StartPoll(path []byte) (Kick, error) {
	if len(path) == 0 || path[len(path)-1] != 0 {
		return Kick{}, unix.EINVAL
	}
	return start(&kickWork{path: &path[0], poll: true, fds: unix.PollFd{Events: unix.POLLIN}})
}

func start(w *kickWork) (Kick, error) {
	pid, errno := forkKick(w)
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

// kickWork is what a kick does, and the memory for it.
type kickWork struct {
	path *byte
	set  *unix.CPUSet // nil: any processor
	n    int          // how often it asks for statistics
	stat unix.Statfs_t
	poll bool // it polls path instead
	fds  unix.PollFd
	now  unix.Timespec // zero
}

// oldDescriptors is how many descriptors, from 0, are closed one by one where
// there is no close_range(2), before Linux 5.9.
const oldDescriptors = 4096

// forkKick is fork and what the child does. As between fork and exec, the
// child has one thread and a runtime that does not work: it only makes system
// calls, with all signals blocked, on a copy of this stack.
//
//go:noinline
//go:nosplit
//go:norace
func forkKick(w *kickWork) (pid int, errno syscall.Errno) {
	all, old := ^uint64(0), uint64(0)
	const sigsetSize = 8
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&old)), sigsetSize, 0, 0)
	r, _, e := syscall.RawSyscall6(unix.SYS_CLONE, 0, 0, 0, 0, 0, 0)
	if e != 0 || r != 0 {
		syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&old)), 0, sigsetSize, 0, 0)
		return int(r), e
	}
	_, _, e = syscall.RawSyscall(unix.SYS_CLOSE_RANGE, 0, 1<<32-1, 0)
	if e != 0 {
		for fd := range uintptr(oldDescriptors) {
			syscall.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
		}
	}
	code := uintptr(0)
	if w.set != nil {
		_, _, e = syscall.RawSyscall(unix.SYS_SCHED_SETAFFINITY, 0, unsafe.Sizeof(*w.set), uintptr(unsafe.Pointer(w.set)))
		if e != 0 {
			code = kickUnreachable
		}
	}
	for i := 0; code == 0 && i < w.n; i++ {
		syscall.RawSyscall(unix.SYS_STATFS, uintptr(unsafe.Pointer(w.path)), uintptr(unsafe.Pointer(&w.stat)), 0)
	}
	if w.poll {
		cwd := unix.AT_FDCWD
		r, _, e = syscall.RawSyscall6(unix.SYS_OPENAT, uintptr(cwd), uintptr(unsafe.Pointer(w.path)), unix.O_RDONLY|unix.O_NONBLOCK, 0, 0, 0)
		if e == 0 {
			w.fds.Fd = int32(r)
			syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&w.fds)), 1, uintptr(unsafe.Pointer(&w.now)), 0, 0, 0)
		}
	}
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, code, 0, 0)
	}
}
