// Daemonbench attaches many images to one daemon and says what that costs: the
// time of each, memory, and the processor when nobody uses them.
//
//	go build -o /tmp/sluice ../cmd/sluice && go run ./daemonbench -sluice /tmp/sluice
//
// Every image is a bootstrap of its own with as many files as -files says; they
// share one blob. It needs root and /dev/fuse.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sluicefs/sluice/api"
	"github.com/sluicefs/sluice/image/build"
	"github.com/sluicefs/sluice/storage"
)

func main() {
	sluice := flag.String("sluice", "sluice", "the program to measure")
	images := flag.Int("images", 1000, "images to attach")
	files := flag.Int("files", 1000, "files of each image")
	idle := flag.Duration("idle", 5*time.Second, "how long to watch the idle daemon")
	flag.Parse()
	if err := run(*sluice, *images, *files, *idle); err != nil {
		fmt.Fprintln(os.Stderr, "daemonbench:", err)
		os.Exit(1)
	}
}

func run(sluice string, images, files int, idle time.Duration) (err error) {
	dir, err := os.MkdirTemp("", "daemonbench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := makeImages(dir, images, files); err != nil {
		return err
	}
	mnt, socket := filepath.Join(dir, "mnt"), filepath.Join(dir, "s")
	if err := os.Mkdir(mnt, 0o755); err != nil {
		return err
	}
	cmd := exec.Command(sluice, "daemon", "--mountpoint", mnt, "--socket", socket, "--cache-dir", filepath.Join(dir, "cache"), "--log-level", "warn")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		err = errors.Join(err, cmd.Wait())
	}()
	c := api.Dial(socket)
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	for d, derr := c.Daemon(ctx); derr != nil || d.State != "RUNNING"; d, derr = c.Daemon(ctx) {
		if ctx.Err() != nil {
			return fmt.Errorf("the daemon does not serve: %w", derr)
		}
		time.Sleep(10 * time.Millisecond)
	}
	pid := cmd.Process.Pid
	before, err := rss(pid)
	if err != nil {
		return err
	}
	times, err := attach(ctx, c, dir, images)
	if err != nil {
		return err
	}
	for k := 0; k < images; k += max(images/50, 1) { // they are there
		if _, err := os.ReadFile(filepath.Join(mnt, strconv.Itoa(k), "d0", "f0")); err != nil {
			return err
		}
	}
	after, err := rss(pid)
	if err != nil {
		return err
	}
	cpu0, err := processor(pid)
	if err != nil {
		return err
	}
	time.Sleep(idle)
	cpu1, err := processor(pid)
	if err != nil {
		return err
	}
	slices.Sort(times)
	var sum time.Duration
	for _, t := range times {
		sum += t
	}
	fmt.Printf("%d images of %d files\n", images, files)
	fmt.Printf("attach: %v in the mean, %v at the median, %v in the 99th percentile, %v at worst\n",
		(sum / time.Duration(len(times))).Round(time.Microsecond), times[len(times)/2].Round(time.Microsecond),
		times[len(times)*99/100].Round(time.Microsecond), times[len(times)-1].Round(time.Microsecond))
	fmt.Printf("memory: %.1f MiB, %.1f MiB before\n", float64(after)/(1<<20), float64(before)/(1<<20))
	fmt.Printf("idle: %v of processor time in %v\n", cpu1-cpu0, idle)
	return nil
}

// makeImages makes one image, and as many copies of its bootstrap.
func makeImages(dir string, images, files int) error {
	src := filepath.Join(dir, "src")
	for i := range files {
		p := filepath.Join(src, fmt.Sprintf("d%d", i/100), fmt.Sprintf("f%d", i%100))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(p, fmt.Appendf(nil, "file %d", i), 0o644); err != nil {
			return err
		}
	}
	blobs := filepath.Join(dir, "blobs")
	if err := os.Mkdir(blobs, 0o755); err != nil {
		return err
	}
	boot := filepath.Join(dir, "boot")
	_, err := build.Create(context.Background(), build.Dir(src), build.Output{Bootstrap: boot, BlobDir: blobs}, build.Options{Compressor: storage.Zstd})
	if err != nil {
		return err
	}
	b, err := os.ReadFile(boot)
	if err != nil {
		return err
	}
	for k := range images {
		if err := os.WriteFile(boot+strconv.Itoa(k), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// attach attaches the images one after the other.
func attach(ctx context.Context, c *api.Client, dir string, images int) ([]time.Duration, error) {
	config, err := json.Marshal(map[string]any{
		"device": map[string]any{
			"backend": map[string]any{"type": "localfs", "config": map[string]any{"dir": filepath.Join(dir, "blobs")}},
			"cache":   map[string]any{"type": "blobcache", "config": map[string]any{"work_dir": filepath.Join(dir, "cache")}},
		},
		"mode": "direct",
	})
	if err != nil {
		return nil, err
	}
	var times []time.Duration
	for k := range images {
		begin := time.Now()
		err := c.PutMount(ctx, "/"+strconv.Itoa(k), api.MountRequest{
			Source: filepath.Join(dir, "boot"+strconv.Itoa(k)), Type: "rafs", Config: string(config),
		}, false)
		if err != nil {
			return nil, err
		}
		times = append(times, time.Since(begin))
	}
	return times, nil
}

// rss is the memory of a process, bytes.
func rss(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0, fmt.Errorf("statm of process %d: %q", pid, b)
	}
	n, err := strconv.ParseInt(fields[1], 10, 64)
	return n * int64(os.Getpagesize()), err
}

// processor is the processor time of a process, in ticks of 10 ms.
func processor(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("stat of process %d: %q", pid, b)
	}
	var ticks int64
	for _, f := range fields[11:13] { // utime, stime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}
