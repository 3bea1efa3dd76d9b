package fuse_test

import (
	"io"
	"log"
	"sync"
	"testing"
	"time"
)

// logTo makes a logger that writes to w, one line at a time.
func logTo(w io.Writer) *log.Logger { return log.New(&lockedWriter{w: w}, "", 0) }

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// eventually waits until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for until := time.Now().Add(watchdog); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("%s does not happen", what)
		}
	}
}
