//go:build linux

package mounts

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func testDir(t *testing.T) string {
	t.Helper()
	base := t.TempDir()
	dir, err := Dir(func(k string) string {
		if k == "XDG_RUNTIME_DIR" {
			return base
		}
		return ""
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestRegisterListFindClose(t *testing.T) {
	dir := testDir(t)
	r, err := Register(dir, Entry{Mountpoint: "/mnt/a b", Source: "docker://x/y", PID: os.Getpid(), Started: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.SetTransport("uring"); err != nil {
		t.Fatal(err)
	}
	if _, err := Register(dir, Entry{Mountpoint: "/mnt/a b"}); !errors.Is(err, ErrServed) {
		t.Errorf("second Register: got %v, want ErrServed", err)
	}
	all, err := List(dir)
	if err != nil || len(all) != 1 || all[0].Source != "docker://x/y" || all[0].Transport != "uring" {
		t.Errorf("List: got %+v, %v", all, err)
	}
	for path, want := range map[string]bool{"/mnt/a b": true, "/mnt/a b/c/d": true, "/mnt/a": false, "/mnt/a bc": false} {
		if _, ok, err := Find(dir, path); ok != want || err != nil {
			t.Errorf("Find(%q): got %v, %v, want %v", path, ok, err, want)
		}
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if all, err := List(dir); err != nil || len(all) != 0 {
		t.Errorf("List after Close: got %+v, %v", all, err)
	}
}

func TestListRemovesLeftovers(t *testing.T) {
	dir := testDir(t)
	r, err := Register(dir, Entry{Mountpoint: filepath.Join(dir, "nothing-mounted")})
	if err != nil {
		t.Fatal(err)
	}
	r.file.Close() // as when the process dies
	if err := os.WriteFile(filepath.Join(dir, "torn.json"), []byte(`{"mountpo`), 0o600); err != nil {
		t.Fatal(err)
	}
	if all, err := List(dir); err != nil || len(all) != 0 {
		t.Errorf("List: got %+v, %v", all, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("files left: %v", left)
	}
}

// Entries come and go while others list them, which takes the lock of each.
func TestRegisterWhileOthersList(t *testing.T) {
	dir := testDir(t)
	done := make(chan struct{})
	var listing sync.WaitGroup
	defer listing.Wait()
	defer close(done)
	for range 2 {
		listing.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := List(dir); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 200 {
		r, err := Register(dir, Entry{Mountpoint: "/mnt/x", PID: os.Getpid()})
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		if all, err := List(dir); err != nil || len(all) != 1 {
			t.Fatalf("round %d: List: got %v, %v, want the one entry", i, all, err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestScratchClearsAwayWhatTheDeadLeft(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	live, err := NewScratch("scratch-test-")
	if err != nil {
		t.Fatal(err)
	}
	dead, err := NewScratch("scratch-test-")
	if err != nil {
		t.Fatal(err)
	}
	readOnly := filepath.Join(dead.Path, "a", "b")
	if err := os.MkdirAll(readOnly, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(readOnly, "f"), []byte("x"), 0o400); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(readOnly, 0o500); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(os.TempDir(), "scratch-test-foreign")
	if err := os.Mkdir(foreign, 0o700); err != nil {
		t.Fatal(err)
	}
	dead.lock.Close() // as when the process dies
	next, err := NewScratch("scratch-test-")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{live.Path: true, dead.Path: false, foreign: true, next.Path: true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: is there: %v, want %v", path, err == nil, want)
		}
	}
	for _, s := range []*Scratch{live, next} {
		if err := s.Remove(); err != nil {
			t.Error(err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "scratch-test-*")); len(left) != 1 {
		t.Errorf("left: %v, want only %s", left, foreign)
	}
}

func TestDirRefusesWhatOthersCanWrite(t *testing.T) {
	base := t.TempDir()
	if err := os.Mkdir(filepath.Join(base, "sluice"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(base, "sluice"), 0o777); err != nil {
		t.Fatal(err)
	}
	_, err := Dir(func(string) string { return base })
	if err == nil || !strings.Contains(err.Error(), "open to other users") {
		t.Errorf("got %v, want a refusal", err)
	}
}

func TestParseInfo(t *testing.T) {
	m, ok := ParseInfo(`36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 - fuse.sluice docker://a\134b rw,user_id=0`)
	want := Info{ID: 36, Dev: "98:0", Mountpoint: "/mnt 2", Type: "fuse.sluice", Source: `docker://a\b`, Options: "rw,noatime"}
	if !ok || m != want {
		t.Errorf("got %+v, %v, want %+v", m, ok, want)
	}
	for _, bad := range []string{"", "36 35", " - ", "x y z a b c - d e", `1 2 3 4 5\`} {
		if _, ok := ParseInfo(bad); ok {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestUsersSeesOpenFile(t *testing.T) {
	f, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := os.ReadFile("/proc/self/fdinfo/" + fdName(f))
	if err != nil {
		t.Fatal(err)
	}
	var id int
	for line := range strings.Lines(string(info)) {
		if v, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			id = atoi(strings.TrimSpace(v))
		}
	}
	for _, u := range Users(Info{ID: id, Mountpoint: "/nowhere", Dev: "0:0"}) {
		if u.PID == os.Getpid() {
			if !strings.HasPrefix(u.What, "open file ") {
				t.Errorf("got %q", u.What)
			}
			return
		}
	}
	t.Error("this process was not found, though it has a file open there")
}

func FuzzParseInfo(f *testing.F) {
	f.Add(`36 35 98:0 /mnt1 /mnt2 rw master:1 - ext3 /dev/root rw`)
	f.Add(`1 1 0:1 / \04 rw - a \`)
	f.Fuzz(func(t *testing.T, line string) {
		if m, ok := ParseInfo(line); ok && m.Type == "" {
			t.Errorf("%q: no type", line)
		}
	})
}
