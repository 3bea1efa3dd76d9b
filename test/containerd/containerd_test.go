package containerd

import (
	"bytes"
	"context"
	"crypto/md5"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/sluicefs/sluice/image/ocirafs"
	"github.com/sluicefs/sluice/internal/registry"
	"github.com/sluicefs/sluice/internal/testenv"
)

// world is one machine's worth of daemons in a directory of their own.
type world struct {
	t    *testing.T
	dir  string // short, as sockets lie in it
	bin  string // of the peers
	nyd  string // our binary under the name nydusd
	img  string // and nydus-image
	sock string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	testenv.MountFUSE(t)
	bin := os.Getenv("SLUICE_CONTAINERD_BIN")
	if bin == "" {
		t.Skip("needs SLUICE_CONTAINERD_BIN, a directory that ./build has filled")
	}
	dir, err := os.MkdirTemp("", "ctr-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &world{t: t, dir: dir, bin: bin, nyd: filepath.Join(dir, "nydusd"), img: filepath.Join(dir, "nydus-image")}
	w.sock = filepath.Join(dir, "containerd.sock")
	build := exec.Command("go", "build", "-o", w.nyd, "./cmd/sluice")
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	if err := os.Link(w.nyd, w.img); err != nil {
		t.Fatal(err)
	}
	return w
}

// write writes a configuration file; DIR in it is the world's directory.
func (w *world) write(file, text string) string {
	w.t.Helper()
	file = filepath.Join(w.dir, file)
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "DIR", w.dir)), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return file
}

// start starts a daemon, whose words go to a file, and stops it at the end.
func (w *world) start(program string, args ...string) *exec.Cmd {
	w.t.Helper()
	logFile, err := os.OpenFile(filepath.Join(w.dir, program+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		w.t.Fatal(err)
	}
	defer logFile.Close()
	cmd := exec.Command(filepath.Join(w.bin, program), args...)
	cmd.Env = append(os.Environ(), "PATH="+w.bin+":"+os.Getenv("PATH"))
	cmd.Stdout, cmd.Stderr = logFile, logFile
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { stop(cmd) })
	return cmd
}

func stop(cmd *exec.Cmd) {
	if cmd.ProcessState != nil {
		return
	}
	cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
	cmd.Wait()
	timer.Stop()
}

// ctr runs containerd's client and returns what it prints.
func (w *world) ctr(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(w.bin, "ctr"), append([]string{"-a", w.sock}, args...)...)
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("ctr %s: %w\n%s", strings.Join(args, " "), err, words.String())
	}
	return out.String(), err
}

func (w *world) must(args ...string) string {
	w.t.Helper()
	out, err := w.ctr(args...)
	if err != nil {
		w.t.Fatal(err, w.logs())
	}
	return out
}

func (w *world) logs() string {
	var all strings.Builder
	files, _ := filepath.Glob(filepath.Join(w.dir, "*.log"))
	for _, f := range files {
		b, _ := os.ReadFile(f)
		fmt.Fprintf(&all, "\n--- %s\n%s", filepath.Base(f), b[max(0, len(b)-3000):])
	}
	return all.String()
}

// eventually waits until f is true.
func (w *world) eventually(what string, f func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if f() {
			return
		}
	}
	w.t.Fatalf("not within a minute: %s%s", what, w.logs())
}

// image makes a root directory with our nydus-image and pushes it to a
// registry; it returns the reference and the checksum of the file /data.
func (w *world) image() (ref, sum string) {
	w.t.Helper()
	busybox := testenv.Program(w.t, "busybox", "busybox-static")
	root := filepath.Join(w.dir, "root")
	data := make([]byte, 8<<20)
	rnd := rand.NewChaCha8([32]byte{1})
	rnd.Read(data)
	program, err := os.ReadFile(busybox)
	if err != nil {
		w.t.Fatal(err)
	}
	for file, content := range map[string][]byte{"bin/busybox": program, "data": data} {
		file = filepath.Join(root, file)
		os.MkdirAll(filepath.Dir(file), 0o755)
		if err := os.WriteFile(file, content, 0o755); err != nil {
			w.t.Fatal(err)
		}
	}
	for _, applet := range []string{"sh", "cat", "md5sum", "sleep"} {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", applet)); err != nil {
			w.t.Fatal(err)
		}
	}
	blobs := filepath.Join(w.dir, "blobs")
	os.MkdirAll(blobs, 0o755)
	bootstrap := filepath.Join(w.dir, "image.boot")
	out, err := exec.Command(w.img, "create", "--type", "directory", "--bootstrap", bootstrap, "--blob-dir", blobs, root).CombinedOutput()
	if err != nil {
		w.t.Fatalf("nydus-image create: %v\n%s", err, out)
	}
	files, _ := filepath.Glob(filepath.Join(blobs, "*"))
	img, err := ocirafs.New(ocirafs.Image{Bootstrap: bootstrap, Blobs: files})
	if err != nil {
		w.t.Fatal(err)
	}
	store := filepath.Join(w.dir, "registry")
	if err := os.Mkdir(store, 0o755); err != nil {
		w.t.Fatal(err)
	}
	reg, err := registry.Start(store, registry.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { reg.Close() })
	ref = reg.Addr + "/root:rafs"
	parsed, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := ocirafs.Push(w.t.Context(), parsed, img); err != nil {
		w.t.Fatal(err)
	}
	return ref, fmt.Sprintf("%x", md5.Sum(data))
}

