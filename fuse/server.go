package fuse

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluicefs/sluice/fuse/channel"
	"github.com/sluicefs/sluice/fuse/mount"
)

// Server serves a file system to the kernel. Its methods may be called
// concurrently.
type Server struct {
	notifications
	e     *engine
	ch    channel.Channel
	point *mount.Point // nil: the channel was given by the caller
	view  NodeMap      // not nil: made by View

	serving  atomic.Bool
	attached chan struct{} // the mount is in the tree
	probed   chan struct{} // the files of the mount may be opened by package os
	done     chan struct{} // Serve has ended
	err      error         // of Serve; set before done is closed

	passOnce sync.Once
	pass     *Passthrough

	mu        sync.Mutex // serialises unmounting; held over it, never by handlers
	unmounted bool
	aborted   atomic.Bool // by us: a dead mount may be left
}

// NewServer mounts fs at mountPoint and returns its server, whose
// [Server.Serve] answers the requests; until that runs, whoever looks into the
// mount waits. A mountPoint /dev/fd/N is a descriptor of /dev/fuse that
// somebody else has mounted; it cannot be unmounted through the Server.
// opts may be nil.
func NewServer(fs RawFileSystem, mountPoint string, opts *MountOptions) (*Server, error) {
	if opts == nil {
		opts = &MountOptions{}
	}
	mo, err := mountOptions(fs, mountPoint, opts)
	if err != nil {
		return nil, err
	}
	point, err := mount.Prepare(mo)
	if err != nil {
		return nil, err
	}
	s, err := newMounted(fs, point, opts)
	if err != nil {
		return nil, err
	}
	if err := point.Attach(); err != nil {
		s.ch.Close()
		return nil, err
	}
	close(s.attached)
	return s, nil
}

// Mount mounts fs at mountPoint, serves it in the background and returns when
// the mount can be used: [NewServer], Serve and WaitMount in one. Where the
// kernel can (Linux 6.18, on the device) the mount is not seen by anybody before
// it answers.
// opts may be nil.
func Mount(mountPoint string, fs RawFileSystem, opts *MountOptions) (*Server, error) {
	if opts == nil {
		opts = &MountOptions{}
	}
	mo, err := mountOptions(fs, mountPoint, opts)
	if err != nil {
		return nil, err
	}
	// With INIT inside of mounting, the kernel takes the answer in at an
	// unknown moment after it was given, and refuses rings until then.
	mo.SyncInit = !wantsRings(opts)
	point, err := mount.Prepare(mo)
	if err != nil {
		return nil, err
	}
	s, err := newMounted(fs, point, opts)
	if err != nil {
		return nil, err
	}
	if point.Synchronous() { // attaching waits for the answer to INIT
		go s.Serve()
	}
	if err := point.Attach(); err != nil {
		s.ch.Close()
		return nil, err
	}
	close(s.attached)
	if !point.Synchronous() {
		go s.Serve()
	}
	if err := s.WaitMount(); err != nil {
		return nil, errors.Join(err, s.Unmount())
	}
	return s, nil
}

// NewServerOn returns a server for a session that arrives by ch, which the
// server owns from then on: a channel of another kind, or the fake kernel of
// package fusetest. opts may be nil; what it says about mounting is ignored.
func NewServerOn(fs RawFileSystem, ch channel.Channel, opts *MountOptions) *Server {
	if opts != nil && opts.WrapChannel != nil {
		ch = opts.WrapChannel(ch)
	}
	s := &Server{ch: ch, attached: make(chan struct{}), probed: make(chan struct{}), done: make(chan struct{})}
	s.e = newEngine(fs, opts, ch)
	s.e.server = s
	s.notifications.q = s.e.notify
	return s
}

func newMounted(fs RawFileSystem, point *mount.Point, opts *MountOptions) (*Server, error) {
	ch, err := openChannel(point.FD(), point.Path(), opts)
	if err != nil {
		closeFD(point.FD())
		return nil, fmt.Errorf("open a channel to %s: %w", point.Path(), err)
	}
	s := NewServerOn(fs, ch, opts)
	s.point = point
	return s, nil
}

