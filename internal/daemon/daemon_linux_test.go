package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluicefs/sluice/api"
	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/testenv"
)

// run runs a daemon in this process and returns its API's socket.
func run(t *testing.T, o Options, r RunOptions) (socket string) {
	t.Helper()
	o.Mountpoint = mountDir(t)
	if o.CacheDir == "" {
		o.CacheDir = t.TempDir()
	}
	r.Socket = filepath.Join(t.TempDir(), "api.sock")
	r.Handler.Version = "test"
	ready := make(chan struct{})
	r.Ready = func() { close(ready) }
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	d := New(o)
	go func() { done <- d.Run(ctx, r) }()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("run: %v", err)
			}
		case <-time.After(time.Minute):
			t.Error("the daemon does not end")
		}
	})
	<-ready
	waitState(t, r.Socket, Running)
	t.Setenv("SLUICE_TEST_MOUNT", o.Mountpoint)
	return r.Socket
}

func TestIntegrationNydusAPI(t *testing.T) {
	one, two := makeImage(t, 1), makeImage(t, 2)
	socket := run(t, Options{OpenLess: true, ID: "d1"}, RunOptions{})
	mnt := os.Getenv("SLUICE_TEST_MOUNT")
	mount := func(img testImage) map[string]any {
		return map[string]any{"fs_type": "rafs", "source": img.boot, "config": img.config}
	}

	want(t, 204, socket, "POST", "/api/v1/mount?mountpoint=/one", mount(one))
	if err := one.check(mnt + "/one"); err != nil {
		t.Fatal(err)
	}
	want(t, 409, socket, "POST", "/api/v1/mount?mountpoint=/one", mount(two))
	want(t, 204, socket, "PUT", "/api/v1/mount?mountpoint=/one", mount(two))
	eventually(t, "the new content", func() error { return two.check(mnt + "/one") })
	want(t, 204, socket, "POST", "/api/v1/mount?mountpoint=deep/er/one", mount(one))
	if err := one.check(mnt + "/deep/er/one"); err != nil {
		t.Fatal(err)
	}

	var info struct {
		ID       string
		State    State
		Backends map[string]struct {
			Type   string         `json:"backend_type"`
			Config map[string]any `json:"config"`
		} `json:"backend_collection"`
	}
	if err := json.Unmarshal(want(t, 200, socket, "GET", "/api/v1/daemon", nil), &info); err != nil {
		t.Fatal(err)
	}
	if info.ID != "d1" || info.State != Running || len(info.Backends) != 2 || info.Backends["/deep/er/one"].Type != "rafs" {
		t.Errorf("daemon: got %+v", info)
	}
	var fsm nydusFsMetrics
	if err := json.Unmarshal(want(t, 200, socket, "GET", "/api/v1/metrics?id=/one", nil), &fsm); err != nil {
		t.Fatal(err)
	}
	sum := func(counts [8]uint64) (n uint64) {
		for _, c := range counts {
			n += c
		}
		return n
	}
	// fop_hits of read and lookup, and of reads in both distributions
	if fsm.DataRead == 0 || fsm.Hits[4] == 0 || fsm.Hits[9] == 0 || fsm.Latency[4] == 0 ||
		sum(fsm.BlockCount) != fsm.Hits[4] || sum(fsm.ReadLatency) != fsm.Hits[4] {
		t.Errorf("metrics: got %+v", fsm)
	}
	var be nydusBackendMetrics
	if err := json.Unmarshal(want(t, 200, socket, "GET", "/api/v1/metrics/backend?id=/one", nil), &be); err != nil {
		t.Fatal(err)
	}
	if be.Type != "localfs" || be.Reads == 0 || be.Amount == 0 || sum(be.LatencyDist) != be.Reads || sum(be.SizeDist) != be.Reads {
		t.Errorf("backend: got %+v", be)
	}
	var cm nydusCacheMetrics
	if err := json.Unmarshal(want(t, 200, socket, "GET", "/api/v1/metrics/blobcache?id=/one", nil), &cm); err != nil {
		t.Fatal(err)
	}
	if cm.Store == "" || cm.Total == 0 || len(cm.Files) == 0 {
		t.Errorf("cache: got %+v", cm)
	}
	for _, p := range []string{"backend?id=/one", "blobcache?id=/one", "files?id=/one", "pattern?id=/one"} {
		want(t, 200, socket, "GET", "/api/v1/metrics/"+p, nil)
	}
	want(t, 204, socket, "GET", "/api/v1/metrics/inflight", nil)
	want(t, 404, socket, "GET", "/api/v1/metrics?id=/none", nil)
	want(t, 200, socket, "GET", "/api/v1/daemon/events", nil)
	want(t, 200, socket, "GET", "/api/v1/daemon/backend?mountpoint=/one", nil)
	want(t, 200, socket, "GET", "/api/v2/daemon", nil)
	want(t, 204, socket, "PUT", "/api/v1/daemon", map[string]string{"log_level": "debug"})
	want(t, 400, socket, "PUT", "/api/v1/daemon", map[string]string{"log_level": "loud"})
	want(t, 204, socket, "PUT", "/api/v1/config?id=/one", map[string]string{"registry_auth": "dTpw"})
	want(t, 400, socket, "PUT", "/api/v1/config?id=/one", map[string]string{"registry_auth": "%"})
	want(t, 409, socket, "PUT", "/api/v1/daemon/start", nil)
	want(t, 400, socket, "POST", "/api/v1/mount?mountpoint=/x", map[string]string{"fs_type": "ext4", "source": "x"})
	want(t, 400, socket, "POST", "/api/v1/mount?mountpoint=/x", map[string]string{"fs_type": "rafs", "source": "/nonexistent", "config": "{}"})
	want(t, 501, socket, "PUT", "/api/v2/blobs", nil)
	want(t, 404, socket, "GET", "/api/v9/none", nil)

	want(t, 204, socket, "DELETE", "/api/v1/mount?mountpoint=/one", nil)
	eventually(t, "the mount is gone", func() error {
		if _, err := os.Stat(mnt + "/one"); err == nil {
			return os.ErrExist
		}
		return nil
	})
	want(t, 404, socket, "DELETE", "/api/v1/mount?mountpoint=/one", nil)
}

