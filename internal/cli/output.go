package cli

import (
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"unicode"
	"unicode/utf8"
)

// checkedWriter remembers that a write has failed, so that a command which
// could not say what it was asked for does not end as if it had.
type checkedWriter struct {
	io.Writer
	failed atomic.Pointer[error] // the first failure
}

// Write implements io.Writer.
func (w *checkedWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err != nil {
		w.failed.CompareAndSwap(nil, &err)
	}
	return n, err
}

// err returns the first failure.
func (w *checkedWriter) err() error {
	if err := w.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// inherited returns what a child process is given for w: the file itself, as
// it has to outlive this process.
func inherited(w io.Writer) io.Writer {
	if c, ok := w.(*checkedWriter); ok {
		return c.Writer
	}
	return w
}

// printable returns s with its control characters spelt out: names come from
// images, and a terminal would obey what they say.
func printable(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case unicode.IsControl(r):
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// printableLines is printable for a text of several lines.
func printableLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = printable(l)
	}
	return strings.Join(lines, "\n")
}
