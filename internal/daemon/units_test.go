package daemon

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
)

func TestTransitions(t *testing.T) {
	m := machine{state: Init, log: slog.New(slog.DiscardHandler)}
	ok := func() error { return nil }
	for _, c := range []struct {
		ev   event
		fail bool
		want State
	}{
		{evStart, true, Init},
		{evMount, false, Ready},
		{evTakeOver, true, Ready},
		{evStart, false, Running},
		{evMount, true, Running},
		{evExit, false, Stopped},
		{evStop, true, Stopped},
	} {
		err := m.do(c.ev, "test", ok)
		var state *StateError
		if errors.As(err, &state) != c.fail || m.current() != c.want {
			t.Errorf("%s: got %v, state %s, want %s", c.ev, err, m.current(), c.want)
		}
	}
	broken := machine{state: Init, log: slog.New(slog.DiscardHandler)}
	if err := broken.do(evMount, "test", func() error { return os.ErrPermission }); !errors.Is(err, os.ErrPermission) || broken.current() != Init {
		t.Errorf("a failed action: %v, state %s", err, broken.current())
	}
}

const v1 = `{"device": {"id": "x", "backend": {"type": "registry", "config": {"scheme": "https", "host": "h", "repo": "r/s",
 "auth": "dTpw", "timeout": 5, "proxy": {"url": "http://user:pw@proxy:1", "fallback": false}}},
 "cache": {"type": "blobcache", "config": {"work_dir": "/c"}}}, "fs_prefetch": {"enable": true, "threads_count": 4}}`

const v2 = `version = 2
id = "x"
[backend]
type = "registry"
[backend.registry]
host = "h"
repo = "r/s"
auth = "dTpw"
timeout = 5
[backend.registry.proxy]
url = "http://user:pw@proxy:1"
fallback = false
[cache]
type = "filecache"
[cache.filecache]
work_dir = "/c"
[rafs.prefetch]
enable = true
threads = 4
`

