package cache

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/sluicefs/sluice/storage"
)

// flight is one chunk on its way. Those who want it wait for done; the first
// of them starts a job that brings it, alone or with its neighbours.
type flight struct {
	s    *store
	r    *Reader // whose job it is
	ch   storage.Chunk
	seal uint64
	done chan struct{}
	refs atomic.Int32 // holders of data: those who wait, and the job

	// Set before done is closed. data goes back to the pool with the last
	// reference.
	data []byte
	err  error

	// Guarded by s.mu.
	waiters int
	landed  bool
	spare   bool // kept in memory, see spares
	urgent  bool // a reader waits
	job     *job
}

// job is flights that come with one range.
type job struct {
	cancel context.CancelFunc
	live   atomic.Int32 // flights that somebody waits for

	once sync.Once
	rush chan struct{} // closed when a reader waits for one of them
}

func newJob(cancel context.CancelFunc, flights int) *job {
	j := &job{cancel: cancel, rush: make(chan struct{})}
	j.live.Store(int32(flights))
	return j
}

// hurry says that a reader waits for one of the flights: the job yields to
// nobody any more.
func (j *job) hurry() { j.once.Do(func() { close(j.rush) }) }

// hurry says that a reader waits for f, and reports whether it need not.
func (f *flight) hurry() (landed bool) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	f.urgent = true
	if f.job != nil {
		f.job.hurry()
	}
	return f.landed
}

// errAbandoned is the error of a flight whose job ended for reasons that are
// not those of who waits: they begin a new one.
var errAbandoned = errors.New("fetch was given up by those who began it")

// join returns the flight of ch, with a reference for the caller, and
// whether it is new: then the caller starts a job for it.
func (s *store) join(r *Reader, ch *storage.Chunk, seal uint64) (f *flight, created bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.flights[seal]; f != nil {
		f.waiters++
		f.refs.Add(1)
		return f, false
	}
	f = &flight{s: s, r: r, ch: *ch, seal: seal, done: make(chan struct{}), waiters: 1}
	f.refs.Store(2) // the caller's and the job's
	s.flights[seal] = f
	return f, true
}

// leave gives up waiting for f. The last one to leave cancels it.
func (f *flight) leave() {
	f.s.mu.Lock()
	f.waiters--
	if f.waiters == 0 && !f.landed {
		delete(f.s.flights, f.seal) // whoever comes now begins anew
		if f.job != nil && f.job.live.Add(-1) == 0 {
			f.job.cancel()
		}
	}
	f.s.mu.Unlock()
	f.unref()
}

// land ends the flight with its bytes, which become the flight's, or an
// error. Later calls do nothing.
func (f *flight) land(data []byte, err error) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	if f.landed {
		return
	}
	f.landed = true
	f.data, f.err = data, err
	if err != nil && f.s.flights[f.seal] == f {
		delete(f.s.flights, f.seal) // the next try is a new one
	}
	close(f.done)
}

// retire is called by the job when the chunk has been kept, or will not be.
func (f *flight) retire() {
	f.s.mu.Lock()
	if f.s.flights[f.seal] == f && !f.spare {
		delete(f.s.flights, f.seal)
	}
	f.s.mu.Unlock()
	f.unref()
}

func (f *flight) unref() {
	if f.refs.Add(-1) == 0 && f.data != nil {
		f.s.c.pool.put(f.data)
		f.data = nil
	}
}

// wait waits for the flight and copies its bytes from off on into p. It uses
// up the caller's reference.
func (f *flight) wait(ctx context.Context, p []byte, off uint32) error {
	select {
	case <-f.done:
	default:
		select {
		case <-f.done:
		case <-ctx.Done():
			f.leave()
			return ctx.Err()
		}
	}
	err := f.err
	if err == nil {
		copy(p, f.data[off:])
	}
	f.leave()
	return err
}
