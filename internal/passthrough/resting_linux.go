package passthrough

import (
	"sync"
	"syscall"
	"time"
)

// restingFiles are files that nobody has open and that are kept open for a
// second, for whoever opens them again: the kernel's backing file, or a
// descriptor to read. The zero value is ready.
type restingFiles struct {
	waking sync.Mutex // held while files are closed; taken first

	mu    sync.Mutex
	queue []restingFile // the oldest first
	timer *time.Timer   // runs while there are any
	ended bool
}

type restingFile struct {
	n     *node
	since time.Time
}

const (
	restFor    = time.Second
	maxResting = 1024
)

// rest keeps n, which was just closed, open for a while. n.mu is held.
func (f *FS) rest(n *node) {
	if n.resting {
		return
	}
	q := &f.resting
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended || len(q.queue) >= maxResting {
		f.shut(n)
		return
	}
	n.resting = true
	q.queue = append(q.queue, restingFile{n, time.Now()})
	if q.timer == nil {
		q.timer = time.AfterFunc(restFor, f.wakeRested)
	} else if len(q.queue) == 1 {
		q.timer.Reset(restFor)
	}
}

// wakeRested closes what has been kept for long enough.
func (f *FS) wakeRested() {
	q := &f.resting
	q.waking.Lock()
	defer q.waking.Unlock()
	q.mu.Lock()
	if f.server.Load() == nil && !q.ended && len(q.queue) > 0 {
		// A successor is not there yet that could give backing files back.
		q.timer.Reset(restFor)
		q.mu.Unlock()
		return
	}
	k := 0
	for k < len(q.queue) && (q.ended || time.Since(q.queue[k].since) >= restFor) {
		k++
	}
	due := q.queue[:k:k]
	q.queue = q.queue[k:]
	if len(q.queue) == 0 {
		q.queue = nil
	} else if !q.ended {
		q.timer.Reset(max(restFor-time.Since(q.queue[0].since), time.Millisecond))
	}
	q.mu.Unlock()
	for _, r := range due {
		r.n.mu.Lock()
		r.n.resting = false
		if !r.n.dead && r.n.rec.opens.Load() <= 0 {
			f.shut(r.n)
		}
		r.n.mu.Unlock()
	}
}

// Settle closes what is only kept open, and keeps nothing more: a successor is
// about to go on, whose the table and the backing files are then.
func (f *FS) Settle() {
	q := &f.resting
	q.mu.Lock()
	q.ended = true
	if q.timer != nil {
		q.timer.Stop()
	}
	q.mu.Unlock()
	f.wakeRested()
}

// rests reports whether n, which nobody has open any more, is to be kept open:
// not on a network, where an open asks for what is new.
func (f *FS) rests(n *node) bool {
	return f.local && f.opts.Cache != CacheNone && n.rec.handle.Size > 0 && n.rec.pin.Load() == 0 && !n.written
}

// unrest closes what n, of this new mode, has open for nobody if the kernel does
// not take it as a backing file any longer: see fuse.Server.RegisterBackingFd.
func (f *FS) unrest(n *node, mode uint32) {
	if n.rec == nil || n.mode != syscall.S_IFREG || mode&(syscall.S_ISGID|syscall.S_IXGRP) != syscall.S_ISGID {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.rec.opens.Load() <= 0 {
		f.shut(n)
	}
}

// shut closes what n has open for its data. n.mu is held.
func (f *FS) shut(n *node) {
	f.endBacking(n)
	n.rd.Drop()
	n.wr.Drop()
}
