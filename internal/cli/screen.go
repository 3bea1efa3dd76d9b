package cli

import (
	"errors"
	"io"
	"os"
	"strings"

	"github.com/sluicefs/sluice/internal/sandbox"
)

// screen is a terminal of which a command has all: what was there before
// comes back when it is closed.
type screen struct {
	out     io.Writer
	in      *os.File
	keys    <-chan rune
	restore func()
}

var errNoTerminal = errors.New("this needs a terminal")

// openScreen takes the terminal in and out over. Nothing is asked of it: a
// terminal that does not answer must not hold a command up.
func openScreen(in *os.File, out io.Writer) (*screen, error) {
	f, _ := out.(*os.File)
	if !sandbox.IsTerminal(in) || !sandbox.IsTerminal(f) {
		return nil, errNoTerminal
	}
	restore, err := sandbox.RawTerminal(in)
	if err != nil {
		return nil, err
	}
	keys := make(chan rune)
	go func() { // ends with the process
		b := make([]byte, 1)
		for {
			if _, err := in.Read(b); err != nil {
				return
			}
			keys <- rune(b[0])
		}
	}()
	io.WriteString(out, "\x1b[?1049h\x1b[?25l") // the other screen, no cursor
	return &screen{out: out, in: in, keys: keys, restore: restore}, nil
}

// height is how many lines there are, 0 if that is not known.
func (s *screen) height() int { return sandbox.TerminalHeight(s.in) }

// draw shows text in place of what was there.
func (s *screen) draw(text string) {
	var b strings.Builder
	b.WriteString("\x1b[H")
	for line := range strings.Lines(text) {
		b.WriteString(strings.TrimSuffix(line, "\n") + "\x1b[K\r\n") // the rest of the line is cleared
	}
	b.WriteString("\x1b[J") // and the lines below
	io.WriteString(s.out, b.String())
}

// close gives the terminal back as it was.
func (s *screen) close() {
	io.WriteString(s.out, "\x1b[?25h\x1b[?1049l")
	s.restore()
}
