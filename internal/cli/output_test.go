package cli

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
)

type fullDisk struct{}

var errFull = errors.New("disk is full")

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }

func TestOutputThatCannotBeWritten(t *testing.T) {
	for _, args := range []string{"--help", "help list", "version", "man", "completion bash", "doctor", "image check ../../image/rafs/testdata/rafs-v6-2.2.boot"} {
		var words bytes.Buffer
		env := &Env{Stdin: strings.NewReader(""), Stdout: fullDisk{}, Stderr: &words, Getenv: func(string) string { return "" }}
		code := Main(context.Background(), env, append([]string{"sluice"}, strings.Fields(args)...))
		if code != exitFailed || !strings.Contains(words.String(), errFull.Error()) {
			t.Errorf("sluice %s: exit %d and %q, want %d and %q", args, code, words.String(), exitFailed, errFull)
		}
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "grün 世界": "grün 世界", "a\x1b[2Jb": `a\x1b[2Jb`, "a\nb": `a\x0ab`, "\xff\xfe": `\xff\xfe`, "\ufffd": "\ufffd", "\u0085": `\x85`,
	} {
		if got := printable(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	if got := printableLines("a\n\x07b"); got != "a\n\\x07b" {
		t.Errorf("lines: got %q", got)
	}
}