// daemons are the processes that serve with our binary.
func (w *world) daemons() (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range all {
		if exe, err := os.Readlink(filepath.Join(p, "exe")); err == nil && exe == w.nyd {
			pid, _ := strconv.Atoi(filepath.Base(p))
			pids = append(pids, pid)
		}
	}
	return pids
}

const containerdConfig = `version = 3
root = "DIR/root-c"
state = "DIR/state-c"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.nri.v1.nri"]
[grpc]
  address = "DIR/containerd.sock"
[ttrpc]
  address = "DIR/containerd.sock.ttrpc"
[proxy_plugins.nydus]
  type = "snapshot"
  address = "DIR/nydus.sock"
  [proxy_plugins.nydus.exports]
    root = "DIR/nydus"
    enable_remote_snapshot_annotations = "true"
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "linux/amd64"
  snapshotter = "nydus"
`

const snapshotterConfig = `version = 1
root = "DIR/nydus"
address = "DIR/nydus.sock"
daemon_mode = "dedicated"
[system]
enable = true
address = "DIR/system.sock"
[daemon]
nydusd_config = "DIR/nydusd.json"
nydusd_path = "DIR/nydusd"
nydusimage_path = "DIR/nydus-image"
fs_driver = "fusedev"
recover_policy = "failover"
failover_policy = "resend"
[cgroup]
enable = false
[log]
log_to_stdout = true
level = "info"
[metrics]
address = ""
[cache_manager]
cache_dir = "DIR/cache"
`

const nydusdConfig = `{"device": {
	"backend": {"type": "registry", "config": {"scheme": "http", "timeout": 5, "connect_timeout": 5, "retry_limit": 2}},
	"cache": {"type": "blobcache", "config": {"work_dir": "DIR/cache"}}},
 "mode": "direct", "enable_xattr": true, "fs_prefetch": {"enable": false}}`

// TestIntegrationContainer runs a container that reads a file for ever,
// restarts the snapshotter and kills our daemon under it: what the container
// reads stays right.
func TestIntegrationContainer(t *testing.T) {
	w := newWorld(t)
	ref, sum := w.image()
	w.write("nydusd.json", nydusdConfig)
	snapshotter := w.start("containerd-nydus-grpc", "--config", w.write("snapshotter.toml", snapshotterConfig))
	w.start("containerd", "-c", w.write("containerd.toml", containerdConfig))
	w.eventually("containerd and the snapshotter answer", func() bool {
		out, err := w.ctr("snapshots", "--snapshotter", "nydus", "ls")
		return err == nil && strings.Contains(out, "KEY")
	})

	w.must("image", "pull", "--plain-http", "--snapshotter", "nydus", ref)
	out := w.must("run", "--rm", "--snapshotter", "nydus", ref, "once", "/bin/md5sum", "/data")
	if !strings.HasPrefix(out, sum) {
		t.Fatalf("md5sum in a container: got %q, want %s", out, sum)
	}

	w.must("run", "-d", "--snapshotter", "nydus", ref, "reader", "/bin/sh", "-c",
		"while :; do md5sum /data >>/sums || echo failed >>/sums; sleep 0.1; done")
	t.Cleanup(func() {
		w.ctr("task", "kill", "-s", "9", "reader")
		w.eventually("the container ends", func() bool {
			_, err := w.ctr("container", "rm", "reader")
			return err == nil
		})
		w.ctr("image", "rm", "--sync", ref)
		for _, pid := range w.daemons() {
			syscall.Kill(pid, syscall.SIGTERM)
		}
		w.eventually("our daemons end", func() bool { return len(w.daemons()) == 0 })
	})
	exec := 0
	sums := func() int {
		exec++
		out, err := w.ctr("task", "exec", "--exec-id", fmt.Sprint("look", exec), "reader", "/bin/cat", "/sums")
		if err != nil {
			t.Fatal(err, w.logs())
		}
		lines := strings.Fields(strings.ReplaceAll(out, "  /data", ""))
		for _, l := range lines {
			if l != sum {
				t.Fatalf("the container read %q, want %s%s", l, sum, w.logs())
			}
		}
		return len(lines)
	}
	more := func(what string) {
		t.Helper()
		before := sums()
		w.eventually("the container goes on "+what, func() bool { return sums() >= before+3 })
	}
	more("at first")

	stop(snapshotter)
	more("without a snapshotter")
	w.start("containerd-nydus-grpc", "--config", filepath.Join(w.dir, "snapshotter.toml"))
	w.eventually("the snapshotter is back", func() bool {
		_, err := w.ctr("snapshots", "--snapshotter", "nydus", "ls")
		return err == nil
	})
	more("with a new snapshotter")

	dead := w.daemons()
	if len(dead) == 0 {
		t.Fatal("no process of ours serves the container")
	}
	for _, pid := range dead {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	w.eventually("the snapshotter starts a successor", func() bool {
		for _, pid := range w.daemons() {
			for _, d := range dead {
				if pid == d {
					return false
				}
			}
		}
		return len(w.daemons()) > 0
	})
	// What the kernel has cached would hide a dead daemon.
	os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0o200)
	more("after its daemon was killed")
}
