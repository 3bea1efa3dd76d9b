//go:build linux

package sandbox

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/internal/testenv"
)

// A command is not the first process of its namespace, so that signals do to
// it what they do anywhere.
func TestIntegrationRunEndsBySignalOfItsOwn(t *testing.T) {
	res, _, _ := inHost(t, Config{}, "kill -TERM $$; echo alive")
	if res.ExitCode != 128+int(syscall.SIGTERM) {
		t.Errorf("exit code: got %d, want 143", res.ExitCode)
	}
}

func TestIntegrationRunPassesSignalsOn(t *testing.T) {
	testenv.Root(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	signals := make(chan os.Signal, 1)
	var out bytes.Buffer
	ready := writerFunc(func(p []byte) (int, error) {
		if out.Len() == 0 {
			signals <- syscall.SIGUSR1
		}
		return out.Write(p)
	})
	script := `trap 'echo caught; exit 3' USR1; echo ready; while :; do sleep 0.01; done`
	res, err := Run(ctx, Config{Root: "/", Args: []string{"sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"}},
		Streams{Stdout: ready, Stderr: os.Stderr, Signals: signals})
	if err != nil || res.ExitCode != 3 || out.String() != "ready\ncaught\n" {
		t.Errorf("exit code %d, %v, output %q", res.ExitCode, err, out.String())
	}
}

// What a command leaves behind is waited for by somebody, and ends with it.
func TestIntegrationRunLeavesNoZombie(t *testing.T) {
	_, out, _ := inHost(t, Config{}, `sh -c 'sleep 0.01 & ' ; for i in $(seq 200); do
		grep -qs '^State:.Z' /proc/[0-9]*/status || { echo none; exit; }; sleep 0.05; done; echo zombies`)
	if out != "none\n" {
		t.Errorf("got %q", out)
	}
}

func TestIntegrationRunAsUserOfTheImage(t *testing.T) {
	_, out, _ := inHost(t, Config{User: "nobody", Dir: "/made/for/it"}, `id -un; echo $HOME; pwd`)
	if want := "nobody\n/nonexistent\n/made/for/it\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	if _, err := os.Stat("/made"); err == nil {
		t.Error("the directory was made outside")
	}
}

// openPTY returns a terminal and the side from which it is used.
func openPTY(t *testing.T) (keyboard, terminal *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keyboard.Close() })
	if err := unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return keyboard, terminal
}

func TestIntegrationRunOnATerminal(t *testing.T) {
	testenv.Root(t)
	keyboard, terminal := openPTY(t)
	if err := unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 33, Col: 99}); err != nil {
		t.Fatal(err)
	}
	before, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	typed := false
	screen := writerFunc(func(p []byte) (int, error) {
		n, err := out.Write(p)
		if !typed && strings.Contains(out.String(), "go on") {
			typed = true
			keyboard.WriteString("\x03") // Ctrl-C: the foreground of the command's terminal gets it
		}
		return n, err
	})
	script := `tty; stty size; trap 'echo interrupted; exit 4' INT; echo go on; while :; do sleep 0.01; done`
	res, err := Run(ctx, Config{Root: "/", Args: []string{"sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin", "TERM=dumb"}},
		Streams{Stdin: terminal, Stdout: screen, Stderr: os.Stderr, Terminal: true})
	if err != nil || res.ExitCode != 4 {
		t.Errorf("exit code %d, %v", res.ExitCode, err)
	}
	got := strings.ReplaceAll(out.String(), "\r\n", "\n")
	if want := "/dev/pts/0\n33 99\ngo on\n^Cinterrupted\n"; got != want {
		t.Errorf("on the screen: %q, want %q", got, want)
	}
	after, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil || *after != *before {
		t.Errorf("the terminal was left as %+v, was %+v (%v)", after, before, err)
	}
}
