package uring

import (
	"encoding/binary"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fuse/channel/internal/stall"
	"github.com/sluicefs/sluice/internal/sys"
)

// wakeTag is the user data of the read of the queue's eventfd; others are slot
// numbers.
const wakeTag = ^uint64(0)

// registerPause is between two tries to register an entry before the kernel is
// ready for it.
const registerPause = 100 * time.Microsecond

// queue is one processor's: its ring belongs to the goroutine that owns it, and
// passes on with the turn.
type queue struct {
	c    *Channel
	cpu  int
	size int // bytes of a payload

	ring  *sys.Ring
	left  chan struct{} // closed when the last owner left
	slots []*slot       // grown by the owner
	wake  int           // eventfd
	word  []byte        // where the wake-up is read to
	turn  stall.Turn

	owner    atomic.Int32 // thread id of the owner
	anywhere unix.CPUSet  // where this process may run
	roams    bool         // the owner is not bound, see place
	odd      int          // requests in a row for which it should be as it is not
	running  int          // looks in a row at which it was stuck, but not asleep; the monitor's

	late   atomic.Pointer[slot] // answered away from the owner; a stack
	depth  atomic.Int32         // entries that there are
	held   atomic.Int32         // of those, the ones that wait for a late answer
	want   atomic.Int32         // entries to add
	lost   atomic.Int32         // threads that handlers which block have taken
	asleep atomic.Bool          // the owner sleeps, or is about to
	kicks  atomic.Int32         // calls of kick that are under way
	paused atomic.Bool          // the owner knows that the channel pauses
	again  []*slot              // requests of the predecessor, to be served; the owner's

	idlers sync.WaitGroup // spare threads

	mu     sync.Mutex
	spares []chan bool // threads that lost their turn; true: own the queue again
	closed bool
	mem    [][]byte
}

func newQueue(c *Channel, cpu, size int) (*queue, error) {
	ring, err := sys.NewRing(c.opts.MaxDepth + 8)
	if err != nil {
		return nil, err
	}
	q := &queue{c: c, cpu: cpu, size: size, ring: ring, wake: -1, left: make(chan struct{})}
	if unix.SchedGetaffinity(0, &q.anywhere) != nil {
		q.anywhere.Zero() // then the owner stays
	}
	if q.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err == nil {
		if q.word, err = sys.Map(sys.PageSize); err == nil {
			q.mem = append(q.mem, q.word)
			err = q.addSlots(q.initialSlots())
		}
	}
	if err != nil {
		ring.Close()
		q.free()
		return nil, err
	}
	return q, nil
}

// free gives back what late answers may have used until now.
func (q *queue) free() {
	if q.wake >= 0 {
		unix.Close(q.wake)
		q.wake = -1
	}
	for _, m := range q.mem {
		_ = sys.Unmap(m) // cannot fail for what Map gave
	}
	q.mem = nil
}

// found is the first owner: it gives all entries to the kernel, reports how
// that went, and goes on.
func (q *queue) found(answer chan<- error) {
	runtime.LockOSThread()
	q.bind()
	q.listen()
	for _, s := range q.slots {
		q.begin(s)
	}
	errno := q.ring.RawFlush()
	for errno == unix.EINTR || errno == unix.EAGAIN {
		errno = q.ring.RawFlush()
	}
	if errno != 0 {
		answer <- errno
		q.dismiss()
		return
	}
	// A refused entry completes at once; others do when a request comes.
	// EAGAIN is tried again: the mounting task has not taken INIT's answer yet.
	// What a predecessor left may be refused one by one; see failed.
	if res := q.ring.PeekError(); res != 0 && unix.Errno(-res) != unix.EAGAIN && !q.c.resumed {
		answer <- unix.Errno(-res)
		q.dismiss()
		return
	}
	answer <- nil
	if q.c.resumed {
		// A new entry does not pick up what has been waiting; a commit does.
		q.kick(1)
	}
	q.own()
}

