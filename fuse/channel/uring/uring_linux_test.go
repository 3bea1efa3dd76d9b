package uring

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fuse/channel"
	"github.com/sluicefs/sluice/fuse/channel/device"
	"github.com/sluicefs/sluice/fuse/mount"
	"github.com/sluicefs/sluice/internal/testenv"
)

// slowness is how a slow handler waits.
type slowness int

const (
	found    slowness = iota // without saying so
	declared                 // after Block
	async                    // in another goroutine
)

// session is a mount served by a handler of this file: a root directory, in
// which the name "slow…" waits for a gate, and no file exists.
type session struct {
	t      *testing.T
	point  *mount.Point
	c      *Channel
	err    error
	served chan struct{}
	gate   chan struct{}
	how    slowness
	slow   atomic.Int32
	stats  atomic.Int32 // GETATTRs
	later  atomic.Bool  // GETATTR is answered from another goroutine
}

func start(t *testing.T, opts Options, how slowness) *session {
	t.Helper()
	return startMount(t, mount.Options{}, opts, how)
}

func startMount(t *testing.T, mo mount.Options, opts Options, how slowness) *session {
	t.Helper()
	testenv.URing(t)
	s := &session{t: t, served: make(chan struct{}), gate: make(chan struct{}), how: how}
	var err error
	mo.Point = t.TempDir()
	s.point, err = mount.Prepare(mo)
	if err != nil {
		t.Fatal(err)
	}
	if !s.point.Synchronous() {
		if err := s.point.Attach(); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		select {
		case <-s.served:
		default: // a failed test must not leave callers that nobody can kill
			_ = s.point.Abort()
		}
		_ = unix.Unmount(s.point.Path(), unix.MNT_DETACH)
	})
	dev, err := device.New(s.point.FD(), device.Options{})
	if err != nil {
		t.Fatal(err)
	}
	opts.Path = s.point.Path()
	if s.c, err = New(dev, s.point.FD(), opts); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.served)
		s.err = s.c.Serve(s)
	}()
	if err := s.point.Attach(); err != nil { // after INIT, if it is synchronous
		t.Fatal(err)
	}
	s.stat() // the first request waits for INIT
	return s
}

// end unmounts and waits for Serve.
func (s *session) end() {
	s.t.Helper()
	if err := s.point.Unmount(); err != nil {
		s.t.Error(err)
	}
	select {
	case <-s.served:
	case <-time.After(time.Minute):
		s.t.Fatal("Serve did not return in a minute")
	}
	if s.err != nil {
		s.t.Errorf("Serve: %v", s.err)
	}
}

func (s *session) stat() {
	var st unix.Stat_t
	if err := unix.Stat(s.point.Path(), &st); err != nil {
		s.t.Errorf("stat of the root: %v", err)
	}
}

// Handle implements channel.Handler.
func (s *session) Handle(r *channel.Request) {
	ne := binary.NativeEndian
	var errno unix.Errno
	n := 0
	switch ne.Uint32(r.Header[4:]) {
	case 26: // INIT
		s.init(r)
		return
	case 2, 42, 36, 41: // FORGET, BATCH_FORGET, INTERRUPT, NOTIFY_REPLY
		r.Slot.Release()
		return
	case 1: // LOOKUP
		errno = unix.ENOENT
		if strings.HasPrefix(string(r.Payload), "slow") {
			s.slow.Add(1)
			switch s.how {
			case declared:
				r.Slot.Block()
			case async:
				go func() {
					<-s.gate
					_ = r.Slot.Reply(errno, 0)
				}()
				return
			}
			<-s.gate
		}
	case 3: // GETATTR
		s.stats.Add(1)
		n = 104
		clear(r.Out[:n])
		ne.PutUint64(r.Out[16:], 1)
		ne.PutUint32(r.Out[16+60:], unix.S_IFDIR|0o755)
		ne.PutUint32(r.Out[16+64:], 2)
		if s.later.Load() {
			go r.Slot.Reply(0, n)
			return
		}
	case 17: // STATFS
		n = 80
		clear(r.Out[:n])
	default:
		errno = unix.ENOSYS
	}
	_ = r.Slot.Reply(errno, n)
}

