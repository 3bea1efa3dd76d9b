package daemon

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/image/build"
	"github.com/sluicefs/sluice/internal/testenv"
	"github.com/sluicefs/sluice/storage"
)

// childEnv has the options of a daemon that runs as a process of its own: this
// test binary, executed again.
const childEnv = "SLUICE_TEST_DAEMON"

type childOptions struct {
	Mountpoint, Socket, Supervisor, CacheDir string
	From                                     string
	Upgrade, Push, Resume, FDStore           bool
	Specs                                    []Spec
	Patience                                 time.Duration
	Transport                                fuse.Transport // default the device
}

// readerEnv has what a process that only reads is to read: the process that
// starts daemons must have no file of theirs open, for between fork and exec
// the child closes it, and would wait for the daemon that it is to become.
const readerEnv = "SLUICE_TEST_READER"

// toRead is a directory and the seed of the image that is there.
type toRead struct {
	Dir  string
	Seed uint64
}

func TestMain(m *testing.M) {
	if text := os.Getenv(readerEnv); text != "" {
		os.Exit(runReader(text))
	}
	if text := os.Getenv(childEnv); text != "" {
		os.Exit(runChild(text))
	}
	os.Exit(m.Run())
}

func runChild(text string) int {
	var c childOptions
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	d := New(Options{
		ID: "test", Mountpoint: c.Mountpoint, Supervisor: c.Supervisor, CacheDir: c.CacheDir,
		OpenLess: true, Resend: true, Transport: cmp.Or(c.Transport, fuse.TransportDevice), Push: c.Push, FDStore: c.FDStore,
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err := d.Run(ctx, RunOptions{Socket: c.Socket, Stop: c.Patience, Getenv: os.Getenv, From: c.From, Resume: c.Resume, Upgrade: c.Upgrade, Specs: c.Specs}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// child starts a daemon as a process of its own. Its log goes to the test's.
type child struct {
	cmd  *exec.Cmd
	log  bytes.Buffer
	done chan error
}

// runReader reads and checks again and again, a byte on standard output each
// time, until standard input ends.
func runReader(text string) int {
	var dirs []toRead
	if err := json.Unmarshal([]byte(text), &dirs); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	images := make([]testImage, len(dirs))
	for i, d := range dirs {
		images[i].files = contents(d.Seed)
	}
	var end atomic.Bool
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		end.Store(true)
	}()
	for !end.Load() {
		for i, d := range dirs {
			if err := images[i].check(d.Dir); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		if _, err := os.Stdout.Write([]byte{'.'}); err != nil {
			return 1
		}
	}
	return 0
}

// readers are processes that read.
type readers struct {
	count atomic.Int64
	stop  func()
}

// startReaders starts n processes that read and check dirs until stop, which
// fails the test if one saw an error.
func startReaders(t *testing.T, n int, dirs ...toRead) *readers {
	t.Helper()
	text, err := json.Marshal(dirs)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r := &readers{}
	var stops []func()
	for range n {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), readerEnv+"="+string(text))
		stop := testenv.Worker(t, cmd, func(out io.Reader) {
			buf := make([]byte, 64)
			for {
				n, err := out.Read(buf)
				r.count.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
		stops = append(stops, func() {
			if err := stop(); err != nil {
				t.Errorf("a reader: %v", err)
			}
		})
	}
	r.stop = sync.OnceFunc(func() {
		for _, s := range stops {
			s()
		}
	})
	t.Cleanup(r.stop)
	return r
}

// goOn waits until each directory has been read some times more.
func (r *readers) goOn(t *testing.T) {
	t.Helper()
	before := r.count.Load()
	eventually(t, "reads go on", func() error {
		if r.count.Load() <= before+3 {
			return os.ErrDeadlineExceeded
		}
		return nil
	})
}

// command is this test binary as a daemon.
func (c childOptions) command(t *testing.T) *exec.Cmd {
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	return cmd
}

func startChild(t *testing.T, c childOptions) *child {
	t.Helper()
	return c.child(t).start(t)
}

// child is the process, not started yet.
func (c childOptions) child(t *testing.T) *child {
	t.Helper()
	p := &child{cmd: c.command(t), done: make(chan error, 1)}
	p.cmd.Stderr = &p.log
	return p
}

// start starts the process, which ends with the test.
func (p *child) start(t *testing.T) *child {
	t.Helper()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.done <- p.cmd.Wait() }()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("log of %d:\n%s", p.cmd.Process.Pid, p.log.String())
		}
	})
	return p
}

func (p *child) kill() { _ = p.cmd.Process.Kill() }

// wait waits until the process has ended.
func (p *child) wait(t *testing.T) {
	t.Helper()
	select {
	case err := <-p.done:
		p.done <- err
	case <-time.After(time.Minute):
		t.Fatalf("process %d does not end; its log:\n%s", p.cmd.Process.Pid, p.log.String())
	}
}

// testImage is an image whose blobs are in a local directory.
type testImage struct {
	boot, config string
	files        map[string][]byte
}

// contents are the files of the image of a seed.
func contents(seed uint64) map[string][]byte {
	files := map[string][]byte{"seed": fmt.Append(nil, seed)}
	rng := rand.New(rand.NewPCG(seed, 1))
	for i, size := range []int{10, 4096, 300_000, 2_500_000} {
		b := make([]byte, size)
		for k := range b {
			b[k] = byte(rng.Uint32())
		}
		files[fmt.Sprintf("dir%d/file", i)] = b
	}
	return files
}

// makeImage makes an image of random files; seed tells images apart.
func makeImage(t *testing.T, seed uint64) testImage {
	t.Helper()
	dir := t.TempDir()
	src, blobs := filepath.Join(dir, "src"), filepath.Join(dir, "blobs")
	img := testImage{boot: filepath.Join(dir, "boot"), files: contents(seed)}
	for name, b := range img.files {
		p := filepath.Join(src, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := build.Create(t.Context(), build.Dir(src), build.Output{Bootstrap: img.boot, BlobDir: blobs},
		build.Options{Compressor: storage.Zstd})
	if err != nil {
		t.Fatal(err)
	}
	img.config = fmt.Sprintf(`{"device": {"backend": {"type": "localfs", "config": {"dir": %q}},
		"cache": {"type": "blobcache", "config": {"work_dir": %q}}}, "mode": "direct",
		"fs_prefetch": {"enable": true, "prefetch_all": true}}`, blobs, filepath.Join(dir, "cache"))
	return img
}

func (img testImage) spec(path string) Spec {
	return Spec{Path: path, Type: TypeRAFS, Source: img.boot, Config: img.config}
}

// check reads all files below dir.
func (img testImage) check(dir string) error {
	for name, want := range img.files {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%s: wrong content", name)
		}
	}
	return nil
}

// call sends a request to a daemon's API.
func call(socket, method, path string, in any) (status int, body []byte, err error) {
	var d net.Dialer
	tr := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", socket)
		},
	}
	var r io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return 0, nil, err
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, "http://x"+path, r)
	if err != nil {
		return 0, nil, err
	}
	resp, err := (&http.Client{Transport: tr, Timeout: time.Minute}).Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// want calls the API and fails the test if the status is another.