// initialSlots is how many slots the queue begins with.
func (q *queue) initialSlots() int {
	if q.c.resumed {
		return int(q.c.region.count(q.cpu).Load())
	}
	return q.c.opts.Depth
}

// begin gives a slot to the kernel, or what a predecessor left in it to the
// owner.
func (q *queue) begin(s *slot) {
	how := fresh
	if q.c.resumed {
		how = s.assess()
		s.journal.held.Store(0) // it was the predecessor's mark
	}
	switch how {
	case fresh:
		q.register(s)
	case resend:
		s.registered = true
		q.commit(s)
	case redo:
		s.again = true
		q.again = append(q.again, s)
	}
}

// replace gives the queue, whose owner's turn was just stolen, to a spare
// thread or a new one, with one more entry for the one that is blocked.
func (q *queue) replace() {
	q.c.out.Add(1)
	q.lost.Add(1)
	q.hold()
	q.mu.Lock()
	if n := len(q.spares); n > 0 {
		next := q.spares[n-1]
		q.spares = q.spares[:n-1]
		q.mu.Unlock()
		next <- true
		return
	}
	q.mu.Unlock()
	go func() {
		runtime.LockOSThread()
		q.own()
	}()
}

// hold counts an entry whose answer will be late, and asks for more of them
// when half of what the queue began with is not left.
func (q *queue) hold() {
	depth := q.depth.Load()
	if held := q.held.Add(1); held >= depth-int32(q.c.opts.Depth/2) {
		q.want.CompareAndSwap(0, max(1, depth/4))
	}
}

// bind binds the thread, which its goroutine never unlocks, so that it ends with
// it. A processor that is off line or outside our cpuset cannot be bound to;
// its queue works from anywhere, only slower.
func (q *queue) bind() {
	_ = sys.BindThread(q.cpu)
	q.roams, q.odd = false, 0
}

// own runs the queue on this thread until the channel stops.
func (q *queue) own() {
	for q.run() && q.waitAsSpare() {
	}
}

// waitAsSpare reports whether the thread owns the queue again.
func (q *queue) waitAsSpare() bool {
	again := make(chan bool, 1)
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return false
	}
	q.spares = append(q.spares, again)
	q.idlers.Add(1)
	q.mu.Unlock()
	defer q.idlers.Done()
	return <-again
}

// run is the owner's loop. It reports true if the turn was stolen, false if the
// channel stops.
func (q *queue) run() bool {
	q.bind()
	q.owner.Store(int32(unix.Gettid()))
	for !q.c.stop.Load() {
		pausing := q.c.pausing.Load()
		q.ring.RawFlush()
		if pausing {
			q.paused.Store(true) // what was to be committed before is
		}
		for len(q.again) > 0 {
			s := q.again[len(q.again)-1]
			q.again = q.again[:len(q.again)-1]
			if !q.turnOf(s, 0) {
				return true
			}
		}
		if !q.ring.Ready() && q.late.Load() == nil {
			q.sleep()
		}
		for {
			tag, res, ok := q.ring.Next()
			if !ok {
				break
			}
			if tag == wakeTag {
				q.listen()
				continue
			}
			if tag < uint64(len(q.slots)) && !q.turnOf(q.slots[tag], res) {
				return true
			}
		}
		q.submitLate()
		if q.want.Load() > 0 && !pausing {
			q.grow()
		}
	}
	q.dismiss()
	return false
}

// sleep waits for a completion. A late answer, or the end, that came before the
// flag could be seen is looked for after it.
func (q *queue) sleep() {
	q.asleep.Store(true)
	pausing := q.c.pausing.Load()
	if q.late.Load() == nil && (q.want.Load() == 0 || pausing) && !q.c.stop.Load() && pausing == q.paused.Load() {
		q.ring.Wait()
	}
	q.asleep.Store(false)
}

// rouse wakes the owner if it sleeps.
func (q *queue) rouse() {
	if q.asleep.Load() && q.asleep.CompareAndSwap(true, false) {
		_, _ = sys.RawWrite(q.wake, one[:])
	}
}

