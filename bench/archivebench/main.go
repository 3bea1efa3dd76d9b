// Command archivebench compares mounted archives: zipfs and tarfs of sluice
// with archivemount, fuse-zip and ratarmount, as far as they are in PATH, on
// archives that it makes. It needs root and prints a Markdown table and, with
// -json, the figures.
//
//	go run ./archivebench [-members 100000] [-size 1024] [-rounds 5] [-json FILE]
//	go run ./archivebench -work DIR -only many.zip -programs sluice,fuse-zip
//
// Rows: "open" is from the start of the mounting program until the first
// name in the root can be looked up, with an archive of -members members;
// "list" walks all names; "small" opens, reads and closes 5,000 of them, and
// "small again" the same once more; "random" reads 4 KiB at random places of
// one deflated member of -size MiB, "sequential" reads that member once, and
// "again" and "warm" once more each, when the kernel has it. "inflate" is what
// it takes this program to inflate the member from its start to half its
// length, which is what a random read costs that cannot seek. An index that a
// program has saved in an earlier round is there in the next one.
// The program "loopback" is sluice's mount of a directory with the same files.
// Programs are measured in turn within each round; figures are medians.
package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(0)
	members := flag.Int("members", 100_000, "members of the archive with many")
	size := flag.Int64("size", 1024, "MiB of the one member of the other")
	rounds := flag.Int("rounds", 5, "rounds")
	out := flag.String("json", "", "write the figures to this file")
	work := flag.String("work", "", "directory for the archives, kept for another run (default: a new one, removed at the end)")
	only := flag.String("only", "", "archives, separated by commas (default many.zip, many.tar.gz, large.zip, large.tar.gz)")
	which := flag.String("programs", "", "programs, separated by commas (default all)")
	flag.Parse()
	o := options{*members, *size << 20, *rounds, *out, *work, list(*only), list(*which)}
	if err := run(o); err != nil {
		log.Fatal("archivebench: ", err)
	}
}

// list splits s at commas; nil means all.
func list(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

type options struct {
	members        int
	size           int64 // bytes
	rounds         int
	out, work      string
	only, programs []string
}

// program mounts an archive in the foreground.
type program struct {
	name string
	args func(archive, dir string) []string
	tar  bool // does tar as well as zip
	dir  bool // shows the directory with the files of an archive
}

// row is one figure of one program on one archive.
type row struct {
	Program, Archive, What string
	Value                  float64
	Unit                   string
}

func run(o options) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("needs root, to mount")
	}
	work, size, rounds := o.work, o.size, o.rounds
	if work == "" {
		var err error
		if work, err = os.MkdirTemp("", "archivebench-"); err != nil {
			return err
		}
		defer os.RemoveAll(work)
	}
	sluice := filepath.Join(work, "sluice")
	if err := buildSluice(sluice); err != nil {
		return err
	}
	programs := []program{{"sluice", func(a, d string) []string {
		return []string{sluice, "mount", "--cache-dir", filepath.Join(work, "cache"), a, d}
	}, true, false}, {"loopback", func(a, d string) []string {
		return []string{sluice, "mount", strings.TrimSuffix(a, ".zip"), d}
	}, false, true}}
	if p, err := exec.LookPath("archivemount"); err == nil {
		programs = append(programs, program{"archivemount", func(a, d string) []string {
			return []string{p, "-f", "-o", "readonly", a, d}
		}, true, false})
	}
	if p, err := exec.LookPath("fuse-zip"); err == nil {
		programs = append(programs, program{"fuse-zip", func(a, d string) []string { return []string{p, "-f", "-r", a, d} }, false, false})
	}
	if p, err := exec.LookPath("ratarmount"); err == nil {
		programs = append(programs, program{"ratarmount", func(a, d string) []string {
			return []string{p, "-f", "--index-folders", filepath.Join(work, "ratarmount"), a, d}
		}, true, false})
	}
	log.Printf("the archives: %d members; one of %d MiB", o.members, size>>20)
	archives, err := makeArchives(work, o.members, size)
	if err != nil {
		return err
	}
	values := map[row][]float64{}
	var order []row
	note := func(r row, v float64) {
		if _, ok := values[r]; !ok {
			order = append(order, r)
		}
		values[r] = append(values[r], v)
	}
	for round := range rounds {
		for _, a := range archives {
			if o.only != nil && !slices.Contains(o.only, filepath.Base(a)) {
				continue
			}
			if filepath.Base(a) == "large.zip" {
				note(row{"compress/flate", "large.zip", "inflate", 0, "ms"}, inflateHalf(a, size))
			}
			for _, p := range programs {
				if o.programs != nil && !slices.Contains(o.programs, p.name) {
					continue
				}
				if filepath.Ext(a) != ".zip" && !p.tar {
					continue
				}
				rows, err := measure(p, a, filepath.Join(work, "mnt"), size)
				if err != nil {
					log.Printf("%s on %s: %v", p.name, filepath.Base(a), err)
					continue
				}
				for _, r := range rows {
					v := r.Value
					r.Value = 0
					note(r, v)
				}
			}
		}
		log.Printf("round %d of %d done", round+1, rounds)
	}
	for i, r := range order {
		v := values[r]
		slices.Sort(v)
		order[i].Value = v[len(v)/2]
	}
	fmt.Println("| archive | what | program | median |\n|---|---|---|---|")
	for _, r := range order {
		fmt.Printf("| %s | %s | %s | %.3g %s |\n", r.Archive, r.What, r.Program, r.Value, r.Unit)
	}
	if o.out == "" {
		return nil
	}
	data, err := json.MarshalIndent(order, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(o.out, data, 0o644)
}

