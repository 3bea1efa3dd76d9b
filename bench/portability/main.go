// Portability builds programs that were written for go-fuse v2 against
// sluice, with nothing changed but the import paths, and runs their own tests.
//
// Usage, in the folder bench:
//
//	go run ./portability [-root DIR] [-work DIR] [-run REGEXP] [gofuse] [gofuse-nodefs] [rclone] [stargz] [soci] [gocryptfs] [kopia]
//
// It works on copies in a temporary directory; sluice's own go.mod never sees
// the programs. The tests of go-fuse that look into its unexported types, or
// want what differs here by design, are left out, and named. Most tests mount,
// so run it as root.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/tools/imports"
)

const (
	peer    = "github.com/hanwen/go-fuse/v2"
	sluice  = "github.com/sluicefs/sluice"
	peerVer = "v2.12.1"
	stargz  = "github.com/containerd/stargz-snapshotter/estargz"
)

var (
	root = flag.String("root", "..", "the root of sluice's module")
	work = flag.String("work", "", "directory to work in (default: a new one, removed at the end)")
	run  = flag.String("run", "", "run only the tests that match")
	race = flag.Bool("race", false, "run the tests with the race detector")
)

// program is one to be ported.
type program struct {
	module, version string
	tests           []string // packages whose tests are run
	build           []string // packages that are built
	edit            []string // further arguments of "go mod edit"
	drop            string   // lines that v2.12 of go-fuse does not compile either
	tags            string   // build tags
}

var programs = map[string]program{
	"rclone": {"github.com/rclone/rclone", "v1.71.0", []string{"./cmd/mount2"}, []string{"./cmd/mount2"}, nil, "", ""},
	"stargz": {
		"github.com/containerd/stargz-snapshotter", "v0.18.2", []string{"./fs/..."}, []string{"./fs/..."},
		// a module beside it that it takes from its own tree
		[]string{"-dropreplace=" + stargz, "-require=" + stargz + "@v0.18.2"},
		"out.Padding = 0", // a field that fuse.Attr no longer has
		"",
	},
	"soci": {
		"github.com/awslabs/soci-snapshotter", "v0.11.1", []string{"./fs/..."}, []string{"./fs/..."},
		nil, "out.Padding = 0", "", // see stargz
	},
	// An encrypting file system whose tests mount it, and go through names,
	// xattrs, sizes and plain text of what it shows.
	"gocryptfs": {
		"github.com/rfjakob/gocryptfs/v2", "v2.6.1",
		[]string{"./internal/...", "./tests/defaults", "./tests/plaintextnames", "./tests/xattr", "./tests/matrix"},
		[]string{"."}, nil, "", "without_openssl",
	},
	"kopia": {
		"github.com/kopia/kopia", "v0.21.1", []string{"./internal/fusemount", "./internal/mount"},
		[]string{"./internal/fusemount", "./internal/mount"}, nil, "", "",
	},
}

func main() {
	flag.Parse()
	names := flag.Args()
	if len(names) == 0 {
		names = []string{"gofuse", "gofuse-nodefs", "rclone", "stargz", "soci", "gocryptfs", "kopia"}
	}
	failed := false
	for _, name := range names {
		err := try(name)
		if err != nil {
			failed = true
		}
		fmt.Printf("%s: %s\n", name, outcome(err))
	}
	if failed {
		os.Exit(1)
	}
}

func outcome(err error) string {
	if err != nil {
		return err.Error()
	}
	return "passes"
}

