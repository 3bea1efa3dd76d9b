package takeover

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/api"
	"github.com/sluicefs/sluice/image/build"
	"github.com/sluicefs/sluice/internal/cli"
	"github.com/sluicefs/sluice/internal/testenv"
	"github.com/sluicefs/sluice/storage"
)

var (
	upgrades  = flag.Int("upgrades", 4, "how often the daemon is upgraded")
	kills     = flag.Int("kills", 4, "how often it is killed")
	transport = flag.String("transport", "device", "device or uring")
	state     = flag.String("state", "", "directory that the writers' files are in (default a temporary one)")
)

// The test binary is the program, and the workers, too.
const (
	mainEnv   = "SLUICE_TAKEOVER_MAIN"
	workerEnv = "SLUICE_TAKEOVER_WORKER"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(workerEnv); text != "" {
		os.Exit(workerMain(text))
	}
	if os.Getenv(mainEnv) != "" {
		env := &cli.Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv}
		os.Exit(cli.Main(context.Background(), env, append([]string{"sluice"}, os.Args[1:]...)))
	}
	os.Exit(m.Run())
}

// program is this binary with another main.
func program(t *testing.T, env string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), env)
	return cmd
}

// scene is a daemon with an image, an archive and two directories, and those
// who use them.
type scene struct {
	dir, mnt, socket string
	client           *api.Client
	supervisor       *exec.Cmd
	log              *os.File
	ended            chan error
	start            time.Time

	mu      sync.Mutex
	slow    []slowOp
	alive   map[int]int // lines of each worker
	workers []*exec.Cmd
	stops   []func() error
}

// slowOp is an operation that took long.
type slowOp struct {
	worker      int
	begin, took time.Duration
	what        string
}

func TestIntegrationTakeOver(t *testing.T) {
	testenv.Root(t) // directories need file handles
	testenv.MountFUSE(t)
	if testing.Short() {
		*upgrades, *kills = min(*upgrades, 2), min(*kills, 2)
	}
	for _, c := range []struct{ name, extra string }{
		{"passthrough", ""},
		{"ordinary", `passthrough = "off"`},
	} {
		t.Run(c.name, func(t *testing.T) { takeOver(t, c.extra) })
	}
}

func takeOver(t *testing.T, extra string) {
	s := newScene(t, extra)
	for i := range 8 {
		dirs := []string{"image", "tar", "dir", "image"}
		rotated := append(slices.Clone(dirs[i%3:]), dirs[:i%3]...)[:2]
		s.work(t, worker{Kind: "read", Seed: uint64(i), Dirs: []string{filepath.Join(s.mnt, rotated[0]), filepath.Join(s.mnt, rotated[1])}})
	}
	for i := range 2 {
		s.work(t, worker{Kind: "write", Seed: uint64(100 + i), Dir: filepath.Join(s.mnt, "rw", fmt.Sprint(i))})
	}
	s.goOn(t)
	first := s.usage(t)
	var events []time.Duration
	var planned []bool
	killed := 0
	for i := range *upgrades + *kills {
		upgrade := killed >= *kills || i%2 == 0 && i-killed < *upgrades
		events = append(events, time.Since(s.start))
		planned = append(planned, upgrade)
		if upgrade {
			s.upgrade(t)
		} else {
			s.kill(t)
			killed++
		}
		s.goOn(t)
		if t.Failed() {
			return
		}
	}
	last := s.usage(t)
	s.stop(t)
	s.report(t, events, planned, first, last)
}