// text is what the large member has: words that deflate to about a third.
type text struct {
	rnd  *rand.Rand
	left int64
}

func newText(n int64) io.Reader { return &text{rand.New(rand.NewPCG(1, 2)), n} }

func (t *text) Read(p []byte) (int, error) {
	if t.left == 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), t.left)]
	for i := range p {
		p[i] = "etaoin shrdlu\n0123"[t.rnd.IntN(18)]
	}
	t.left -= int64(len(p))
	return len(p), nil
}

// buildSluice builds the program in its own module, whose dependencies this
// one does not have.
func buildSluice(to string) error {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/sluicefs/sluice").Output()
	if err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	build := exec.Command("go", "build", "-o", to, "./cmd/sluice")
	build.Dir = strings.TrimSpace(string(dir))
	build.Stderr = os.Stderr
	return build.Run()
}

// filler calls put for each file of an archive.
type filler func(put func(name string, size int64, r io.Reader) error) error

// makeArchives writes a zip, a tar.gz and a directory with many members and
// ones with a large member.
func makeArchives(dir string, members int, size int64) ([]string, error) {
	var names []string
	for _, kind := range []struct {
		name string
		add  filler
	}{
		{"many", func(put func(string, int64, io.Reader) error) error {
			for i := range members {
				if err := put(fmt.Sprintf("d%03d/file%06d", i%500, i), 100, newText(100)); err != nil {
					return err
				}
			}
			return nil
		}},
		{"large", func(put func(string, int64, io.Reader) error) error { return put("large", size, newText(size)) }},
	} {
		zipName := filepath.Join(dir, kind.name+".zip")
		if err := create(zipName, func(w io.Writer) error {
			z := zip.NewWriter(w)
			err := kind.add(func(name string, _ int64, r io.Reader) error {
				f, err := z.Create(name)
				if err != nil {
					return err
				}
				_, err = io.Copy(f, r)
				return err
			})
			if err != nil {
				return err
			}
			return z.Close()
		}); err != nil {
			return nil, err
		}
		tarName := filepath.Join(dir, kind.name+".tar.gz")
		if err := create(tarName, func(w io.Writer) error {
			g := gzip.NewWriter(w)
			t := tar.NewWriter(g)
			err := kind.add(func(name string, size int64, r io.Reader) error {
				if err := t.WriteHeader(&tar.Header{Name: name, Size: size, Mode: 0o644}); err != nil {
					return err
				}
				_, err := io.Copy(t, r)
				return err
			})
			if err != nil {
				return err
			}
			if err := t.Close(); err != nil {
				return err
			}
			return g.Close()
		}); err != nil {
			return nil, err
		}
		if err := makeTree(filepath.Join(dir, kind.name), kind.add); err != nil {
			return nil, err
		}
		names = append(names, zipName, tarName)
	}
	return names, nil
}

// makeTree makes a directory of the files that add puts, unless there is one.
func makeTree(dir string, add filler) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	part := dir + ".part"
	err := add(func(name string, _ int64, r io.Reader) error {
		path := filepath.Join(part, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		return create(path, func(w io.Writer) error {
			_, err := io.Copy(w, r)
			return err
		})
	})
	if err != nil {
		return err
	}
	return os.Rename(part, dir)
}