func try(name string) error {
	dir := *work
	if dir == "" {
		d, err := os.MkdirTemp("", "portability")
		if err != nil {
			return err
		}
		defer os.RemoveAll(d)
		dir = d
	}
	dir = filepath.Join(dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	switch name {
	case "gofuse":
		return goFuse(dir)
	case "gofuse-nodefs":
		return goFuseNodeFS(dir)
	}
	p, ok := programs[name]
	if !ok {
		return fmt.Errorf("%s: no such program", name)
	}
	return p.port(dir)
}

// goFuse puts go-fuse's tests of package fs in the place of ours, in a copy of
// sluice, and runs them.
func goFuse(dir string) error {
	src, err := download(peer, peerVer)
	if err != nil {
		return err
	}
	if err := copySluice(dir); err != nil {
		return err
	}
	for _, part := range []string{"posixtest", "internal"} {
		if err := copyTree(filepath.Join(dir, part), filepath.Join(src, part), func(p string) bool {
			return strings.HasSuffix(p, ".go") && !strings.HasSuffix(p, "_test.go")
		}); err != nil {
			return err
		}
	}
	left := 0
	tests, err := filepath.Glob(filepath.Join(src, "fs", "*_test.go"))
	if err != nil {
		return err
	}
	for _, t := range tests {
		b, err := os.ReadFile(t)
		if err != nil {
			return err
		}
		text, n := withoutInternals(string(b))
		if left += n; n > 0 {
			fmt.Printf("%s: %d functions look into go-fuse's own types: left out\n", filepath.Base(t), n)
		}
		to := filepath.Join(dir, "fs", filepath.Base(t))
		code, err := imports.Process(to, []byte(renamed.Replace(text)), nil) // drops imports no longer used
		if err != nil {
			return err
		}
		if err := os.WriteFile(to, code, 0o644); err != nil {
			return err
		}
	}
	if err := rename(dir, ""); err != nil {
		return err
	}
	fmt.Printf("left out, as they want what is different here by design: %s\n", differs)
	return withFusectl(func() error { return test(dir, "", "-skip="+differs, "./fs") })
}

// copySluice copies sluice without the tests of package fs.
func copySluice(dir string) error {
	return copyTree(dir, *root, func(p string) bool {
		return strings.HasSuffix(p, ".go") && !strings.HasPrefix(p, "fs/") ||
			p == "go.mod" || p == "go.sum" || strings.HasPrefix(p, "fs/") && !strings.HasSuffix(p, "_test.go")
	})
}

// goFuseNodeFS puts go-fuse's packages that stand on its packages fuse and fs
// (the older APIs by nodes and by paths, with their tests, a union and
// archives) beside ours, in a copy of sluice, and runs their tests.
func goFuseNodeFS(dir string) error {
	src, err := download(peer, peerVer)
	if err != nil {
		return err
	}
	if err := copySluice(dir); err != nil {
		return err
	}
	tests := []string{"fuse/nodefs", "fuse/pathfs", "fuse/test", "newunionfs", "zipfs"}
	for _, part := range append([]string{"posixtest", "internal"}, tests...) {
		if err := copyTree(filepath.Join(dir, part), filepath.Join(src, part), func(string) bool { return true }); err != nil {
			return err
		}
	}
	if err := rename(dir, ""); err != nil {
		return err
	}
	for i, t := range tests {
		tests[i] = "./" + t + "/..."
	}
	return withFusectl(func() error { return test(dir, "", tests...) })
}

// withFusectl runs f where /sys/fs/fuse/connections has its files, by which
// some tests abort a connection: without them one leaves a mount that hangs.
func withFusectl(f func() error) error {
	const dir = "/sys/fs/fuse/connections"
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil || strings.Contains(string(mounts), " "+dir+" fusectl ") || os.Geteuid() != 0 {
		return f()
	}
	if out, err := exec.Command("mount", "-t", "fusectl", "none", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("mount fusectl on %s: %w: %s", dir, err, bytes.TrimSpace(out))
	}
	defer exec.Command("umount", dir).Run()
	return f()
}

// differs are the tests that docs/moving-from-go-fuse.md explains.
const differs = "^TestMaxWrite$/MaxWr0|^TestReadResultPipeSpliceMove$/page_cache"

// internals are the names of go-fuse's package fs that its tests use and that
// are not part of the API.
var internals = []string{"*rawBridge", "inodeParents", ".stableAttr"}

// renamed are such names that have a counterpart here.
var renamed = strings.NewReplacer(
	"_SEEK_DATA", "3",
	"*loopbackDirStream", "*loopbackDir",
	"&dirStreamAsFile{", "&streamHandle{",
	"creator:", "open:",
)

// withoutInternals cuts the functions out of a Go file that use one of
// internals, and returns how many they were.
func withoutInternals(text string) (string, int) {
	var keep strings.Builder
	n := 0
	for i, part := range strings.Split(text, "\nfunc ") {
		uses := false
		for _, name := range internals {
			uses = uses || i > 0 && strings.Contains(part, name)
		}
		if uses {
			n++
			if _, rest, ok := strings.Cut(part, "\n}\n"); ok {
				keep.WriteString("\n" + rest)
			}
			continue
		}
		if i > 0 {
			keep.WriteString("\nfunc ")
		}
		keep.WriteString(part)
	}
	return keep.String(), n
}

// port builds and tests a program on sluice.
func (p program) port(dir string) error {
	src, err := download(p.module, p.version)
	if err != nil {
		return err
	}
	if err := copyTree(dir, src, func(string) bool { return true }); err != nil {
		return err
	}
	if err := rename(dir, p.drop); err != nil {
		return err
	}
	abs, err := filepath.Abs(*root)
	if err != nil {
		return err
	}
	for _, args := range [][]string{
		append([]string{"mod", "edit", "-replace", sluice + "=" + abs, "-require", sluice + "@v0.0.0"}, p.edit...),
		{"mod", "tidy", "-e"},
		append([]string{"build"}, p.build...),
	} {
		if err := goTool(dir, p.tags, args...); err != nil {
			return err
		}
	}
	return test(dir, p.tags, p.tests...)
}

func test(dir, tags string, packages ...string) error {
	args := []string{"test", "-count=1", "-vet=off", "-timeout=10m"}
	if *race {
		args = append(args, "-race")
	}
	if *run != "" {
		args = append(args, "-run", *run, "-v")
	}
	return goTool(dir, tags, append(args, packages...)...)
}

func goTool(dir, tags string, args ...string) error {
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod -tags="+tags, "GOWORK=off")
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// download returns the folder of a module in the module cache.
func download(module, version string) (string, error) {
	tmp, err := os.MkdirTemp("", "portability")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	cmd := exec.Command("go", "mod", "download", "-json", module+"@"+version)
	cmd.Dir = tmp
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("download %s@%s: %w", module, version, err)
	}
	for line := range strings.Lines(string(out)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), `"Dir": "`); ok {
			return strings.TrimSuffix(v, `",`), nil
		}
	}
	return "", fmt.Errorf("download %s@%s: no folder", module, version)
}

// copyTree copies the files of src that want says.
func copyTree(dst, src string, want func(path string) bool) error {
	return filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if rel != "." && strings.HasPrefix(d.Name(), ".") {
				return fs.SkipDir
			}
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil && rel != "." {
				return fs.SkipDir // another module
			} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return nil
		}
		if !d.Type().IsRegular() || !want(filepath.ToSlash(rel)) {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		to := filepath.Join(dst, rel)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		perm := os.FileMode(0o644)
		if bytes.HasPrefix(b, []byte("#!")) { // modules lose the mode of their scripts
			perm = 0o755
		}
		return os.WriteFile(to, b, perm)
	})
}

// rename changes the import paths of all Go files below dir, and takes the
// statement drop out.
func rename(dir, drop string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		text := strings.ReplaceAll(string(b), `"`+peer+"/", `"`+sluice+"/")
		if drop != "" {
			text = strings.ReplaceAll(text, drop, "")
		}
		if text == string(b) {
			return nil
		}
		return os.WriteFile(path, []byte(text), 0o644)
	})
}
