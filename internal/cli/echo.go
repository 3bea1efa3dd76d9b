package cli

import (
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// echo shows what a process in the background says to its user, the lines of
// its log that begin with the program's name, while somebody waits for it.
type echo struct {
	out  io.Writer
	path string
	at   int64  // how far the log was read
	rest string // of what was read: the beginning of a line
	last string // held back: it may be why the process ends
	stop chan struct{}
	wg   sync.WaitGroup
}

const echoPause = 200 * time.Millisecond

// newEcho follows the log at path from the byte from on.
func newEcho(out io.Writer, path string, from int64) *echo {
	e := &echo{out: out, path: path, at: from, stop: make(chan struct{})}
	e.wg.Go(func() {
		t := time.NewTicker(echoPause)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				e.look()
			case <-e.stop:
				e.look()
				return
			}
		}
	})
	return e
}

// look shows what has come, but for the last line.
func (e *echo) look() {
	f, err := os.Open(e.path)
	if err != nil {
		return
	}
	defer f.Close()
	b, _ := io.ReadAll(io.NewSectionReader(f, e.at, 1<<20))
	e.at += int64(len(b))
	text := e.rest + string(b)
	end := strings.LastIndexByte(text, '\n') + 1
	e.rest = text[end:]
	for line := range strings.Lines(text[:end]) {
		if strings.HasPrefix(line, "sluice: ") {
			io.WriteString(e.out, e.last)
			e.last = line
		}
	}
}

// end stops following; whole says that the last line is not why the process
// ended.
func (e *echo) end(whole bool) {
	close(e.stop)
	e.wg.Wait()
	if whole {
		io.WriteString(e.out, e.last)
	}
}
