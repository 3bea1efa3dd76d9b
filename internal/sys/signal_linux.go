package sys

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// wakeSignal interrupts threads that sleep in a read of /dev/fuse. Go's
// runtime has a handler for it that does nothing unless the program asked for
// all signals by os/signal.Notify.
const wakeSignal = 63

// sigaction is the kernel's struct sigaction of amd64, arm64 and their kin.
type sigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

const saRestart = 0x10000000

var wakeOnce sync.Once

// InterruptReaders makes read(2) of any of fds that some thread of this
// process sleeps in return EINTR, and reports to how many threads it sent the
// signal. A thread that is just about to sleep is missed: call it again until
// the readers are gone.
//
// No other way ends a blocking read of /dev/fuse while the session lives: the
// kernel restarts it after Go's own signals, and closing the descriptor does
// not disturb it.
func InterruptReaders(fds ...int) (sent int, err error) {
	wakeOnce.Do(func() {
		// Go installs every handler with SA_RESTART; this one must do without.
		var sa sigaction
		if _, _, errno := syscall.RawSyscall6(unix.SYS_RT_SIGACTION, wakeSignal, 0, uintptr(unsafe.Pointer(&sa)), 8, 0, 0); errno != 0 {
			return
		}
		sa.flags &^= saRestart
		_, _, _ = syscall.RawSyscall6(unix.SYS_RT_SIGACTION, wakeSignal, uintptr(unsafe.Pointer(&sa)), 0, 8, 0, 0)
	})
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return 0, err
	}
	for _, task := range tasks {
		// "number arg0 arg1 ...", or "running".
		b, err := os.ReadFile("/proc/self/task/" + task.Name() + "/syscall")
		if err != nil {
			continue // the thread has ended
		}
		f := strings.Fields(string(b))
		if len(f) < 2 || f[0] != strconv.Itoa(unix.SYS_READ) {
			continue
		}
		arg, err := strconv.ParseUint(strings.TrimPrefix(f[1], "0x"), 16, 64)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			if arg != uint64(fd) {
				continue
			}
			if tid, err := strconv.Atoi(task.Name()); err == nil && unix.Tgkill(os.Getpid(), tid, wakeSignal) == nil {
				sent++
			}
			break
		}
	}
	return sent, nil
}
