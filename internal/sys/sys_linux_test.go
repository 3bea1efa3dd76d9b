package sys

import (
	"encoding/binary"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// until polls a condition; a minute is the watchdog.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !cond(); {
		if time.Now().After(end) {
			t.Fatalf("not in a minute: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestDiscardedPagesReadAsZero(t *testing.T) {
	b, err := Map(4 * PageSize)
	if err != nil {
		t.Fatal(err)
	}
	b[0], b[PageSize] = 1, 2
	Discard(b[PageSize:])
	if b[0] != 1 || b[PageSize] != 0 {
		t.Errorf("after Discard of all but the first page: got %d %d, want 1 0", b[0], b[PageSize])
	}
	if err := Unmap(b); err != nil {
		t.Error(err)
	}
}

func TestDescriptorsOverASocket(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := SendFDs(pair[0], nil, fd); err == nil {
		t.Error("descriptors without a byte: got no error")
	}
	if err := SendFDs(pair[0], []byte("msg"), fd, fd); err != nil {
		t.Fatal(err)
	}
	msg := make([]byte, 8)
	n, fds, err := ReceiveFDs(pair[1], msg)
	if err != nil || string(msg[:n]) != "msg" || len(fds) != 2 {
		t.Fatalf("received: got %q, %d descriptors, %v", msg[:n], len(fds), err)
	}
	for _, got := range fds {
		if flags, err := unix.FcntlInt(uintptr(got), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("received descriptor: flags %#x, %v, want close-on-exec", flags, err)
		}
		unix.Close(got)
	}
	if err := SendFDs(pair[0], make([]byte, 100), fd); err != nil {
		t.Fatal(err)
	}
	if _, fds, err := ReceiveFDs(pair[1], msg); err == nil || fds != nil {
		t.Errorf("message that does not fit: got %d descriptors, %v, want an error", len(fds), err)
	}
	unix.Close(pair[0])
	if n, _, err := ReceiveFDs(pair[1], msg); n != 0 || err != nil {
		t.Errorf("after the other side closed: got %d, %v, want 0", n, err)
	}
}

// TestInterruptReaders ends a read that would never return.
func TestInterruptReaders(t *testing.T) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	got := make(chan unix.Errno, 1)
	go func() {
		_, errno := Read(p[0], make([]byte, 1))
		got <- errno
	}()
	var errno unix.Errno
	until(t, "the read returns", func() bool {
		if _, err := InterruptReaders(p[0]); err != nil {
			t.Fatal(err)
		}
		select {
		case errno = <-got:
			return true
		default:
			return false
		}
	})
	if errno != unix.EINTR {
		t.Errorf("read: got %v, want EINTR", errno)
	}
}

func TestRunnable(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if !Runnable(unix.Gettid()) {
		t.Error("this thread: got false, want true")
	}
	if Runnable(1 << 30) {
		t.Error("no thread: got true, want false")
	}
	tid := make(chan int)
	gate := make(chan struct{})
	defer close(gate)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		tid <- unix.Gettid()
		<-gate
	}()
	id := <-tid
	until(t, "a thread that waits is not runnable", func() bool { return !Runnable(id) })
}

func TestPossibleCPUs(t *testing.T) {
	n, err := PossibleCPUs()
	if err != nil || n < runtime.NumCPU() {
		t.Errorf("possible processors: got %d, %v, want at least %d", n, err, runtime.NumCPU())
	}
}

// TestRing completes a read by way of an io_uring, if this machine lets us.
func TestRing(t *testing.T) {
	r, err := NewRing(4)
	if err != nil {
		if os.Getenv("SLUICE_CI") == "1" {
			t.Fatal(err)
		}
		t.Logf("no io_uring here: %v", err)
		return
	}
	defer r.Close()
	mem, err := Map(PageSize)
	if err != nil {
		t.Fatal(err)
	}
	defer Unmap(mem)
	ev, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ev)
	for i := range uint64(100) { // around the rings several times
		if !r.ReadInto(ev, mem[:8], i) {
			t.Fatal("submission queue is full")
		}
		if errno := r.RawFlush(); errno != 0 {
			t.Fatal(errno)
		}
		if r.Ready() {
			t.Fatal("a completion before there was anything to read")
		}
		if _, errno := RawWrite(ev, binary.NativeEndian.AppendUint64(nil, i+7)); errno != 0 {
			t.Fatal(errno)
		}
		for !r.Ready() {
			if errno := r.Wait(); errno != 0 && errno != unix.EINTR {
				t.Fatal(errno)
			}
		}
		if res := r.PeekError(); res != 0 {
			t.Fatalf("completion failed: %v", unix.Errno(-res))
		}
		tag, res, ok := r.Next()
		if got := binary.NativeEndian.Uint64(mem); !ok || tag != i || res != 8 || got != i+7 {
			t.Fatalf("completion %d: got tag %d, result %d, value %d", i, tag, res, got)
		}
	}
	for i := range uint64(1000) {
		if !r.ReadInto(ev, mem[:8], i) {
			return // full, as it must be some time
		}
	}
	t.Error("1,000 submissions fit into a ring for 4")
}