// create makes a file unless there is one.
func create(name string, f func(io.Writer) error) error {
	if _, err := os.Stat(name); err == nil {
		return nil
	}
	w, err := os.Create(name + ".part")
	if err != nil {
		return err
	}
	if err := f(w); err != nil {
		w.Close()
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.Rename(name+".part", name)
}

// inflateHalf returns the milliseconds that it takes to inflate the first half
// of the member, or -1.
func inflateHalf(archive string, size int64) float64 {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return -1
	}
	defer z.Close()
	t := time.Now()
	r, err := z.File[0].Open()
	if err != nil {
		return -1
	}
	defer r.Close()
	if _, err := io.CopyN(io.Discard, r, size/2); err != nil {
		return -1
	}
	return time.Since(t).Seconds() * 1000
}

// measure mounts an archive with p and takes its figures.
func measure(p program, archive, dir string, size int64) (rows []row, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	args := p.args(archive, dir)
	cmd := exec.Command(args[0], args[1:]...)
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() {
		syscall.Unmount(dir, 0)
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			syscall.Unmount(dir, syscall.MNT_DETACH)
			cmd.Process.Kill()
			<-ended
		}
	}()
	if err := waitMounted(dir, ended); err != nil {
		return nil, err
	}
	base := filepath.Base(archive)
	add := func(what string, v float64, unit string) {
		rows = append(rows, row{p.name, base, what, v, unit})
	}
	add("open", time.Since(began).Seconds(), "s")
	if base[:4] == "many" {
		t := time.Now()
		n := 0
		err := filepath.WalkDir(dir, func(string, fs.DirEntry, error) error { n++; return nil })
		if err != nil {
			return nil, err
		}
		add("list", float64(n)/time.Since(t).Seconds(), "names/s")
		for _, what := range []string{"small", "small again"} {
			t := time.Now()
			n, err := readSmall(dir)
			if err != nil {
				return nil, err
			}
			add(what, float64(n)/time.Since(t).Seconds(), "files/s")
		}
		return rows, nil
	}
	f, err := os.Open(filepath.Join(dir, "large"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := random(f, size, add); err != nil {
		return nil, err
	}
	for _, what := range []string{"sequential", "again", "warm"} {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		t := time.Now()
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, make([]byte, 1<<20))
		if err != nil {
			return nil, err
		}
		add(what, float64(n)/time.Since(t).Seconds()/1e6, "MB/s")
	}
	return rows, nil
}

// readSmall opens, reads and closes some of the many members, of some
// directories whole ones, and returns how many.
func readSmall(dir string) (n int, err error) {
	buf := make([]byte, 4096)
	for d := range 500 {
		if n >= 5000 {
			break
		}
		sub := filepath.Join(dir, fmt.Sprintf("d%03d", d))
		entries, err := os.ReadDir(sub)
		if err != nil {
			return n, err
		}
		for _, e := range entries {
			fd, err := syscall.Open(filepath.Join(sub, e.Name()), syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
			if err != nil {
				return n, err
			}
			_, err = syscall.Read(fd, buf)
			if err := errors.Join(err, syscall.Close(fd)); err != nil {
				return n, err
			}
			n++
		}
	}
	return n, nil
}

// random reads 4 KiB at random places: the first few go where nobody has
// been, the others near points that are known by then. Each read is of
// pages that the kernel does not have.
func random(f *os.File, size int64, add func(string, float64, string)) error {
	rnd := rand.New(rand.NewPCG(3, 4))
	p := make([]byte, 4096)
	last := size/4096 - 1
	t := time.Now()
	if _, err := f.ReadAt(p, last*4096); err != nil {
		return err
	}
	add("first 4 KiB at the end", time.Since(t).Seconds()*1000, "ms")
	const reads = 20
	t = time.Now()
	for range reads {
		if _, err := f.ReadAt(p, rnd.Int64N(last)*4096); err != nil {
			return err
		}
	}
	add("random 4 KiB", time.Since(t).Seconds()*1000/reads, "ms")
	return nil
}

// waitMounted waits until dir is another file system than its parent and its
// root can be read.
func waitMounted(dir string, ended <-chan error) error {
	var parent syscall.Stat_t
	if err := syscall.Stat(filepath.Dir(dir), &parent); err != nil {
		return err
	}
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		select {
		case err := <-ended:
			return fmt.Errorf("ended before it mounted: %v", err)
		default:
		}
		var st syscall.Stat_t
		if err := syscall.Stat(dir, &st); err == nil && st.Dev != parent.Dev {
			_, err := os.ReadDir(dir)
			return err
		}
	}
	return fmt.Errorf("not mounted within two minutes")
}