// mountOptions makes options of package mount of those of this one.
func mountOptions(fs RawFileSystem, point string, opts *MountOptions) (mount.Options, error) {
	mo := mount.Options{
		Point: point, Source: opts.FsName, Subtype: opts.Name, AllowOther: opts.AllowOther,
		DefaultPermissions: opts.IDMappedMount || opts.EnableAcl, NoSuid: true, NoDev: true,
	}
	if mo.Source == "" {
		mo.Source = fs.String()
	}
	if n := opts.MaxWrite; n >= 4096 { // INIT agrees on whole pages only
		mo.MaxRead = uint32(min(n, 1<<30))
	}
	if opts.DirectMountStrict && mo.Method == mount.Auto {
		mo.Method = mount.API
	}
	if opts.DirectMountFlags != 0 {
		mo.NoSuid, mo.NoDev = false, false
		for _, f := range mountFlags {
			if opts.DirectMountFlags&f.flag != 0 {
				f.set(&mo)
			}
		}
	}
	return mo, mo.Parse(opts.Options...)
}

// Serve answers requests until the file system is unmounted or the session is
// ended otherwise. A second call waits for the end of the first.
func (s *Server) Serve() {
	if s.serving.Swap(true) {
		<-s.done
		return
	}
	go s.afterInit()
	err := s.ch.Serve(s.e)
	if f := s.e.fatal.Load(); f != nil {
		err = errors.Join(*f, err)
	}
	if err != nil {
		s.e.logger.Printf("fuse: session ended: %v", err)
		s.abandon()
	} else if s.point != nil && !s.aborted.Load() && !s.e.detached.Load() && s.point.Dead() {
		s.e.logger.Printf("fuse: the kernel ended the session of %s: a time-out of requests, or an abort", s.point.Path())
		_ = s.point.Detach() // nobody can use it any more
	}
	s.e.end(s.patience())
	if !s.e.detached.Load() {
		s.e.guard(&Request{eng: s.e}, func() Status { s.e.fs.OnUnmount(); return OK })
	}
	s.ch.Close()
	s.err = err
	close(s.done)
}

// abandon makes sure that nobody waits for a server that has failed.
func (s *Server) abandon() {
	if s.point != nil {
		_ = s.point.Abort()
		_ = s.point.Detach()
	} else if a, ok := s.ch.(channel.Aborter); ok {
		_ = a.Abort()
	}
}

// afterInit does what needs the mount to be served already.
func (s *Server) afterInit() {
	defer close(s.probed)
	<-s.e.ready
	if s.e.state.Load() != sessionOn || s.point == nil {
		return
	}
	select {
	case <-s.attached:
	case <-s.done:
		return
	}
	// Aborting needs the device number, which cannot be found any more once
	// the mount has been taken out of the tree.
	_, _ = s.point.Device()
	if s.e.resumed {
		return
	}
	if n := s.e.opts.MaxReadAhead; n > int(s.e.initIn.MaxReadAhead) {
		if err := s.point.SetReadAhead(n); err != nil {
			s.e.logger.Printf("fuse: read-ahead stays at %d bytes: %v", s.e.initIn.MaxReadAhead, err)
		}
	}
	s.e.probePoll(s.point.Path())
}

// Wait waits for Serve to end.
func (s *Server) Wait() { <-s.done }

// WaitMount waits until the kernel and the server have agreed on how to talk,
// and files of the mount may be opened, also by this process. It returns an
// error if the session ended before that.
func (s *Server) WaitMount() error {
	select {
	case <-s.e.ready:
	case <-s.done:
	}
	if f := s.e.fatal.Load(); f != nil {
		return *f
	}
	if s.e.state.Load() == sessionNew || s.e.initIn.Major == 0 {
		return fmt.Errorf("the fuse session ended before it began: %w", syscall.ENODEV)
	}
	<-s.probed
	return nil
}

// Unmount takes the mount off and waits for Serve to end. If the session has
// ended already, by an abort, it waits all the same for the handlers that were
// running; their cancel channels are closed. If files are open or
// a process works in it the error is EBUSY and nothing has changed; see
// [Server.Shutdown] for an end that is certain. Unmounting what is unmounted is
// no error.
func (s *Server) Unmount() error {
	if s.view != nil {
		return errView
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unmounted || s.ended() {
		return s.clear()
	}
	if err := s.detach(false); err != nil {
		return err
	}
	s.unmounted = true
	ctx, stop := context.WithTimeout(context.Background(), s.patience())
	defer stop()
	return s.awaitEnd(ctx)
}

// Shutdown ends the session whatever it takes until ctx ends, and a moment
// longer: it unmounts, or if the mount is in use takes it out of the tree so
// that nobody new comes in, waits for the last open file to be closed, and
// when ctx ends aborts the session: whoever still uses it gets errors. It
// returns nil if aborting was not needed, and otherwise ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	if s.view != nil {
		return errView
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended() {
		return s.clear()
	}
	if !s.unmounted {
		err := s.detach(false)
		if errors.Is(err, syscall.EBUSY) {
			err = s.detach(true)
		}
		if err != nil {
			return errors.Join(err, s.abort())
		}
		s.unmounted = true
	}
	return s.awaitEnd(ctx)
}