func newScene(t *testing.T, extra string) *scene {
	s := &scene{dir: t.TempDir(), start: time.Now(), alive: map[int]int{}, ended: make(chan error, 1)}
	for _, d := range []string{"mnt", "src", "blobs", "rw"} {
		if err := os.Mkdir(filepath.Join(s.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.mnt, s.socket = filepath.Join(s.dir, "mnt"), filepath.Join(s.dir, "s")
	rw := filepath.Join(s.dir, "rw")
	if *state != "" {
		rw = *state
	}
	if err := write(s.dir); err != nil {
		t.Fatal(err)
	}
	_, err := build.Create(t.Context(), build.Dir(filepath.Join(s.dir, "src")),
		build.Output{Bootstrap: filepath.Join(s.dir, "boot"), BlobDir: filepath.Join(s.dir, "blobs")}, build.Options{Compressor: storage.Zstd})
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`mountpoint = "mnt"
socket = "s"
cache_dir = "cache"
writable = true
transport = %q
%s
[[mount]]
path = "/image"
type = "rafs"
source = %q
config_file = "nydus.json"
[[mount]]
path = "/tar"
source = %q
[[mount]]
path = "/dir"
source = %q
[[mount]]
path = "/rw"
source = %q
`, *transport, extra, filepath.Join(s.dir, "boot"), filepath.Join(s.dir, "src.tar"), filepath.Join(s.dir, "src"), rw)
	nydus := fmt.Sprintf(`{"device": {"backend": {"type": "localfs", "config": {"dir": %q}},
		"cache": {"type": "blobcache", "config": {"work_dir": %q}}}, "mode": "direct"}`, filepath.Join(s.dir, "blobs"), filepath.Join(s.dir, "cache"))
	for name, text := range map[string]string{"daemon.toml": config, "nydus.json": nydus} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.supervise(t)
	return s
}

// write makes a directory and a tar file of what readers find.
func write(dir string) error {
	f, err := os.Create(filepath.Join(dir, "src.tar"))
	if err != nil {
		return err
	}
	defer f.Close()
	tw := tar.NewWriter(f)
	files := contents(1)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		p := filepath.Join(dir, "src", name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(p, files[name], 0o644); err != nil {
			return err
		}
		if err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name]))}); err != nil {
			return err
		}
		if _, err := tw.Write(files[name]); err != nil {
			return err
		}
	}
	return tw.Close()
}

// supervise starts the daemon under a supervisor.
func (s *scene) supervise(t *testing.T) {
	t.Helper()
	var err error
	if s.log, err = os.Create(filepath.Join(s.dir, "log")); err != nil {
		t.Fatal(err)
	}
	s.supervisor = program(t, mainEnv+"=1", "supervise", "--config", filepath.Join(s.dir, "daemon.toml"))
	s.supervisor.Stdout, s.supervisor.Stderr = s.log, s.log
	if err := s.supervisor.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.ended <- s.supervisor.Wait() }()
	s.client = api.Dial(s.socket)
	abort := time.AfterFunc(10*time.Minute, func() {
		t.Error("the test takes too long: all is killed")
		s.end()
	})
	t.Cleanup(func() {
		abort.Stop()
		s.end()
		s.client.Close()
		if b, err := os.ReadFile(s.log.Name()); err == nil && t.Failed() {
			t.Logf("log, its end:\n%s", b[max(0, len(b)-20_000):])
		}
		s.log.Close()
	})
	s.await(t, "the daemon serves", func() error {
		_, err := s.running(t.Context())
		return err
	})
}

// end kills what is left, and unmounts.
func (s *scene) end() {
	for _, w := range s.workers {
		_ = w.Process.Kill()
	}
	_ = s.supervisor.Process.Kill()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if d, err := s.client.Daemon(ctx); err == nil {
		_ = syscall.Kill(d.PID, syscall.SIGKILL)
	}
	_ = unix.Unmount(s.mnt, unix.MNT_FORCE|unix.MNT_DETACH)
}

// await polls until f succeeds.
func (s *scene) await(t *testing.T, what string, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
		if errors.Is(err, errBroken) {
			break
		}
	}
	t.Fatalf("%s: %v", what, err)
}

// errBroken is an error that waiting does not cure.
var errBroken = errors.New("a worker has ended")

func (s *scene) running(ctx context.Context) (api.Daemon, error) {
	d, err := s.client.Daemon(ctx)
	if err == nil && d.State != "RUNNING" {
		err = fmt.Errorf("state %s", d.State)
	}
	return d, err
}

// work starts a worker, and reads what it prints.
func (s *scene) work(t *testing.T, w worker) {
	t.Helper()
	w.Start = s.start.UnixNano()
	text, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	cmd := program(t, workerEnv+"="+string(text))
	k := len(s.workers)
	s.workers = append(s.workers, cmd)
	s.mu.Lock()
	s.alive[k] = 0
	s.mu.Unlock()
	s.stops = append(s.stops, testenv.Worker(t, cmd, func(out io.Reader) { s.listen(k, out) }))
}

func (s *scene) listen(k int, out io.Reader) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		s.mu.Lock()
		s.alive[k]++
		op := slowOp{worker: k}
		if n, _ := fmt.Sscanf(lines.Text(), "slow %d %d %s", &op.begin, &op.took, &op.what); n == 3 {
			s.slow = append(s.slow, op)
			s.alive[k]--
		}
		s.mu.Unlock()
	}
	s.mu.Lock()
	s.alive[k] = -1
	s.mu.Unlock()
}

