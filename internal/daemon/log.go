package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
)

// levelTrace is below debug: each request is logged.
const levelTrace = slog.LevelDebug - 4

// ParseLevel reads a log level as nydusd names them.
func ParseLevel(name string) (slog.Level, error) {
	switch strings.ToLower(name) {
	case "trace":
		return levelTrace, nil
	case "debug":
		return slog.LevelDebug, nil
	case "info", "":
		return slog.LevelInfo, nil
	case "warn", "warning":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("log level %q is unknown: trace, debug, info, warn or error", name)
}

// LevelName is the inverse of ParseLevel.
func LevelName(l slog.Level) string {
	switch {
	case l < slog.LevelDebug:
		return "trace"
	case l < slog.LevelInfo:
		return "debug"
	case l < slog.LevelWarn:
		return "info"
	case l < slog.LevelError:
		return "warn"
	}
	return "error"
}

// Events keeps the last errors that were logged: what nydusd's API calls
// events. It is a slog.Handler that passes everything on.
type Events struct {
	slog.Handler
	kept *keptEvents
}

// LogTo returns events before a log of lines that q writes.
func LogTo(q *LogQueue, level slog.Leveler) *Events {
	e := NewEvents(slog.NewTextHandler(q, &slog.HandlerOptions{Level: level}))
	e.kept.queue = q
	return e
}

type keptEvents struct {
	mu    sync.Mutex
	total int
	size  int
	last  []string
	lost  atomic.Uint64 // lines that could not be written
	queue *LogQueue     // that loses lines as well, or nil
}

const (
	maxEvents     = 500
	maxEventsSize = 50 << 10
)

// NewEvents returns a handler before next.
func NewEvents(next slog.Handler) *Events { return &Events{next, &keptEvents{}} }

// Handle passes r on and keeps it if it is an error. What cannot be written,
// for the disk is full or the reader gone, is counted.
func (e *Events) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError {
		text := r.Message
		r.Attrs(func(a slog.Attr) bool {
			text += " " + a.String()
			return true
		})
		e.kept.add(text)
	}
	err := e.Handler.Handle(ctx, r)
	if err != nil {
		e.kept.lost.Add(1)
	}
	return err
}

// Lost returns how many lines could not be written.
func (e *Events) Lost() uint64 {
	n := e.kept.lost.Load()
	if q := e.kept.queue; q != nil {
		n += q.Lost()
	}
	return n
}

// logLost is Lost of the daemon's log.
func (d *Daemon) logLost() uint64 {
	if d.opts.Events == nil {
		return 0
	}
	return d.opts.Events.Lost()
}

// WithAttrs keeps the events together.
func (e *Events) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &Events{e.Handler.WithAttrs(attrs), e.kept}
}

// WithGroup keeps the events together.
func (e *Events) WithGroup(name string) slog.Handler {
	return &Events{e.Handler.WithGroup(name), e.kept}
}

func (k *keptEvents) add(text string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(text) > maxEventsSize/10 {
		text = text[:maxEventsSize/10]
	}
	k.total++
	k.size += len(text)
	k.last = append(k.last, text)
	for len(k.last) > maxEvents || k.size > maxEventsSize {
		k.size -= len(k.last[0])
		k.last = k.last[1:]
	}
}

func (k *keptEvents) list() (total int, last []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.total, append([]string{}, k.last...)
}

// LogFile is a log that is set aside when it has grown to a size: the last
// one is kept with the ending .1. A device or a pipe never is.
type LogFile struct {
	path string
	max  int64 // bytes; 0 = never

	mu   sync.Mutex
	f    *os.File
	size int64
	file bool // a regular file
}

// OpenLog opens or makes the log at path.
func OpenLog(path string, maxBytes int64) (*LogFile, error) {
	l := &LogFile{path: path, max: maxBytes}
	return l, l.open()
}

func (l *LogFile) open() error {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return fmt.Errorf("log file: %w", err)
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return fmt.Errorf("log file: %w", err)
	}
	l.f, l.size, l.file = f, fi.Size(), fi.Mode().IsRegular()
	return nil
}

// Write appends a line.
func (l *LogFile) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file && l.max > 0 && l.size > 0 && l.size+int64(len(b)) > l.max {
		if err := l.rotate(); err != nil {
			return 0, err
		}
	}
	n, err := l.f.Write(b)
	l.size += int64(n)
	return n, err
}

func (l *LogFile) rotate() error {
	l.f.Close()
	if err := os.Rename(l.path, l.path+".1"); err != nil && !os.IsNotExist(err) {
		return err
	}
	return l.open()
}

// Reopen opens the file anew, after somebody has moved it away.
func (l *LogFile) Reopen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.f.Close()
	return l.open()
}

// Close closes the file.
func (l *LogFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Close()
}
