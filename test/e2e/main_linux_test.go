package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/internal/cli"
	"github.com/sluicefs/sluice/internal/mounts"
	"github.com/sluicefs/sluice/internal/sandbox"
	"github.com/sluicefs/sluice/internal/testenv"
)

const asProgram = "SLUICE_E2E_MAIN"

func TestMain(m *testing.M) {
	// The first process of "run" has no environment.
	if os.Getenv(asProgram) == "1" || filepath.Base(os.Args[0]) == sandbox.InitName {
		os.Exit(cli.Main(context.Background(), cli.OSEnv(), os.Args))
	}
	if kind := os.Getenv(asServer); kind != "" {
		fmt.Fprintln(os.Stderr, runServer(kind, os.Getenv(asServer+"_ADDR")))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// watchdog is how long anything may take before a test gives up.
const watchdog = 2 * time.Minute

// bench is what a test works with: a directory with a short path, and the
// environment of the program.
type bench struct {
	t   *testing.T
	dir string
	env []string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	dir, err := os.MkdirTemp("", "se2e") // short: the paths of sockets are
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, dir: dir}
	if err := os.Mkdir(b.path("run"), 0o700); err != nil {
		t.Fatal(err)
	}
	b.env = append(os.Environ(), asProgram+"=1", "XDG_RUNTIME_DIR="+b.path("run"), "SLUICE_CACHE_DIR="+b.path("cache"))
	t.Cleanup(func() {
		all, _ := mounts.ReadInfo("/proc/self/mountinfo")
		for _, m := range all {
			if mounts.Within(m.Mountpoint, dir) {
				_ = unix.Unmount(m.Mountpoint, unix.MNT_DETACH)
			}
		}
		os.RemoveAll(dir)
	})
	return b
}

func mountBench(t *testing.T) *bench {
	t.Helper()
	testenv.MountFUSE(t)
	return newBench(t)
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bench) mkdir(name string) string {
	b.t.Helper()
	p := b.path(name)
	if err := os.MkdirAll(p, 0o755); err != nil {
		b.t.Fatal(err)
	}
	return p
}

// command is the program with those arguments.
func (b *bench) command(args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), watchdog)
	b.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Args[0] = "sluice"
	cmd.Env = b.env
	cmd.Dir = b.dir
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

type outcome struct {
	code        int
	out, errout string
}

// run runs the program to its end.
func (b *bench) run(args ...string) outcome {
	b.t.Helper()
	cmd := b.command(args...)
	var out, errout bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errout
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		b.t.Fatalf("sluice %s: %v", strings.Join(args, " "), err)
	}
	return outcome{cmd.ProcessState.ExitCode(), out.String(), errout.String()}
}

// ok runs the program, which has to succeed, and returns what it printed.
func (b *bench) ok(args ...string) string {
	b.t.Helper()
	o := b.run(args...)
	if o.code != 0 {
		b.t.Fatalf("sluice %s: exit code %d\n%s%s", strings.Join(args, " "), o.code, o.out, o.errout)
	}
	return o.out
}

// stats are the fields of "stats --json" that tests look at.
type stats struct {
	Mountpoint string `json:"mountpoint"`
	Source     string `json:"source"`
	PID        int    `json:"pid"`
	Requests   int    `json:"requests"`
	Operations []struct {
		Name  string `json:"name"`
		Count int    `json:"count"`
	} `json:"operations"`
	Image *struct {
		Fetched  int64  `json:"fetched_bytes"`
		Touched  int64  `json:"touched_bytes"`
		Stored   int64  `json:"stored_bytes"`
		Reads    int64  `json:"read_requests"`
		Prefetch string `json:"prefetch"`
	} `json:"image"`
}

func (b *bench) stats(dir string) (s stats) {
	b.t.Helper()
	if err := json.Unmarshal([]byte(b.ok("stats", "--json", dir)), &s); err != nil {
		b.t.Fatal(err)
	}
	return s
}

func (b *bench) list() (all []stats) {
	b.t.Helper()
	if err := json.Unmarshal([]byte(b.ok("list", "--json")), &all); err != nil {
		b.t.Fatal(err)
	}
	return all
}

func (b *bench) mounted(dir string) bool {
	b.t.Helper()
	_, ok, err := mounts.Lookup(dir)
	if err != nil {
		b.t.Fatal(err)
	}
	return ok
}

// until waits for cond.
func (b *bench) until(what string, cond func() bool) {
	b.t.Helper()
	for end := time.Now().Add(watchdog); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// lineWriter collects what a process writes and says when a text appeared.
type lineWriter struct {
	want string
	seen chan struct{}
	buf  bytes.Buffer
	done bool
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.buf.Write(p)
	if !w.done && strings.Contains(w.buf.String(), w.want) {
		w.done = true
		close(w.seen)
	}
	return len(p), nil
}

// foreground starts "mount" with those arguments and waits until it is ready.
func (b *bench) foreground(args ...string) (*exec.Cmd, *lineWriter) {
	b.t.Helper()
	cmd := b.command(append([]string{"mount"}, args...)...)
	w := &lineWriter{want: " is mounted on ", seen: make(chan struct{})}
	cmd.Stderr = w
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	select {
	case <-w.seen:
	case <-time.After(watchdog):
		b.t.Fatal("the mount did not get ready")
	}
	return cmd, w
}

// files returns the contents of all regular files below dir and the targets
// of all links, by relative path.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		switch {
		case d.Type() == fs.ModeSymlink:
			all[rel], err = os.Readlink(path)
		case d.Type().IsRegular():
			var b []byte
			b, err = os.ReadFile(path)
			all[rel] = string(b)
		default:
			all[rel] = d.Type().String()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func sameFiles(t *testing.T, got, want map[string]string) {
	t.Helper()
	for name, w := range want {
		if g, ok := got[name]; !ok {
			t.Errorf("%s is missing", name)
		} else if g != w {
			t.Errorf("%s: %d bytes differ from the %d expected", name, len(g), len(w))
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s is there, and should not", name)
		}
	}
}

// entry is what stat says of a file, without what differs between file
// systems.
func entry(t *testing.T, path string) syscall.Stat_t {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return syscall.Stat_t{Mode: st.Mode, Nlink: st.Nlink, Uid: st.Uid, Gid: st.Gid, Rdev: st.Rdev, Size: st.Size, Mtim: st.Mtim, Ino: st.Ino}
}