// goOn waits until each worker has done something more.
func (s *scene) goOn(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	before := maps.Clone(s.alive)
	s.mu.Unlock()
	s.await(t, "all go on", func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		for k, n := range before {
			switch now := s.alive[k]; {
			case now < 0:
				return fmt.Errorf("%w: number %d", errBroken, k)
			case now < n+2:
				return fmt.Errorf("worker %d does not go on", k)
			}
		}
		return nil
	})
}

// upgrade has the daemon replaced, as an operator does it.
func (s *scene) upgrade(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := program(t, mainEnv+"=1", "daemon", "upgrade", "--socket", s.socket)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("daemon upgrade: %v: %s", err, out)
	}
	if _, err := s.running(ctx); err != nil {
		t.Fatal(err)
	}
}

// kill kills the daemon and waits for its successor.
func (s *scene) kill(t *testing.T) {
	t.Helper()
	before, err := s.running(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(before.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.await(t, "another daemon serves", func() error {
		d, err := s.running(t.Context())
		if err == nil && d.PID == before.PID {
			err = errors.New("it is still the same")
		}
		return err
	})
}

// stop ends the workers, whose last checks follow, and the daemon.
func (s *scene) stop(t *testing.T) {
	t.Helper()
	for k, stop := range s.stops {
		if err := stop(); err != nil {
			t.Errorf("worker %d: %v", k, err)
		}
	}
	if err := s.supervisor.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-s.ended:
		if err != nil {
			t.Errorf("supervisor: %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("the supervisor does not end")
	}
	var st, up unix.Stat_t
	if err := errors.Join(unix.Stat(s.mnt, &st), unix.Stat(s.dir, &up)); err != nil || st.Dev != up.Dev {
		t.Errorf("it is still mounted: %v", err)
	}
	for _, name := range []string{"s", "s.state"} {
		if _, err := os.Stat(filepath.Join(s.dir, name)); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", name, err)
		}
	}
}

// usage is what daemon and supervisor hold.
type usage struct {
	goroutines, files, rss, supervisor float64
}

func (s *scene) usage(t *testing.T) (u usage) {
	t.Helper()
	var b []byte
	s.await(t, "metrics", func() error { return s.client.Do(t.Context(), "GET", "/metrics", nil, &b) })
	for line := range strings.Lines(string(b)) {
		for name, to := range map[string]*float64{
			"go_goroutines ": &u.goroutines, "process_open_fds ": &u.files, "process_resident_memory_bytes ": &u.rss,
		} {
			if text, ok := strings.CutPrefix(line, name); ok {
				if _, err := fmt.Sscan(text, to); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.supervisor.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	u.supervisor = float64(len(fds))
	return u
}

// report says how long callers had to wait, and checks that nothing has grown.
func (s *scene) report(t *testing.T, events []time.Duration, planned []bool, first, last usage) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	pauses := map[bool][]time.Duration{}
	for i, at := range events {
		end := time.Duration(1 << 62)
		if i+1 < len(events) {
			end = events[i+1]
		}
		var longest time.Duration
		for _, op := range s.slow {
			if op.begin+op.took > at && op.begin < end {
				longest = max(longest, op.took)
			}
		}
		pauses[planned[i]] = append(pauses[planned[i]], longest)
	}
	for _, p := range []bool{true, false} {
		name := map[bool]string{true: "upgrades", false: "kills"}[p]
		if all := pauses[p]; len(all) > 0 {
			slices.Sort(all)
			t.Logf("%d %s: the slowest operation took %v in the median, %v at worst", len(all), name, all[len(all)/2].Round(time.Millisecond), all[len(all)-1].Round(time.Millisecond))
		}
	}
	t.Logf("goroutines %.0f -> %.0f, descriptors %.0f -> %.0f, RSS %.1f -> %.1f MiB, supervisor's descriptors %.0f -> %.0f",
		first.goroutines, last.goroutines, first.files, last.files, first.rss/(1<<20), last.rss/(1<<20), first.supervisor, last.supervisor)
	if last.supervisor > first.supervisor+2 || last.goroutines > first.goroutines+32 || last.files > first.files+64 || last.rss > 2*first.rss+(32<<20) {
		t.Errorf("what is held has grown: %+v, then %+v", first, last)
	}
}
