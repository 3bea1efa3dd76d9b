package main

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"time"
)

// asked is what clients asked the server for, and when it came to the line.
// Its methods may be called concurrently.
type asked struct {
	mu  sync.Mutex
	all []ask
}

type ask struct {
	at   time.Time
	what string
}

// add notes a request, of which b is the beginning.
func (a *asked) add(b []byte) {
	first, head, _ := bytes.Cut(b, []byte("\r\n"))
	what := string(bytes.TrimSuffix(first, []byte(" HTTP/1.1")))
	if _, r, ok := bytes.Cut(head, []byte("\nRange: ")); ok {
		r, _, _ = bytes.Cut(r, []byte("\r"))
		what += " " + string(r)
	}
	a.mu.Lock()
	a.all = append(a.all, ask{time.Now(), what})
	a.mu.Unlock()
}

func (a *asked) reset() {
	a.mu.Lock()
	a.all = nil
	a.mu.Unlock()
}

// print shows the requests in milliseconds since begin.
func (a *asked) print(w io.Writer, begin time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, k := range a.all {
		fmt.Fprintf(w, "%8.1f %s\n", ms(k.at.Sub(begin)), k.what)
	}
}
