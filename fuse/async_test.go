package fuse_test

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/fuse/fusetest"
	"github.com/sluicefs/sluice/fuse/wire"
)

const watchdog = 60 * time.Second

// within fails the test if c does not give something in time.
func within[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(watchdog):
		t.Fatalf("%s does not happen", what)
		panic("unreachable")
	}
}

func getattr(k *fusetest.Kernel, unique uint64) <-chan fusetest.Reply {
	return k.Go(&fusetest.Request{Op: wire.OpGetattr, Node: 2, Unique: unique, Args: make([]byte, 16)})
}

func TestAnswerLater(t *testing.T) {
	both(t, func(t *testing.T, o fusetest.Options) {
		fs := newMemFS()
		answers := make(chan fuse.Answer, 64)
		fs.hook = func(h *fuse.InHeader, _ <-chan struct{}) fuse.Status {
			answers <- fs.server.Answer(h)
			return fuse.Pending
		}
		k, s := session(t, fs, o, nil)
		reply := getattr(k, 0)
		a := within(t, "the request", answers)
		if run := s.Running(); len(run) != 1 || run[0].Op != "GETATTR" {
			t.Errorf("running: %v", run)
		}
		if !a.Give(fuse.OK) || a.Give(fuse.EIO) {
			t.Error("the first answer counts, and no other")
		}
		if r := within(t, "the answer", reply); r.Errno != 0 || len(r.Body) != 104 {
			t.Errorf("%+v", r)
		}
		read := k.Go(&fusetest.Request{Op: wire.OpRead, Node: 2, Args: fusetest.Args(&fuse.ReadIn{Size: 5})})
		a = within(t, "the request", answers)
		a.GiveData([]byte("twelve bytes"))
		if r := within(t, "the answer", read); string(r.Body) != "twelv" {
			t.Errorf("%q %v", r.Body, r.Errno)
		}
		if (fuse.Answer{}).Give(fuse.OK) || len(s.Running()) != 0 {
			t.Error("an answer to nothing")
		}
	})
}

// A thousand requests are pending and answered by many goroutines in any
// order; each gets its own answer once.
func TestManyPending(t *testing.T) {
	fs := newMemFS()
	var answers []fuse.Answer
	var mu sync.Mutex
	arrived := make(chan struct{}, 5000)
	fs.hook = func(h *fuse.InHeader, _ <-chan struct{}) fuse.Status {
		mu.Lock()
		answers = append(answers, fs.server.Answer(h))
		mu.Unlock()
		arrived <- struct{}{}
		return fuse.Pending
	}
	const n = 5000 // more than the table has slots
	k, s := session(t, fs, fusetest.Options{MaxPayload: 8192}, nil)
	var replies []<-chan fusetest.Reply
	for range n {
		replies = append(replies, getattr(k, 0))
	}
	for range n {
		within(t, "a request", arrived)
	}
	if got := len(s.Running()); got != n {
		t.Errorf("%d running", got)
	}
	var given atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range answers {
				if answers[len(answers)-1-i].Give(fuse.OK) {
					given.Add(1)
				}
			}
		})
	}
	wg.Wait()
	for _, r := range replies {
		if r := within(t, "an answer", r); r.Errno != 0 {
			t.Fatal(r.Errno)
		}
	}
	if given.Load() != n || s.Stats().Running != 0 {
		t.Errorf("%d answers given, %d running", given.Load(), s.Stats().Running)
	}
}

func TestInterrupt(t *testing.T) {
	fs := newMemFS()
	running := make(chan uint64, 1)
	fs.hook = func(h *fuse.InHeader, cancel <-chan struct{}) fuse.Status {
		running <- h.Unique
		<-cancel
		return fuse.EINTR
	}
	k, s := session(t, fs, fusetest.Options{}, &fuse.MountOptions{Interrupts: fuse.InterruptAll})
	for unique := uint64(1000); unique < 1010; unique += 2 { // more than one: the channel is made anew
		reply := getattr(k, unique)
		within(t, "the request", running)
		k.Interrupt(unique)
		if r := within(t, "the answer", reply); r.Errno != syscall.EINTR {
			t.Errorf("%v", r.Errno)
		}
	}
	// One that comes before its request is not lost.
	k.Interrupt(2000)
	if r := within(t, "the answer", getattr(k, 2000)); r.Errno != syscall.EINTR {
		t.Errorf("early: %v", r.Errno)
	}
	<-running
	k.Interrupt(1000) // one that has ended
	if st := s.Stats(); st.Interrupts != 7 || st.Cancelled != 6 {
		t.Errorf("%+v", st)
	}
}