func TestNydusConfigs(t *testing.T) {
	for name, text := range map[string]string{"v1": v1, "v2": v2} {
		t.Run(name, func(t *testing.T) {
			c, err := parseNydusConfig([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			b := c.Backend
			if c.Type != "registry" || b.Host != "h" || b.Repo != "r/s" || b.Timeout != 5 || c.cacheDir() != "/c" || c.prefetchMode() != "image" {
				t.Errorf("got %+v", c)
			}
			if b.Proxy.Fallback == nil || *b.Proxy.Fallback {
				t.Error("the proxy's fallback is not off")
			}
			if a := c.credentials(); a.Username != "u" || a.Password != "p" {
				t.Errorf("credentials: %+v", a)
			}
			shown := strings.ToLower(strings.Join(flatten(c.raw), " "))
			for _, secret := range []string{"dtpw", "user:pw"} {
				if strings.Contains(shown, secret) {
					t.Errorf("a secret shows in %s", shown)
				}
			}
			if _, err := c.backend(slog.Default()); err != nil {
				t.Error(err)
			}
			if err := c.setAuth("bjpx"); err != nil || c.credentials().Username != "n" {
				t.Errorf("new credentials: %v, %+v", err, c.credentials())
			}
		})
	}
	for _, bad := range []string{"", "{", "{}", "version = 3", `{"version": 2, "backend": {"type": "s3"}}`, "x = ["} {
		if _, err := parseNydusConfig([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// flatten returns all strings in v.
func flatten(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case map[string]any:
		var all []string
		for _, e := range v {
			all = append(all, flatten(e)...)
		}
		return all
	}
	return nil
}

// What the environment gives wins over the configuration.
func TestPullAuth(t *testing.T) {
	for auth, want := range map[string]string{"": "u", "bjpx": "n"} {
		o := opener{pullAuth: auth, log: slog.New(slog.DiscardHandler)}
		i := &instance{spec: Spec{Path: "/", Type: TypeRAFS, Source: "/nonexistent", Config: v1}}
		if err := o.rafs(t.Context(), i); err == nil {
			t.Fatal("a bootstrap that is not there was opened")
		}
		if got := i.config.credentials().Username; got != want {
			t.Errorf("with %q: user %q, want %q", auth, got, want)
		}
		if err := i.close(); err != nil {
			t.Error(err)
		}
	}
}

func TestEvents(t *testing.T) {
	var out strings.Builder
	e := NewEvents(slog.NewTextHandler(&out, nil))
	log := slog.New(e)
	log.Info("fine")
	for range maxEvents + 10 {
		log.With("a", 1).Error("bad", "path", "/x")
	}
	total, last := e.kept.list()
	if total != maxEvents+10 || len(last) != maxEvents || !strings.Contains(last[0], "bad path=/x") {
		t.Errorf("got %d, %d kept", total, len(last))
	}
}

// Nobody reads what is logged: the daemon goes on, drops lines and counts them,
// and writes again as soon as somebody reads.
func TestLogQueueNeverWaits(t *testing.T) {
	r, w := io.Pipe()
	q := NewLogQueue(w)
	e := LogTo(q, nil)
	log := slog.New(e)
	const lines = maxLogLines + 1000
	for i := range lines {
		log.Info("a line", "number", i)
	}
	lost := e.Lost()
	if lost < 999 || lost >= lines {
		t.Errorf("%d lines of %d lost, 999 or a few more expected", lost, lines)
	}
	s := bufio.NewScanner(r)
	for i := range lines - int(lost) {
		if !s.Scan() {
			t.Fatalf("line %d of those kept is missing: %v", i, s.Err())
		}
	}
	log.Info("another line")
	if !s.Scan() || !strings.Contains(s.Text(), "another line") {
		t.Errorf("after that: %q, %v", s.Text(), s.Err())
	}
	if err := q.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// A log that nobody reads does not hold up the end.
func TestLogQueueEndsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		q := NewLogQueue(w)
		slog.New(LogTo(q, nil)).Info("a line")
		if err := q.Do(func() error { return nil }); err == nil {
			t.Error("something was done behind a line that nobody takes")
		}
		if err := q.Close(); err == nil {
			t.Error("a stuck log closes without a word")
		}
		r.Close() // the writer ends
	})
}

func TestLogFileRotates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, err := OpenLog(path, 100)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	line := []byte(strings.Repeat("x", 39) + "\n")
	for range 5 {
		if _, err := l.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	now, err := os.ReadFile(path)
	if err != nil || len(now) != 40 {
		t.Errorf("log: %d bytes, %v", len(now), err)
	}
	if old, err := os.ReadFile(path + ".1"); err != nil || len(old) != 80 {
		t.Errorf("set aside: %d bytes, %v", len(old), err)
	}
}

func TestSavedState(t *testing.T) {
	s := savedState{Mountpoint: "/m", Specs: []Spec{{Path: "/", Source: "b", Type: TypeRAFS}}, Session: []byte("session")}
	b, err := s.encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeState(b)
	if err != nil || got.Mountpoint != "/m" || len(got.Specs) != 1 || string(got.Session) != "session" {
		t.Errorf("got %+v, %v", got, err)
	}
	for i := range b {
		bad := append([]byte(nil), b...)
		bad[i] ^= 1
		if _, err := decodeState(bad); err == nil {
			t.Fatalf("byte %d wrong: accepted", i)
		}
	}
	if _, err := decodeState(b[:len(b)-1]); err == nil {
		t.Error("cut short: accepted")
	}
}

func FuzzParseNydusConfig(f *testing.F) {
	f.Add([]byte(v1))
	f.Add([]byte(v2))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseNydusConfig(b)
		if err != nil {
			return
		}
		c.cacheDir()
		c.prefetchMode()
		for _, k := range []string{"auth", "access_key_secret"} {
			if _, ok := c.raw[k]; ok {
				t.Fatalf("%s is shown", k)
			}
		}
	})
}
