package device

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fuse/channel"
	"github.com/sluicefs/sluice/internal/sys"
)

// kernel plays the other end of /dev/fuse on a seqpacket socket, which keeps
// messages apart as the device does.
type kernel struct {
	t      *testing.T
	fd     int
	c      *Channel
	served chan struct{} // closed when Serve returned
	err    error         // what it returned
}

type handlerFunc func(*channel.Request)

func (f handlerFunc) Handle(r *channel.Request) { f(r) }

func start(t *testing.T, opts Options, h handlerFunc) *kernel {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(pair[0], opts)
	if err != nil {
		t.Fatal(err)
	}
	k := &kernel{t: t, fd: pair[1], c: c, served: make(chan struct{})}
	if err := c.Start(channel.Params{}); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(k.served)
		k.err = c.Serve(h)
	}()
	t.Cleanup(func() {
		k.hangUp()
		_ = k.wait()
	})
	return k
}

func (k *kernel) hangUp() {
	if k.fd >= 0 {
		unix.Close(k.fd)
		k.fd = -1
	}
}

func (k *kernel) send(unique uint64, body string) {
	k.t.Helper()
	msg := make([]byte, channel.HeaderSize, channel.HeaderSize+len(body))
	ne := binary.NativeEndian
	ne.PutUint32(msg, uint32(len(msg)+len(body)))
	ne.PutUint64(msg[8:], unique)
	if _, err := unix.Write(k.fd, append(msg, body...)); err != nil {
		k.t.Fatalf("send: %v", err)
	}
}

type answer struct {
	unique uint64
	errno  int32
	body   string
}

func (k *kernel) receive() answer {
	k.t.Helper()
	buf := make([]byte, 1<<17)
	fds := []unix.PollFd{{Fd: int32(k.fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 60_000)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			k.t.Fatalf("no answer in a minute: %v", err)
		}
		break
	}
	n, errno := sys.Read(k.fd, buf)
	if errno != 0 || n < channel.ReplyHeaderSize {
		k.t.Fatalf("answer: %d bytes, %v", n, errno)
	}
	ne := binary.NativeEndian
	if int(ne.Uint32(buf)) != n {
		k.t.Errorf("length in the answer's header: got %d, want %d", ne.Uint32(buf), n)
	}
	return answer{ne.Uint64(buf[8:]), int32(ne.Uint32(buf[4:])), string(buf[channel.ReplyHeaderSize:n])}
}

func (k *kernel) wait() error {
	k.t.Helper()
	select {
	case <-k.served:
		return k.err
	case <-time.After(time.Minute):
		k.t.Fatal("Serve did not return in a minute")
		return nil
	}
}

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

func echo(r *channel.Request) { _ = r.Slot.Reply(0, copy(r.Out, r.Args)) }

func TestAnswersInline(t *testing.T) {
	k := start(t, Options{}, echo)
	for i := range uint64(100) {
		body := strings.Repeat("x", int(i)*37)
		k.send(i, body)
		if got := k.receive(); got != (answer{i, 0, body}) {
			t.Fatalf("answer %d: got %d, errno %d, %d bytes", i, got.unique, got.errno, len(got.body))
		}
	}
	k.hangUp()
	if err := k.wait(); err != nil {
		t.Errorf("Serve: got %v, want nil", err)
	}
}

func TestErrorAnswerHasNoBody(t *testing.T) {
	k := start(t, Options{}, func(r *channel.Request) {
		switch string(r.Args) {
		case "error":
			_ = r.Slot.Reply(unix.ENOENT, 100)
		case "too long":
			_ = r.Slot.Reply(0, len(r.Out)+1)
		case "negative":
			_ = r.Slot.Reply(0, -1)
		}
	})
	for i, tc := range []struct {
		body string
		want unix.Errno
	}{{"error", unix.ENOENT}, {"too long", unix.EIO}, {"negative", unix.EIO}} {
		k.send(uint64(i), tc.body)
		if got := k.receive(); got != (answer{uint64(i), -int32(tc.want), ""}) {
			t.Errorf("%s: got %+v, want errno %v and no body", tc.body, got, tc.want)
		}
	}
}