// Unless somebody asks for it an INTERRUPT whose caller has no signal that
// stops anything does nothing: this process is the caller, and has none.
func TestHarmlessInterrupt(t *testing.T) {
	fs := newMemFS()
	running, goOn := make(chan struct{}), make(chan struct{})
	fs.hook = func(_ *fuse.InHeader, cancel <-chan struct{}) fuse.Status {
		running <- struct{}{}
		select {
		case <-cancel:
			return fuse.EINTR
		case <-goOn:
			return fuse.OK
		}
	}
	k, _ := session(t, fs, fusetest.Options{}, nil)
	reply := k.Go(&fusetest.Request{Op: wire.OpGetattr, Node: 2, Unique: 500, Args: make([]byte, 16), PID: uint32(syscall.Getpid())})
	within(t, "the request", running)
	k.Interrupt(500)
	close(goOn)
	if r := within(t, "the answer", reply); r.Errno != 0 {
		t.Errorf("%v", r.Errno)
	}
}

func TestLimits(t *testing.T) {
	fs := newMemFS()
	var running, most atomic.Int64
	step := make(chan struct{})
	entered := make(chan struct{}, 64)
	fs.hook = func(h *fuse.InHeader, cancel <-chan struct{}) fuse.Status {
		if wire.Opcode(h.Opcode) != wire.OpRead {
			return fuse.OK
		}
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		entered <- struct{}{}
		<-step
		running.Add(-1)
		return fuse.OK
	}
	k, _ := session(t, fs, fusetest.Options{}, &fuse.MountOptions{
		Limits: map[fuse.Class]fuse.Limit{fuse.ClassRead: {Requests: 3, Bytes: 2000}},
	})
	var replies []<-chan fusetest.Reply
	for range 20 {
		replies = append(replies, k.Go(&fusetest.Request{Op: wire.OpRead, Node: 2, Args: fusetest.Args(&fuse.ReadIn{Size: 1000})}))
	}
	within(t, "a read", entered)
	within(t, "a second read", entered)
	if _, errno := k.Getattr(2); errno != 0 { // another class
		t.Errorf("GETATTR: %v", errno)
	}
	close(step)
	for _, r := range replies {
		if r := within(t, "an answer", r); r.Errno != 0 {
			t.Errorf("%v", r.Errno)
		}
	}
	if most.Load() != 2 {
		t.Errorf("%d at a time, 2 fit", most.Load())
	}
}

func TestDeadline(t *testing.T) {
	fs := newMemFS()
	fs.hook = func(_ *fuse.InHeader, cancel <-chan struct{}) fuse.Status {
		<-cancel
		return fuse.Status(syscall.ETIMEDOUT)
	}
	k, _ := session(t, fs, fusetest.Options{}, &fuse.MountOptions{
		Limits: map[fuse.Class]fuse.Limit{fuse.ClassMeta: {Requests: 1, Deadline: 20 * time.Millisecond}},
	})
	var replies []<-chan fusetest.Reply
	for range 3 { // two of them never get their turn, or late
		replies = append(replies, getattr(k, 0))
	}
	for _, r := range replies {
		if r := within(t, "an answer", r); r.Errno != syscall.ETIMEDOUT {
			t.Errorf("%v", r.Errno)
		}
	}
}

// A deadline answers the caller while the handler goes on; what that answers
// later does not count.
func TestDeadlineAnswers(t *testing.T) {
	both(t, func(t *testing.T, o fusetest.Options) {
		fs := newMemFS()
		entered, goOn := make(chan struct{}), make(chan struct{})
		var slow atomic.Bool
		slow.Store(true)
		fs.hook = func(*fuse.InHeader, <-chan struct{}) fuse.Status {
			if slow.Load() {
				entered <- struct{}{}
				<-goOn
			}
			return fuse.OK
		}
		late := fuse.Limit{Deadline: 20 * time.Millisecond, Expired: fuse.Status(syscall.ETIMEDOUT)}
		k, s := session(t, fs, o, &fuse.MountOptions{
			Limits: map[fuse.Class]fuse.Limit{fuse.ClassMeta: late, fuse.ClassRead: late},
		})
		go func() {
			for range 2 {
				<-entered
			}
		}()
		if _, errno := k.Lookup(1, "1"); errno != syscall.ETIMEDOUT {
			t.Errorf("LOOKUP: %v", errno)
		}
		if _, errno := k.Read(2, 0, 0, 4096); errno != syscall.ETIMEDOUT {
			t.Errorf("READ: %v", errno)
		}
		if st := s.Stats(); st.Expired != 2 || st.Running != 2 {
			t.Errorf("%+v, want 2 expired, 2 running", st)
		}
		close(goOn)
		eventually(t, "the end of the handlers", func() bool { return s.Stats().Unanswered == 2 })
		slow.Store(false)
		// On a loaded machine a quick handler may miss its deadline.
		eventually(t, "a quick LOOKUP", func() bool {
			_, errno := k.Lookup(1, "2")
			return errno == 0
		})
		eventually(t, "a quick READ", func() bool {
			b, errno := k.Read(2, 0, 0, 4096)
			return errno == 0 && len(b) == 4096
		})
		fs.mu.Lock()
		defer fs.mu.Unlock()
		if fs.forgot[3] != 1 {
			t.Errorf("references that were taken back: %d, want 1", fs.forgot[3])
		}
	})
}

