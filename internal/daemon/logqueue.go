package daemon

import (
	"errors"
	"io"
	"sync/atomic"
	"time"
)

// LogQueue is a writer that never waits: what it is given is written by a
// goroutine, and what there is no room for, because the reader of a pipe sleeps
// or a disk hangs, is dropped and counted. Its methods may be called
// concurrently; each Write is a line.
type LogQueue struct {
	out   io.Writer
	items chan logItem
	bytes atomic.Int64 // in items
	lost  atomic.Uint64
	end   chan struct{}
	done  chan struct{}
}

// logItem is a line, or something to do between lines.
type logItem struct {
	line []byte
	do   func()
}

var errLogStuck = errors.New("log: nobody takes what is written")

const (
	maxLogLines = 4096
	maxLogBytes = 1 << 20

	// logPatience is how long the end of a daemon waits for its log.
	logPatience = time.Second
)

// NewLogQueue returns a queue before out, to be closed.
func NewLogQueue(out io.Writer) *LogQueue {
	q := &LogQueue{out: out, items: make(chan logItem, maxLogLines), end: make(chan struct{}), done: make(chan struct{})}
	go q.run()
	return q
}

func (q *LogQueue) run() {
	defer close(q.done)
	for {
		select {
		case i := <-q.items:
			q.handle(i)
			continue
		case <-q.end:
		}
		for {
			select {
			case i := <-q.items:
				q.handle(i)
			default:
				return
			}
		}
	}
}

func (q *LogQueue) handle(i logItem) {
	if i.do != nil {
		i.do()
		return
	}
	q.bytes.Add(-int64(len(i.line)))
	if _, err := q.out.Write(i.line); err != nil {
		q.lost.Add(1)
	}
}

// Write queues a line. It always succeeds: see Lost.
func (q *LogQueue) Write(b []byte) (int, error) {
	size := int64(len(b))
	if q.bytes.Add(size) > maxLogBytes || !q.put(logItem{line: append([]byte(nil), b...)}) {
		q.bytes.Add(-size)
		q.lost.Add(1)
	}
	return len(b), nil
}

func (q *LogQueue) put(i logItem) bool {
	select {
	case q.items <- i:
		return true
	default:
		return false
	}
}

// Lost returns how many lines were dropped or could not be written.
func (q *LogQueue) Lost() uint64 { return q.lost.Load() }

// Do has f called between two lines, and returns its error unless that takes
// longer than a second.
func (q *LogQueue) Do(f func() error) error {
	result := make(chan error, 1)
	if !q.put(logItem{do: func() { result <- f() }}) {
		return errLogStuck
	}
	select {
	case err := <-result:
		return err
	case <-time.After(logPatience):
		return errLogStuck
	}
}

// Close writes what is queued, as far as that takes no longer than a second.
// The queue must not be written to after that.
func (q *LogQueue) Close() error {
	close(q.end)
	select {
	case <-q.done:
		return nil
	case <-time.After(logPatience):
		return errLogStuck
	}
}