func want(t *testing.T, status int, socket, method, path string, in any) []byte {
	t.Helper()
	got, body, err := call(socket, method, path, in)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if got != status {
		t.Fatalf("%s %s: status %d, want %d: %s", method, path, got, status, body)
	}
	return body
}

// waitState polls until the daemon is in a state.
func waitState(t *testing.T, socket string, state State) {
	t.Helper()
	var last string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		status, body, err := call(socket, "GET", "/api/v1/daemon", nil)
		var info struct{ State State }
		if err == nil && status == 200 && json.Unmarshal(body, &info) == nil && info.State == state {
			return
		}
		last = fmt.Sprint(status, string(body), err)
	}
	t.Fatalf("the daemon is not in state %s after a minute: %s", state, last)
}

// mountDir returns a directory to mount on, which is free again at the end.
func mountDir(t *testing.T) string {
	t.Helper()
	testenv.MountFUSE(t)
	dir := filepath.Join(t.TempDir(), "mnt")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(3*time.Minute, func() {
		t.Error("the test takes too long: the mount is aborted")
		_ = syscall.Unmount(dir, syscall.MNT_FORCE|syscall.MNT_DETACH)
	})
	t.Cleanup(func() {
		watchdog.Stop()
		_ = syscall.Unmount(dir, syscall.MNT_DETACH)
	})
	return dir
}

// keeper is a supervisor as nydus-snapshotter's: it keeps the last state and
// the last descriptor, and knows nothing of what they mean.
type keeper struct {
	path string
	data []byte
	fds  []int
}

func newKeeper(t *testing.T) *keeper {
	k := &keeper{path: filepath.Join(t.TempDir(), "supervisor.sock")}
	t.Cleanup(func() {
		for _, fd := range k.fds {
			syscall.Close(fd)
		}
	})
	return k
}

// once accepts one connection and runs f on it; trigger is called meanwhile.
func (k *keeper) once(t *testing.T, f func(*net.UnixConn) error, trigger func()) {
	t.Helper()
	os.Remove(k.path)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: k.path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		c, err := l.AcceptUnix()
		if err == nil {
			err = f(c)
			c.Close()
		}
		done <- err
	}()
	trigger()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// fetch has the daemon on socket send its state.
func (k *keeper) fetch(t *testing.T, socket string) {
	t.Helper()
	k.once(t, func(c *net.UnixConn) error {
		b, fds, err := receiveWithFD(c)
		if err != nil || len(fds) == 0 {
			return fmt.Errorf("%d bytes, %d descriptors: %w", len(b), len(fds), err)
		}
		for _, fd := range k.fds {
			syscall.Close(fd)
		}
		k.data, k.fds = b, fds
		return nil
	}, func() { want(t, 204, socket, "PUT", "/api/v1/daemon/fuse/sendfd", nil) })
}

// give has the daemon on socket take over what was kept.
func (k *keeper) give(t *testing.T, socket string) {
	t.Helper()
	k.once(t, func(c *net.UnixConn) error { return sendWithFD(c, k.data, k.fds[:1]) },
		func() { want(t, 204, socket, "PUT", "/api/v1/daemon/fuse/takeover", nil) })
}
