// Command imagebench measures how fast images are made, side by side with
// other programs in the same run:
//
//	go run ./imagebench -source /usr -runs 5
//
// It builds the sluice binary, then makes an image of the source by turns
// with each program, and prints the median of wall and CPU seconds with the
// ratio to the peer. Every row ends with its output synced to disk. A peer
// that is not installed is left out, with a word.
package main

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

func main() {
	source := flag.String("source", "", "directory to make images of (needed)")
	runs := flag.Int("runs", 5, "runs of each program; the median counts")
	binary := flag.String("sluice", "", "measure this binary in place of one built for it")
	flag.Parse()
	if *source == "" || *runs < 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*source, *binary, *runs); err != nil {
		fmt.Fprintln(os.Stderr, "imagebench:", err)
		os.Exit(1)
	}
}

// row is one program doing one job. The command writes to the directory that
// is its last argument.
type row struct {
	job, name string
	needs     []string // programs
	argv      []string
	wall, cpu []time.Duration
	size      int64
}

// rows are the programs, the peers of a job behind our own.
func rows(sluice, source string) []*row {
	create := func(args ...string) []string {
		return slices.Concat([]string{sluice, "image", "create", source, "--quiet"}, args, []string{"--output"})
	}
	shell := func(script string) []string { return []string{"bash", "-c", script, "bash", source} }
	tar := func(level int) []string {
		return shell(fmt.Sprintf(`set -o pipefail; tar c -C "$1" . | zstd -q -%d -T0 | tee "$2/layer.tar.zst" | sha256sum >"$2/digest" && sync "$2/layer.tar.zst"`, level))
	}
	// What a layer of an OCI image takes: the digest of the tar as well
	// (rootfs.diff_ids), beside that of what is stored.
	layer := func(level int) []string {
		return shell(fmt.Sprintf(`set -o pipefail; tar c -C "$1" . | tee >(sha256sum >"$2/diffid") | zstd -q -%d -T0 | tee "$2/layer.tar.zst" | sha256sum >"$2/digest" && sync "$2/layer.tar.zst"`, level))
	}
	return []*row{
		{job: "no compression", name: "sluice --compressor none", argv: create("--compressor", "none")},
		{job: "no compression", name: "mkfs.erofs --chunksize 1 MiB", needs: []string{"mkfs.erofs"}, argv: shell(`mkfs.erofs --chunksize=1048576 --quiet "$2/image.erofs" "$1" && sync "$2/image.erofs"`)},
		{job: "lz4", name: "sluice --compressor lz4_block", argv: create("--compressor", "lz4_block")},
		{job: "lz4", name: "mkfs.erofs -zlz4", needs: []string{"mkfs.erofs"}, argv: shell(`mkfs.erofs -zlz4 --quiet "$2/image.erofs" "$1" && sync "$2/image.erofs"`)},
		{job: "zstd, fastest", name: "sluice --level 1", argv: create("--compressor", "zstd", "--level", "1")},
		{job: "zstd, fastest", name: "sluice --level 1 --batch-size 1MiB", argv: create("--compressor", "zstd", "--level", "1", "--batch-size", "1MiB")},
		{job: "zstd, fastest", name: "tar | zstd -1 -T0 | sha256sum", needs: []string{"tar", "zstd"}, argv: tar(1)},
		{job: "zstd, fastest", name: "the same with the tar's digest: an OCI layer", needs: []string{"tar", "zstd"}, argv: layer(1)},
		{job: "zstd, default", name: "sluice --level 2", argv: create("--compressor", "zstd", "--level", "2")},
		{job: "zstd, default", name: "sluice --level 2 --batch-size 1MiB", argv: create("--compressor", "zstd", "--level", "2", "--batch-size", "1MiB")},
		{job: "zstd, default", name: "tar | zstd -3 -T0 | sha256sum", needs: []string{"tar", "zstd"}, argv: tar(3)},
		{job: "zstd, default", name: "the same with the tar's digest: an OCI layer", needs: []string{"tar", "zstd"}, argv: layer(3)},
	}
}

func run(source, sluice string, runs int) error {
	work, err := os.MkdirTemp("", "imagebench-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if sluice == "" {
		sluice = filepath.Join(work, "sluice")
		if err := buildSluice(sluice); err != nil {
			return err
		}
	}
	files, size, err := measureTree(source) // also brings it into the page cache
	if err != nil {
		return err
	}
	list := slices.DeleteFunc(rows(sluice, source), func(r *row) bool {
		for _, p := range r.needs {
			if _, err := exec.LookPath(p); err != nil {
				fmt.Fprintf(os.Stderr, "without %s: %v\n", r.name, err)
				return true
			}
		}
		return false
	})
	for range runs {
		for _, r := range list {
			if err := r.run(filepath.Join(work, "out")); err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	fmt.Printf("%d files, %.1f MB; %d CPUs, Linux %s; median of %d runs\n\n", files, float64(size)/1e6, runtime.NumCPU(), strings.TrimSpace(string(kernel)), runs)
	return print(list, size)
}

// buildSluice builds the program to path.
func buildSluice(path string) error {
	module, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/sluicefs/sluice").Output()
	if err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	build := exec.Command("go", "build", "-o", path, "./cmd/sluice")
	build.Dir = strings.TrimSpace(string(module))
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("go build: %w", err)
	}
	return nil
}

// run makes the image once.
func (r *row) run(out string) error {
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	cmd := exec.Command(r.argv[0], append(slices.Clone(r.argv[1:]), out)...)
	var words strings.Builder
	cmd.Stderr = &words
	began := time.Now()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: %s", err, words.String())
	}
	r.wall = append(r.wall, time.Since(began))
	r.cpu = append(r.cpu, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
	_, size, err := measureTree(out)
	r.size = size
	return err
}

// measureTree reads all regular files below dir.
func measureTree(dir string) (files int, size int64, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		files++
		size += int64(len(b))
		return err
	})
	return files, size, err
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

func print(list []*row, size int64) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "job\tprogram\twall s\tCPU s\tMB/s\toutput MB\tsluice is faster by")
	own := map[string]time.Duration{}
	for _, r := range list {
		wall := median(r.wall)
		ratio := ""
		if o, ok := own[r.job]; ok {
			ratio = fmt.Sprintf("%.2f", wall.Seconds()/o.Seconds())
		} else {
			own[r.job] = wall
		}
		fmt.Fprintf(w, "%s\t%s\t%.2f\t%.2f\t%.0f\t%.1f\t%s\n", r.job, r.name, wall.Seconds(), median(r.cpu).Seconds(),
			float64(size)/1e6/wall.Seconds(), float64(r.size)/1e6, ratio)
	}
	return w.Flush()
}