func (s *session) init(r *channel.Request) {
	ne := binary.NativeEndian
	// ASYNC_READ, BIG_WRITES, PARALLEL_DIROPS, MAX_PAGES, INIT_EXT.
	const flags = 1<<0 | 1<<5 | 1<<18 | 1<<22 | 1<<30
	p := channel.Params{Minor: 42, Flags: flags | s.c.Caps().InitFlags, MaxWrite: 1 << 20, MaxPages: 256}
	clear(r.Out[:64])
	ne.PutUint32(r.Out, 7)
	ne.PutUint32(r.Out[4:], 42)
	ne.PutUint32(r.Out[8:], 128<<10)
	ne.PutUint32(r.Out[12:], uint32(p.Flags))
	ne.PutUint32(r.Out[20:], p.MaxWrite)
	ne.PutUint32(r.Out[24:], 1)
	ne.PutUint16(r.Out[28:], 256)
	ne.PutUint32(r.Out[32:], uint32(p.Flags>>32))
	if err := r.Slot.Reply(0, 64); err != nil {
		s.t.Errorf("answer to INIT: %v", err)
	}
	if err := s.c.Start(p); err != nil {
		s.t.Errorf("start: %v", err)
	}
}

func TestIntegrationRing(t *testing.T) {
	before := runtime.NumGoroutine()
	s := start(t, Options{}, found)
	if caps := s.c.Caps(); caps.Transport != "io_uring" {
		t.Errorf("transport: got %q (%v), want io_uring", caps.Transport, caps.Why)
	}
	for range 1000 {
		s.stat()
	}
	if n := s.stats.Load(); n < 1000 {
		t.Errorf("GETATTRs served: got %d, want at least 1000", n)
	}
	s.later.Store(true)
	for range 1000 {
		s.stat()
	}
	s.end()
	until(t, "goroutines gone", func() bool { return runtime.NumGoroutine() <= before })
	if !s.c.freed.Load() {
		t.Error("memory of the rings was not freed")
	}
}

// TestIntegrationSynchronousInit registers entries while the mounting task may
// not have taken the answer to INIT yet.
func TestIntegrationSynchronousInit(t *testing.T) {
	for range 20 {
		s := startMount(t, mount.Options{SyncInit: true}, Options{}, found)
		for range 10 {
			s.stat()
		}
		if caps := s.c.Caps(); caps.Transport != "io_uring" {
			t.Errorf("transport: got %q (%v), want io_uring", caps.Transport, caps.Why)
		}
		s.end()
	}
}

func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !cond(); {
		if time.Now().After(end) {
			t.Fatalf("not in a minute: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// clients calls f from n threads, each bound to no processor, until it returns
// false.
func clients(n int, f func() bool) *sync.WaitGroup {
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for f() {
			}
		})
	}
	return &wg
}

func (s *session) lookup(name string) error {
	var st unix.Stat_t
	return unix.Stat(s.point.Path()+"/"+name, &st)
}

// TestIntegrationSlowHandlers blocks far more handlers than a queue has entries
// at first; other requests go on.
func TestIntegrationSlowHandlers(t *testing.T) {
	for name, how := range map[string]slowness{"found": found, "declared": declared, "async": async} {
		t.Run(name, func(t *testing.T) {
			s := start(t, Options{Depth: 2}, how)
			const slow = 40
			var wg sync.WaitGroup
			for i := range slow {
				wg.Go(func() {
					if err := s.lookup(fmt.Sprint("slow", i)); err != unix.ENOENT {
						t.Errorf("slow lookup: got %v, want ENOENT", err)
					}
				})
			}
			until(t, "all slow handlers run", func() bool { return s.slow.Load() == slow })
			for i := range 200 {
				if err := s.lookup(fmt.Sprint("fast", i)); err != unix.ENOENT {
					t.Fatalf("lookup beside slow ones: %v", err)
				}
			}
			close(s.gate)
			wg.Wait()
			s.end()
		})
	}
}