// one is what an eventfd is told to add.
var one = binary.NativeEndian.AppendUint64(nil, 1)

// listen arms the read that rouse completes.
func (q *queue) listen() { q.ring.ReadInto(q.wake, q.word[:8], wakeTag) }

// dismiss sends the spare threads home.
func (q *queue) dismiss() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for _, s := range q.spares {
		s <- false
	}
	q.spares = nil
	close(q.left)
}

// turnOf has the handler serve the request in s. It reports false if the turn
// was stolen: the caller owns the queue no more.
func (q *queue) turnOf(s *slot, res int32) bool {
	if res != 0 {
		q.failed(s, res)
		return true
	}
	if q.c.pausing.Load() {
		s.park()
		return true
	}
	q.place(s)
	if !s.lend() {
		q.commit(s)
		return true
	}
	if int(q.lost.Load()) >= q.c.maxLost {
		q.serveAway(s)
		return true
	}
	// From here until End the turn may be stolen.
	ticket := q.turn.Begin()
	s.ticket = ticket
	q.c.monitor.Wake()
	q.c.handler.Handle(&s.req)
	if !q.turn.End(ticket) {
		q.lost.Add(-1)
		if s.back() {
			q.pushLate(s)
		} else {
			q.c.out.Add(1)
		}
		q.c.came(1)
		return false
	}
	if s.back() {
		q.commit(s)
		return true
	}
	q.c.out.Add(1)
	q.hold()
	return true
}

// serveAway has the handler serve the request in s on a goroutine like any
// other. It is for queues that have lost several threads to handlers which
// block: more of those would each keep a thread, because owners are locked to
// theirs.
func (q *queue) serveAway(s *slot) {
	s.state.Store(pending)
	q.c.out.Add(1)
	q.hold()
	go q.c.handler.Handle(&s.req)
}

// failed handles a command that the kernel did not carry out.
func (q *queue) failed(s *slot, res int32) {
	switch unix.Errno(-res) {
	case unix.EAGAIN, unix.EINTR:
		if s.registered {
			q.commit(s)
			return
		}
		time.Sleep(registerPause)
		q.register(s)
	case unix.ENOENT:
		// The answer came too late, and the kernel forgot the entry with it.
		q.register(s)
	}
	// ENOTCONN: the session has ended, as the device will tell. ECANCELED: a
	// thread has ended, which happens at the end only.
}

// commit queues the answer in s; the entry fetches the next request. While the
// channel pauses the answer is left to the successor.
func (q *queue) commit(s *slot) {
	if q.c.pausing.Load() {
		s.park()
		return
	}
	q.ring.Command(q.c.fd, cmdCommit, 0, 0, s.commitID(), uint16(q.cpu), uint64(s.index))
}

// register gives s to the kernel as a new entry.
func (q *queue) register(s *slot) {
	sys.IOVecs(s.vecs, s.head, s.payload)
	q.ring.Command(q.c.fd, cmdRegister, sys.Address(s.vecs), 2, 0, uint16(q.cpu), uint64(s.index))
}

// pushLate puts an answered request on the list of late answers and sees that
// the owner gets to it.
func (q *queue) pushLate(s *slot) {
	q.c.out.Add(1)
	for {
		head := q.late.Load()
		s.next = head
		if q.late.CompareAndSwap(head, s) {
			break
		}
	}
	if q.c.stopped.Load() {
		q.abandonLate()
		return
	}
	q.rouse()
}

// submitLate commits the late answers.
func (q *queue) submitLate() {
	if q.late.Load() == nil {
		return
	}
	for s := q.late.Swap(nil); s != nil; {
		next := s.next
		s.next = nil
		q.c.came(1)
		q.held.Add(-1)
		q.commit(s)
		s = next
	}
}

// abandonLate drops late answers of an ended session.
func (q *queue) abandonLate() {
	n := int64(0)
	for s := q.late.Swap(nil); s != nil; s = s.next {
		n++
	}
	if n > 0 {
		q.c.came(n)
	}
}