// eventually polls until f succeeds: the kernel learns of changes a moment
// after the daemon has made them.
func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("%s: not within a minute: %v", what, err)
}

func TestIntegrationOwnAPI(t *testing.T) {
	img := makeImage(t, 3)
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/hello", []byte("hi"), 0o644); err != nil {
		t.Fatal(err)
	}
	socket := run(t, Options{Writable: true}, RunOptions{Handler: HandlerOptions{Pprof: true}})
	mnt := os.Getenv("SLUICE_TEST_MOUNT")
	c := api.Dial(socket)
	defer c.Close()
	ctx := t.Context()
	if err := c.PutMount(ctx, "/img with space", api.MountRequest{
		Source: img.boot, Type: TypeRAFS, Config: img.config, Record: true,
	}, false); err != nil {
		t.Fatal(err)
	}
	if err := c.PutMount(ctx, "/d/ir", api.MountRequest{Source: dir, Type: TypePassthrough}, false); err != nil {
		t.Fatal(err)
	}
	if err := img.check(mnt + "/img with space"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(mnt+"/d/ir/new", []byte("written"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(dir + "/new"); string(b) != "written" || err != nil {
		t.Errorf("written through: %q, %v", b, err)
	}
	ms, err := c.Mounts(ctx)
	if err != nil || len(ms) != 2 || ms[1].Image == nil || ms[1].ReadBytes == 0 || ms[0].Type != TypePassthrough {
		t.Errorf("mounts: %+v, %v", ms, err)
	}
	if m, err := c.Mount(ctx, "/img with space"); err != nil || m.Source != img.boot {
		t.Errorf("mount: %+v, %v", m, err)
	}
	if p, err := c.Profile(ctx, "/img with space"); err != nil || !strings.Contains(string(p), "/dir3/file") {
		t.Errorf("profile: %s, %v", p, err)
	}
	if d, err := c.Daemon(ctx); err != nil || d.State != "RUNNING" || d.Mounts != 2 || d.Requests == 0 {
		t.Errorf("daemon: %+v, %v", d, err)
	}
	if l, err := c.Latencies(ctx); err != nil || len(l) == 0 {
		t.Errorf("latencies: %v, %v", l, err)
	}
	if _, err := c.Requests(ctx); err != nil {
		t.Errorf("requests: %v", err)
	}
	if cs, err := c.Caches(ctx); err != nil || len(cs) != 1 || cs[0].FetchedBytes == 0 {
		t.Errorf("caches: %+v, %v", cs, err)
	}
	if _, err := c.Trim(ctx, api.Trim{Bytes: 1}); err != nil {
		t.Errorf("trim: %v", err)
	}
	if err := c.SetLog(ctx, "warn"); err != nil {
		t.Errorf("log: %v", err)
	}
	metrics := string(want(t, 200, socket, "GET", "/metrics", nil))
	if !strings.Contains(metrics, `sluice_mount_operations_total{operation="READ",path="/img with space"}`) || !strings.Contains(metrics, "sluice_running 1") {
		t.Errorf("metrics lack what was done:\n%s", metrics)
	}
	want(t, 200, socket, "GET", "/debug/pprof/cmdline", nil)
	var e *api.Error
	if err := c.DeleteMount(ctx, "/none", false); !asAPI(err, &e) || e.Code != "NotFound" {
		t.Errorf("unmount of nothing: %v", err)
	}
	if err := c.PutMount(ctx, "/d/ir", api.MountRequest{Source: dir}, false); !asAPI(err, &e) || e.Code != "Exists" {
		t.Errorf("mount twice: %v", err)
	}
	for _, p := range []string{"/img with space", "/d/ir"} {
		if err := c.DeleteMount(ctx, p, p == "/d/ir"); err != nil {
			t.Errorf("unmount %s: %v", p, err)
		}
	}
	st, err := os.Stat(socket)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", st.Mode(), err)
	}
	if _, err := Listen(socket); err == nil {
		t.Error("a second daemon could listen on the socket")
	}
}

func asAPI(err error, e **api.Error) bool {
	a, ok := err.(*api.Error)
	*e = a
	return ok
}

// A session goes from process to process, by plan and after kill -9, while
// readers check every byte.
func TestIntegrationTakeOver(t *testing.T) {
	rounds := 3
	if !testing.Short() {
		rounds = 8
	}
	img := makeImage(t, 4)
	mnt, dir := mountDir(t), t.TempDir()
	k := newKeeper(t)
	c := childOptions{Mountpoint: mnt, Supervisor: k.path, CacheDir: filepath.Join(dir, "cache"), Specs: []Spec{img.spec("/")}}
	c.Socket = filepath.Join(dir, "0.sock")
	p := startChild(t, c)
	waitState(t, c.Socket, Running)
	k.fetch(t, c.Socket)
	rd := startReaders(t, 2, toRead{mnt, 4})
	for i := range rounds {
		next := c
		next.Specs, next.Upgrade = nil, true
		next.Socket = filepath.Join(dir, string(rune('a'+i))+".sock")
		planned := i%2 == 0
		if !planned {
			p.kill()
			p.wait(t)
		}
		q := startChild(t, next)
		waitState(t, next.Socket, Init)
		k.give(t, next.Socket)
		waitState(t, next.Socket, Ready)
		if planned {
			want(t, 204, c.Socket, "PUT", "/api/v1/daemon/exit", nil)
			p.wait(t)
		}
		want(t, 204, next.Socket, "PUT", "/api/v1/daemon/start", nil)
		waitState(t, next.Socket, Running)
		k.fetch(t, next.Socket)
		p, c = q, next
		rd.goOn(t)
	}
	rd.stop()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.wait(t)
	var st, up syscall.Stat_t
	if err := syscall.Stat(mnt, &st); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Stat(filepath.Dir(mnt), &up); err != nil {
		t.Fatal(err)
	}
	if st.Dev != up.Dev {
		t.Error("the last daemon did not unmount")
	}
}

// A new daemon takes the place of the old one on the same socket; a file that
// is open stays open.
func TestIntegrationUpgrade(t *testing.T) {
	t.Run("device", func(t *testing.T) { upgrade(t, fuse.TransportDevice) })
	t.Run("uring", func(t *testing.T) {
		testenv.URing(t)
		upgrade(t, fuse.TransportURing)
	})
}

func upgrade(t *testing.T, transport fuse.Transport) {
	img, more := makeImage(t, 6), makeImage(t, 7)
	mnt, dir := mountDir(t), t.TempDir()
	c := childOptions{
		Mountpoint: mnt, CacheDir: filepath.Join(dir, "cache"), Socket: filepath.Join(dir, "api.sock"),
		Specs: []Spec{img.spec("/a"), more.spec("/b/c")}, Transport: transport,
	}
	p := startChild(t, c)
	waitState(t, c.Socket, Running)
	rd := startReaders(t, 2, toRead{mnt + "/a", 6}, toRead{mnt + "/b/c", 7})
	rd.goOn(t)
	f, err := os.Open(mnt + "/b/c/dir3/file")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	next := c
	next.From, next.Specs = c.Socket, nil
	for range 4 {
		q := startChild(t, next)
		p.wait(t)
		waitState(t, c.Socket, Running)
		p = q
	}
	rd.stop()
	b := make([]byte, 1000)
	if _, err := f.ReadAt(b, 2_000_000); err != nil || !bytes.Equal(b, more.files["dir3/file"][2_000_000:2_001_000]) {
		t.Errorf("the file that was open all the time: %v", err)
	}
	f.Close()
	var ms []api.Mount
	if err := json.Unmarshal(want(t, 200, c.Socket, "GET", "/v1/mounts", nil), &ms); err != nil || len(ms) != 2 {
		t.Errorf("mounts: %v, %v", ms, err)
	}
	want(t, 204, c.Socket, "POST", "/v1/daemon/stop", nil)
	p.wait(t)
}

// A supervised daemon is killed again and again while it is used; nobody sees
// an error, and what was mounted between two deaths is there after them.
func TestIntegrationSupervise(t *testing.T) {
	img, more := makeImage(t, 8), makeImage(t, 9)
	mnt, dir := mountDir(t), t.TempDir()
	c := childOptions{
		Mountpoint: mnt, CacheDir: filepath.Join(dir, "cache"), Socket: filepath.Join(dir, "api.sock"),
		Supervisor: filepath.Join(dir, "supervisor.sock"), Push: true, Specs: []Spec{img.spec("/a")},
	}
	var log lockedBuffer
	s := &Supervisor{
		Path: c.Supervisor, Log: slog.New(slog.NewTextHandler(&log, nil)),
		Command: func(how How) *exec.Cmd {
			next := c
			if next.Resume = how == Resume; how != Begin {
				next.Specs = nil
			}
			cmd := next.command(t)
			cmd.Stderr = &log
			return cmd
		},
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("supervisor: %v", err)
		}
		if t.Failed() {
			t.Logf("log:\n%s", log.String())
		}
	}()
	waitState(t, c.Socket, Running)
	rd := startReaders(t, 2, toRead{mnt + "/a", 8})
	rd.goOn(t)
	client := api.Dial(c.Socket)
	defer client.Close()
	for i := range 4 {
		var before api.Daemon
		eventually(t, "the daemon answers", func() (err error) {
			before, err = client.Daemon(t.Context())
			return err
		})
		if i == 1 {
			if err := client.PutMount(t.Context(), "/b", api.MountRequest{Source: more.boot, Type: TypeRAFS, Config: more.config}, false); err != nil {
				t.Fatal(err)
			}
		}
		if err := syscall.Kill(before.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "another daemon runs", func() error {
			now, err := client.Daemon(t.Context())
			if err == nil && (now.PID == before.PID || now.State != string(Running)) {
				err = errors.New("not yet")
			}
			return err
		})
		rd.goOn(t)
	}
	rd.stop()
	if err := errors.Join(img.check(mnt+"/a"), more.check(mnt+"/b")); err != nil {
		t.Error(err)
	}
}

// lockedBuffer is a buffer that several processes' logs go to.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A daemon that died without a supervisor leaves a socket and a dead mount;
// the next start cleans up.
func TestIntegrationStaleMount(t *testing.T) {
	img := makeImage(t, 5)
	mnt, dir := mountDir(t), t.TempDir()
	c := childOptions{Mountpoint: mnt, CacheDir: dir, Socket: filepath.Join(dir, "api.sock"), Specs: []Spec{img.spec("/")}}
	p := startChild(t, c)
	waitState(t, c.Socket, Running)
	p.kill()
	p.wait(t)
	if _, err := os.ReadDir(mnt); err == nil {
		t.Error("the mount of a killed daemon answers")
	}
	q := startChild(t, c)
	waitState(t, c.Socket, Running)
	if err := img.check(mnt); err != nil {
		t.Error(err)
	}
	if err := q.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	q.wait(t)
	if _, err := os.Stat(c.Socket); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
}