// TestIntegrationEndWithBlockedHandler aborts the session while a handler is
// blocked: callers get an error, Serve returns, and the late answer harms
// nothing.
func TestIntegrationEndWithBlockedHandler(t *testing.T) {
	s := start(t, Options{}, found)
	errs := make(chan error, 1)
	go func() { errs <- s.lookup("slow") }()
	until(t, "handler runs", func() bool { return s.slow.Load() == 1 })
	if err := s.point.Abort(); err != nil {
		t.Fatal(err)
	}
	if err := <-errs; err == nil || err == unix.ENOENT {
		t.Errorf("lookup in an aborted session: got %v, want an error of the abort", err)
	}
	<-s.served
	if s.c.freed.Load() {
		t.Error("memory was freed while a handler has a request")
	}
	close(s.gate)
	until(t, "memory freed", s.c.freed.Load)
	if err := s.point.Unmount(); err != nil {
		t.Error(err)
	}
}

// TestIntegrationUnmountUnderLoad unmounts, lazily, while clients call.
func TestIntegrationUnmountUnderLoad(t *testing.T) {
	for range 5 {
		s := start(t, Options{}, found)
		var stop atomic.Bool
		wg := clients(4, func() bool {
			_ = s.lookup("x")
			return !stop.Load()
		})
		until(t, "requests flow", func() bool { return s.stats.Load() > 100 || s.lookup("y") == nil || s.stats.Load() > 0 })
		if err := s.point.Detach(); err != nil {
			t.Error(err)
		}
		stop.Store(true)
		wg.Wait()
		select {
		case <-s.served:
		case <-time.After(time.Minute):
			t.Fatal("Serve did not return in a minute")
		}
	}
}

const asyncOffMark = "SLUICE_TEST_ASYNCPREEMPTOFF"

// TestIntegrationStopTheWorld forces 600 stops idle and 600 under 8 clients:
// none hangs. It runs once more in a child without asynchronous preemption,
// which shows that no signal is needed.
func TestIntegrationStopTheWorld(t *testing.T) {
	s := start(t, Options{}, found)
	stops := func(name string) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 600 {
				var m runtime.MemStats
				runtime.ReadMemStats(&m) // stops the world
			}
		}()
		select {
		case <-done:
		case <-time.After(2 * time.Minute):
			panic(name + ": 600 stops of the world took more than two minutes") // Fatal would need the world too
		}
	}
	stops("idle")
	var stop atomic.Bool
	wg := clients(8, func() bool {
		s.stat()
		return !stop.Load()
	})
	stops("under load")
	stop.Store(true)
	wg.Wait()
	s.end()
	sample := []metrics.Sample{{Name: "/sched/pauses/stopping/other:seconds"}}
	metrics.Read(sample)
	if h := sample[0].Value.Float64Histogram(); h != nil {
		t.Logf("stopping took, s: %v", quantiles(h, 0.5, 0.99, 1))
	}

	if os.Getenv(asyncOffMark) != "" {
		return
	}
	testenv.Long(t)
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestIntegrationStopTheWorld$")
	cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1", asyncOffMark+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("without asynchronous preemption: %v\n%s", err, out)
	}
}

func quantiles(h *metrics.Float64Histogram, qs ...float64) (at []float64) {
	var total, sum uint64
	for _, n := range h.Counts {
		total += n
	}
	for _, q := range qs {
		sum = 0
		for i, n := range h.Counts {
			if sum += n; float64(sum) >= q*float64(total) {
				at = append(at, h.Buckets[i+1])
				break
			}
		}
	}
	return at
}