func TestMiddleware(t *testing.T) {
	var order strings.Builder
	wrap := func(name string) fuse.Middleware {
		return func(next fuse.Handler) fuse.Handler {
			return fuse.HandlerFunc(func(r *fuse.Request) fuse.Status {
				order.WriteString(name)
				if n, _ := r.Names(); n == "9" {
					return fuse.EACCES
				}
				return next.ServeFUSE(r)
			})
		}
	}
	k, _ := session(t, newMemFS(), fusetest.Options{}, &fuse.MountOptions{Middleware: []fuse.Middleware{wrap("a"), wrap("b")}})
	if _, errno := k.Lookup(1, "1"); errno != 0 || order.String() != "ab" {
		t.Errorf("%v, order %q", errno, order.String())
	}
	if _, errno := k.Lookup(1, "9"); errno != syscall.EACCES {
		t.Errorf("%v", errno)
	}
}

func TestTrace(t *testing.T) {
	var text, js bytes.Buffer
	fs := newMemFS()
	k, s := session(t, fs, fusetest.Options{}, &fuse.MountOptions{Logger: logTo(&text)})
	k.Lookup(1, "1")
	if text.Len() != 0 {
		t.Errorf("traced without being asked: %s", text.Bytes())
	}
	s.SetDebug(true)
	s.TraceJSON(&js)
	s.LogSlow(1)
	k.Lookup(1, "2")
	s.SetDebug(false)
	s.TraceJSON(nil)
	s.LogSlow(0)
	k.Lookup(1, "3")
	for _, want := range []string{`LOOKUP n1 "2"`, "OK, n4", "slow: LOOKUP"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.Bytes())
		}
	}
	var rec fuse.TraceRecord
	if err := json.Unmarshal(js.Bytes(), &rec); err != nil || rec.Op != "LOOKUP" || rec.Name != "2" || rec.Size != 128 {
		t.Errorf("%+v %v in %s", rec, err, js.Bytes())
	}
	if strings.Contains(text.String(), `"3"`) {
		t.Errorf("traced after it was switched off:\n%s", text.Bytes())
	}
}

func TestTraceExtensions(t *testing.T) {
	var text bytes.Buffer
	k, s := session(t, newMemFS(), fusetest.Options{}, &fuse.MountOptions{
		Logger: logTo(&text), ExtraCapabilities: fuse.CAP_SECURITY_CTX | fuse.CAP_CREATE_SUPP_GROUP,
	})
	s.SetDebug(true)
	call := func(x []byte) {
		k.Call(&fusetest.Request{Op: wire.OpMkdir, Node: 1, Args: fusetest.Args(&fuse.MkdirIn{}), Payload: append([]byte("d\x00"), x...), Ext: len(x)})
	}
	call(wire.AppendExtensions(nil, wire.Extensions{
		Security: []wire.SecurityContext{{Name: "security.selinux", Value: []byte("label")}}, Groups: []uint32{7},
	}))
	call([]byte{1, 2, 3, 4, 5, 6, 7, 8})
	for _, want := range []string{`MKDIR n1 "d"`, `ext{secctx=[security.selinux:"label"] groups=[7]}`, "ext{malformed, 8 bytes}"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.Bytes())
		}
	}
}

func TestHistogram(t *testing.T) {
	k, s := session(t, newMemFS(), fusetest.Options{}, nil)
	for range 100 {
		k.Getattr(2)
	}
	k.Lookup(1, "none")
	h := s.Latency("GETATTR")
	if h.Count != 100 || h.Errors != 0 || h.Sum <= 0 {
		t.Errorf("%+v", h)
	}
	if q := h.Quantile(1); q < h.Sum/100 {
		t.Errorf("longest %v is shorter than the mean %v", q, h.Sum/100)
	}
	if e := s.Latency("LOOKUP"); e.Errors != 1 {
		t.Errorf("%d errors", e.Errors)
	}
	var last uint64
	h.Buckets(func(_ time.Duration, n uint64) {
		if n < last {
			t.Errorf("buckets fall from %d to %d", last, n)
		}
		last = n
	})
	if last != 100 || !strings.Contains(s.DebugData(), "transport: fake") {
		t.Errorf("%d; %s", last, s.DebugData())
	}
}

func ctxFor(t *testing.T) context.Context {
	ctx, stop := context.WithTimeout(context.Background(), watchdog)
	t.Cleanup(stop)
	return ctx
}
