//go:build linux

package sandbox

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluicefs/sluice/internal/testenv"
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == InitName {
		os.Exit(Init())
	}
	os.Exit(m.Run())
}

// inHost runs a shell script with the host's root below an overlay.
func inHost(t *testing.T, c Config, script string) (Result, string, string) {
	t.Helper()
	testenv.Root(t)
	var out, errs bytes.Buffer
	c.Root = "/"
	c.Args = []string{"sh", "-c", script}
	c.Env = []string{"PATH=/usr/bin:/bin", "GREETING=hello"}
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	res, err := Run(t.Context(), c, Streams{Stdout: &out, Stderr: &errs})
	if err != nil {
		t.Fatalf("%v (stderr %q)", err, errs.String())
	}
	if left, _ := os.ReadDir(tmp); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	return res, out.String(), errs.String()
}

func TestIntegrationRunSeesOverlay(t *testing.T) {
	name := "/sluice-sandbox-test-file"
	res, out, errs := inHost(t, Config{Hostname: "inside"}, `
		echo $GREETING $(cat /proc/sys/kernel/hostname)
		echo written > `+name+` && cat `+name+`
		test -c /dev/null && echo x > /dev/null && ls /proc/1/stat
		exit 7`)
	if want := "hello inside\nwritten\n/proc/1/stat\n"; out != want {
		t.Errorf("output: got %q (stderr %q), want %q", out, errs, want)
	}
	if res.ExitCode != 7 {
		t.Errorf("exit code: got %d, want 7", res.ExitCode)
	}
	if res.FirstOutput <= 0 || res.FirstOutput > res.Total {
		t.Errorf("first output after %v of %v", res.FirstOutput, res.Total)
	}
	if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
		os.Remove(name)
		t.Errorf("the file was written through to the host: %v", err)
	}
}

// The command sees nothing of the environment of who runs it, not by the
// first process of its namespace either.
func TestIntegrationRunKeepsSecretsOut(t *testing.T) {
	t.Setenv("SANDBOX_TEST_SECRET", "canary")
	_, out, errs := inHost(t, Config{}, `cat /proc/*/environ | tr '\0' '\n' | grep -e canary -e GREETING | sort -u`)
	if out != "GREETING=hello\n" || errs != "" {
		t.Errorf("got %q (stderr %q)", out, errs)
	}
}

func TestIntegrationRunKeepsState(t *testing.T) {
	state := t.TempDir()
	inHost(t, Config{State: state}, "echo kept > /sluice-state-test")
	if b, err := os.ReadFile(filepath.Join(state, "upper", "sluice-state-test")); err != nil || string(b) != "kept\n" {
		t.Errorf("in the state directory: %q, %v", b, err)
	}
}

func TestIntegrationRunKilledByContext(t *testing.T) {
	testenv.Root(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	started := writerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil })
	_, err := Run(ctx, Config{Root: "/", Args: []string{"sh", "-c", "echo up; while :; do sleep 1000; done"}, Env: []string{"PATH=/usr/bin:/bin"}},
		Streams{Stdout: started, Stderr: os.Stderr})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestIntegrationRunSaysWhatIsMissing(t *testing.T) {
	testenv.Root(t)
	_, err := Run(t.Context(), Config{Root: "/", Args: []string{"no-such-program"}}, Streams{Stdout: os.Stdout, Stderr: os.Stderr})
	var setup *SetupError
	if !errors.As(err, &setup) || !strings.Contains(err.Error(), "no-such-program: not found in the image") {
		t.Errorf("got %v", err)
	}
}
