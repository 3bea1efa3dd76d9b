package main

import (
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// shaper is a TCP proxy that makes a fast server look like one behind a
// line: bytes from the server share a bandwidth, and each direction takes
// half of a round trip.
type shaper struct {
	l     net.Listener
	to    string
	rate  float64 // bytes per second from the server, 0: unlimited
	delay time.Duration
	seen  func(b []byte) // if not nil, is told of what clients send

	mu   sync.Mutex
	free time.Time // when the line is free again
}

func newShaper(to string, bitsPerSecond float64, rtt time.Duration) (*shaper, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &shaper{l: l, to: to, rate: bitsPerSecond / 8, delay: rtt / 2}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(c)
		}
	}()
	return s, nil
}

func (s *shaper) addr() string { return s.l.Addr().String() }
func (s *shaper) close()       { s.l.Close() }

func (s *shaper) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", s.to)
	if err != nil {
		return
	}
	defer server.Close()
	done := make(chan struct{}, 2)
	go func() { s.pipe(server, client, false); done <- struct{}{} }()
	go func() { s.pipe(client, server, true); done <- struct{}{} }()
	<-done
}

type packet struct {
	b  []byte
	at time.Time
}

// pipe carries bytes from one side to the other, each delayed, and if limited
// no faster than the line.
func (s *shaper) pipe(to, from net.Conn, limited bool) {
	queue := make(chan packet, 4096)
	go func() {
		defer close(queue)
		for {
			b := make([]byte, 16<<10)
			n, err := from.Read(b)
			if n > 0 && !limited && s.seen != nil {
				s.seen(b[:n])
			}
			if n > 0 {
				queue <- packet{b[:n], s.departure(n, limited).Add(s.delay)}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range queue {
		sleepUntil(p.at)
		if _, err := to.Write(p.b); err != nil {
			break
		}
	}
	if c, ok := to.(*net.TCPConn); ok {
		_ = c.CloseWrite()
	}
	_, _ = io.Copy(io.Discard, from)
}

// sleepUntil is time.Sleep to within some 60 µs: the timers of the runtime
// are late by up to 1 ms, which would be a tenth of a round trip.
func sleepUntil(at time.Time) {
	const late = 2 * time.Millisecond
	if d := time.Until(at) - late; d > 0 {
		time.Sleep(d)
	}
	for d := time.Until(at); d > 0; d = time.Until(at) {
		t := unix.NsecToTimespec(int64(d))
		_ = unix.Nanosleep(&t, nil) // cut short: go round again
	}
}

// departure returns when n bytes have left the line.
func (s *shaper) departure(n int, limited bool) time.Time {
	now := time.Now()
	if !limited || s.rate == 0 {
		return now
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free.Before(now) {
		s.free = now
	}
	s.free = s.free.Add(time.Duration(float64(n) / s.rate * float64(time.Second)))
	return s.free
}