// clear takes the dead mount of a session out of the tree that we have aborted.
func (s *Server) clear() error {
	if !s.aborted.Load() || s.unmounted || s.point == nil {
		return nil
	}
	s.unmounted = true
	return s.point.Detach()
}

// detach takes the mount off, or out of the tree if lazy.
func (s *Server) detach(lazy bool) error {
	if s.point == nil {
		return s.ch.Close()
	}
	if lazy {
		return s.point.Detach()
	}
	var err error
	for wait := time.Millisecond; wait < 100*time.Millisecond; wait *= 2 {
		// A close(2) that has returned may still be on its way to us.
		if err = s.point.Unmount(); !errors.Is(err, syscall.EBUSY) {
			return err
		}
		time.Sleep(wait)
	}
	return err
}

// awaitEnd waits for Serve to end, and aborts the session when ctx ends.
func (s *Server) awaitEnd(ctx context.Context) error {
	if !s.serving.Load() {
		return s.ch.Close()
	}
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
	}
	return errors.Join(context.Cause(ctx), s.abort())
}

// abort ends the kernel's side by force and waits for Serve to see it.
func (s *Server) abort() error {
	s.aborted.Store(true)
	var err error
	if s.point != nil {
		err = s.point.Abort()
	} else if a, ok := s.ch.(channel.Aborter); ok {
		err = a.Abort()
	}
	err = errors.Join(err, s.ch.Close())
	if !s.serving.Load() {
		return err
	}
	select {
	case <-s.done:
	case <-time.After(s.patience()): // a handler does not come back
	}
	return err
}

// Abort ends the session by force: each waiting caller gets an error at once.
// The mount point stays and gives ENOTCONN until it is unmounted.
func (s *Server) Abort() error {
	if s.view != nil {
		return errView
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended() {
		return nil
	}
	return s.abort()
}

func (s *Server) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// defaultUnmountTimeout is what MountOptions.UnmountTimeout 0 means.
const defaultUnmountTimeout = 10 * time.Second

func (s *Server) patience() time.Duration {
	if d := s.e.opts.UnmountTimeout; d > 0 {
		return d
	}
	return defaultUnmountTimeout
}

// KernelSettings returns what the kernel said in INIT, so that a file system
// can adapt. It is valid from RawFileSystem.Init on and must not be changed.
func (s *Server) KernelSettings() *InitIn { return &s.e.initIn }

// SetDebug switches the readable trace of all requests, to the logger, on or
// off. It works at any time.
func (s *Server) SetDebug(on bool) { s.e.SetDebug(on) }

// RecordLatencies gives each request's duration to l, besides the histograms
// that are always kept ([Server.Latency]); nil stops it. l must be safe for
// concurrent use.
func (s *Server) RecordLatencies(l LatencyMap) {
	if l == nil {
		s.e.metrics.latency.Store(nil)
		return
	}
	s.e.metrics.latency.Store(&l)
}

// Notifier tells the kernel what has changed; it is valid at any time, and
// what is queued before INIT is sent after it.
func (s *Server) Notifier() *Notifier { return s.notifications.q }

// Answer returns where the answer of the running request with that header can
// be given later: a method of a [RawFileSystem] takes it, hands it to another
// goroutine and returns [Pending]. Inputs and outputs of the method may be used
// until the answer is given.
func (s *Server) Answer(header *InHeader) Answer {
	if r := s.e.inflight.find(header.Unique); r != nil {
		if turn := r.turn.Load(); turn&1 == 1 {
			return Answer{r, turn, s.view}
		}
	}
	return Answer{}
}

// Block says that the handler of the request with that header is about to wait
// for long, so that its reader is given to another request at once. Without it
// the server finds out by itself, a little later.
func (s *Server) Block(header *InHeader) {
	if r := s.e.inflight.find(header.Unique); r != nil {
		r.msg.Slot.Block()
	}
}

// Request returns the running request with that header, or nil: for its
// Extensions, or whether it was Resent. It may be used until the method of the
// [RawFileSystem] that got the header returns.
func (s *Server) Request(header *InHeader) *Request {
	return s.e.inflight.find(header.Unique)
}
