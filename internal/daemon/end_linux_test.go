package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// SIGTERM ends a daemon whose files are in use: it lets go of them, and leaves
// no mount behind.
func TestIntegrationEndWhileBusy(t *testing.T) {
	img := makeImage(t, 41)
	mnt, dir := mountDir(t), t.TempDir()
	c := childOptions{
		Mountpoint: mnt, CacheDir: filepath.Join(dir, "cache"), Socket: filepath.Join(dir, "api.sock"),
		Specs: []Spec{img.spec("/a")}, Patience: 50 * time.Millisecond,
	}
	p := startChild(t, c)
	waitState(t, c.Socket, Running)
	f, err := os.Open(mnt + "/a/dir3/file")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.wait(t)
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	var st, up syscall.Stat_t
	if err := errors.Join(syscall.Stat(mnt, &st), syscall.Stat(filepath.Dir(mnt), &up)); err != nil || st.Dev != up.Dev {
		t.Errorf("it is still mounted: %v", err)
	}
}

// Without a supervisor callers get an error at once when the daemon is killed,
// also those that wait.
func TestIntegrationKilledAlone(t *testing.T) {
	img := makeImage(t, 42)
	mnt, dir := mountDir(t), t.TempDir()
	c := childOptions{
		Mountpoint: mnt, CacheDir: filepath.Join(dir, "cache"), Socket: filepath.Join(dir, "api.sock"), Specs: []Spec{img.spec("/a")},
	}
	p := startChild(t, c)
	waitState(t, c.Socket, Running)
	if err := img.check(mnt + "/a"); err != nil {
		t.Fatal(err)
	}
	p.kill()
	p.wait(t)
	if _, err := os.Stat(mnt + "/a/none"); !errors.Is(err, syscall.ENOTCONN) && !errors.Is(err, syscall.ECONNABORTED) {
		t.Errorf("after kill -9: got %v, want ENOTCONN", err)
	}
}