func TestShortMessagesAreDropped(t *testing.T) {
	k := start(t, Options{}, echo)
	for n := 1; n < channel.HeaderSize; n++ {
		if _, err := unix.Write(k.fd, make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	k.send(7, "after")
	if got := k.receive(); got.unique != 7 {
		t.Errorf("answer: got %+v, want that of 7", got)
	}
	until(t, "short messages counted", func() bool { return k.c.Dropped() == channel.HeaderSize-1 })
}

func TestPayloadsArePageAligned(t *testing.T) {
	aligned := make(chan bool, 1)
	k := start(t, Options{}, func(r *channel.Request) {
		const writeIn = 40
		aligned <- sys.Address(r.Args[writeIn:])%4096 == 0 && sys.Address(r.Out)%4096 == 0
		echo(r)
	})
	k.send(1, strings.Repeat("w", 40+4096))
	k.receive()
	if !<-aligned {
		t.Error("WRITE data or answer body does not begin at a page boundary")
	}
}

// TestManyBlockedRequests has 2,000 handlers wait at once, on few threads, and
// another request go through meanwhile.
func TestManyBlockedRequests(t *testing.T) {
	for _, tc := range []struct {
		name  string
		block bool
	}{{"declared", true}, {"found by the monitor", false}} {
		t.Run(tc.name, func(t *testing.T) {
			const blocked, maxThreads = 2000, 200
			var entered atomic.Int32
			gate := make(chan struct{})
			k := start(t, Options{}, func(r *channel.Request) {
				if string(r.Args) == "wait" {
					entered.Add(1)
					if tc.block {
						r.Slot.Block()
					}
					<-gate
				}
				echo(r)
			})
			var sender sync.WaitGroup
			sender.Go(func() {
				for i := range blocked {
					k.send(uint64(i), "wait")
				}
			})
			until(t, "all handlers entered", func() bool { return entered.Load() == blocked })
			sender.Wait()
			if n := threads(t); n >= maxThreads {
				t.Errorf("threads with %d blocked requests: got %d, want less than %d", blocked, n, maxThreads)
			}
			k.send(blocked, "quick")
			if got := k.receive(); got.unique != blocked {
				t.Errorf("answer: got %+v, want that of the quick request", got)
			}
			seen := map[uint64]bool{}
			for range blocked {
				// One at a time: a full socket, unlike the device, makes
				// writers sleep, each on a thread of its own.
				gate <- struct{}{}
				seen[k.receive().unique] = true
			}
			if len(seen) != blocked {
				t.Errorf("answers: got %d, want %d", len(seen), blocked)
			}
			k.hangUp()
			if err := k.wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Readers that are to leave stay when handlers that block have taken the
// others: somebody has to read.
func TestSurplusLeavesReaders(t *testing.T) {
	gate := make(chan struct{})
	var entered atomic.Int32
	k := start(t, Options{Readers: 2}, func(r *channel.Request) {
		if string(r.Args) == "wait" {
			entered.Add(1)
			r.Slot.Block()
			<-gate
		}
		echo(r)
	})
	const blocked = 8
	k.c.mu.Lock()
	k.c.surplus.Store(2 * blocked) // as after a burst
	k.c.mu.Unlock()
	for i := range uint64(blocked) {
		k.send(i, "wait")
	}
	k.send(blocked, "quick")
	if got := k.receive(); got.unique != blocked {
		t.Errorf("answer: got %+v, want that of the quick request", got)
	}
	until(t, "all handlers entered", func() bool { return entered.Load() == blocked })
	close(gate)
	for range blocked {
		k.receive()
	}
}

func threads(t *testing.T) int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(tasks)
}

func TestPendingAnswersFromElsewhere(t *testing.T) {
	const n = 200
	later := make(chan *channel.Request, n)
	k := start(t, Options{MaxRequests: n + 8}, func(r *channel.Request) { later <- r })
	for i := range uint64(n) {
		k.send(i, fmt.Sprint("body ", i))
	}
	go func() {
		for range n {
			echo(<-later)
		}
	}()
	for range n {
		got := k.receive()
		if want := fmt.Sprint("body ", got.unique); got.body != want {
			t.Errorf("answer %d: got %q, want %q", got.unique, got.body, want)
		}
	}
}

// TestMaxRequestsHoldsTheRestBack bounds what handlers have at a time.
func TestMaxRequestsHoldsTheRestBack(t *testing.T) {
	const most = 10
	var have, peak atomic.Int32
	later := make(chan *channel.Request, 100)
	k := start(t, Options{MaxRequests: most}, func(r *channel.Request) {
		if n := have.Add(1); n > peak.Load() {
			peak.Store(n)
		}
		later <- r
	})
	for i := range uint64(100) {
		k.send(i, "x")
	}
	for range 100 {
		r := <-later
		have.Add(-1)
		echo(r)
		k.receive()
	}
	if p := peak.Load(); p > most {
		t.Errorf("requests at a time: got %d, want at most %d", p, most)
	}
}

// TestPauseLosesNothing stops the readers while messages come, and another
// channel goes on.
func TestPauseLosesNothing(t *testing.T) {
	k := start(t, Options{}, echo)
	const n = 300
	var sender sync.WaitGroup
	defer sender.Wait()
	sender.Go(func() {
		for i := range uint64(n) {
			k.send(i, "x")
		}
	})
	k.receive()
	if err := k.c.Pause(); err != nil {
		t.Fatal(err)
	}
	desc, err := k.c.Describe()
	if err != nil {
		t.Fatal(err)
	}
	files, err := k.c.Files()
	if err != nil {
		t.Fatal(err)
	}
	next, err := Resume(files, desc, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := next.Start(channel.Params{}); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- next.Serve(handlerFunc(echo)) }()
	if err := k.c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := k.wait(); err != nil {
		t.Errorf("Serve of the paused channel: %v", err)
	}
	for range n - 1 {
		k.receive()
	}
	sender.Wait()
	k.hangUp()
	if err := <-done; err != nil {
		t.Errorf("Serve of the successor: %v", err)
	}
}

func TestResumeRefusesForeignState(t *testing.T) {
	good, err := (&Channel{fd: 3, opts: Options{MaxPayload: 1 << 20}}).Describe()
	if err != nil {
		t.Fatal(err)
	}
	huge := bytes.Clone(good)
	huge[11] = 0xff
	for name, desc := range map[string][]byte{"empty": nil, "short": good[:5], "version": append([]byte{9}, good[1:]...), "payload": huge} {
		if _, err := Resume([]int{1 << 20}, desc, Options{}); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
	if _, err := Resume(nil, good, Options{}); err == nil {
		t.Error("no descriptors: got no error")
	}
}

func TestCloseWithIdleReadersAndLentRequests(t *testing.T) {
	before := runtime.NumGoroutine()
	var kept *channel.Request
	got := make(chan struct{})
	k := start(t, Options{}, func(r *channel.Request) { kept = r; close(got) })
	k.send(1, "keep")
	<-got
	if err := k.c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := k.c.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if err := k.wait(); err != nil {
		t.Error(err)
	}
	if err := kept.Slot.Reply(0, 0); err != nil {
		t.Errorf("answer after Close: %v", err)
	}
	if got := k.receive(); got.unique != 1 {
		t.Errorf("answer: got %+v", got)
	}
	if n, _ := unix.FcntlInt(uintptr(k.c.fd), unix.F_GETFD, 0); n >= 0 && !k.c.closed {
		t.Error("descriptor is open after the last request came back")
	}
	if err := k.c.Notify(make([]byte, 16)); err != channel.ErrEnded {
		t.Errorf("notify after the end: got %v, want ErrEnded", err)
	}
	// By now the number of the descriptor may be that of another session.
	if _, err := k.c.BackingOpen(0, 0); err != channel.ErrEnded {
		t.Errorf("register a backing file after the end: got %v, want ErrEnded", err)
	}
	if err := k.c.BackingClose(1); err != nil {
		t.Errorf("give a backing file back after the end: got %v", err)
	}
	until(t, "goroutines gone", func() bool { return runtime.NumGoroutine() <= before })
}

func TestServeTwice(t *testing.T) {
	k := start(t, Options{}, echo)
	k.send(1, "x")
	k.receive()
	if err := k.c.Serve(handlerFunc(echo)); err == nil {
		t.Error("second Serve: got no error")
	}
	if err := k.c.Start(channel.Params{}); err == nil {
		t.Error("second Start: got no error")
	}
}

// TestNoAllocationForAnInlineAnswer counts what the whole process allocates.
func TestNoAllocationForAnInlineAnswer(t *testing.T) {
	k := start(t, Options{Readers: 1}, echo)
	msg := make([]byte, 64)
	binary.NativeEndian.PutUint32(msg, 64)
	buf := make([]byte, 4096)
	trip := func() {
		if _, errno := sys.Write(k.fd, msg); errno != 0 {
			t.Fatal(errno)
		}
		for {
			_, errno := sys.Read(k.fd, buf)
			if errno == 0 {
				return
			}
			if errno != syscall.EINTR {
				t.Fatal(errno)
			}
		}
	}
	// Whatever else runs in the process may allocate; not in every series.
	least := 1.0
	for i := 0; i < 10 && least > 0; i++ {
		least = min(least, testing.AllocsPerRun(1000, trip))
	}
	if least != 0 {
		t.Errorf("allocations a request: got %v, want 0", least)
	}
}
