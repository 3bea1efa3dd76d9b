package fuse_test

import (
	"io"
	"log"
	"sync"
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
