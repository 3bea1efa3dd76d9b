package archtest

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/sluicefs/sluice"

// rule says what the packages that match may import of the project. Patterns
// are paths below the module; "x/..." is x and all below it.
type rule struct {
	packages string
	allowed  []string // other packages of the project; nil means none
}

// rules are tried from the top; the first that matches a package holds for
// it. A new package needs a line here.
var rules = []rule{
	// Leaves.
	{"fuse/wire", nil},
	{"fuse/mount", []string{"internal/sys"}},
	{"fuse/channel", []string{"fuse/wire"}},
	{"splice", []string{"internal/sys"}},
	{"storage", nil},
	{"storage/codec/...", []string{"storage", "storage/codec/..."}},
	{"internal/sys", nil},
	{"internal/mmap", []string{"internal/sys"}},
	{"api", nil},

	// Channels never meet each other, nor a file system.
	{"fuse/channel/...", []string{"fuse/wire", "fuse/channel", "fuse/channel/internal/...", "internal/sys"}},
	{"fuse/fuseprom", []string{"fuse"}},
	{"fuse/fusetest", []string{"fuse", "fuse/wire", "fuse/channel"}},
	{"fuse", []string{"fuse/wire", "fuse/channel/...", "fuse/mount", "splice", "internal/sys"}},

	// File systems see fuse, never a concrete channel.
	{"fs/multifs", []string{"fuse", "fs", "vfs"}}, // trees of nodes, put together by vfs
	{"fs/...", []string{"fuse", "fs/...", "splice", "internal/sys", "storage/codec/..."}},
	{"vfs/...", []string{"fuse", "fuse/wire", "vfs/...", "internal/sys"}},

	// imagefs alone joins fuse and storage.
	{"image/imagefs", []string{"fuse", "image", "storage", "internal/sys"}},
	{"image", []string{"storage"}},
	{"image/imagetest", []string{"image/...", "storage", "storage/codec/...", "internal/mmap", "internal/sys", "internal/testenv"}},
	{"image/...", []string{"image/...", "storage", "storage/codec/...", "internal/mmap", "internal/sys"}},

	// The store knows neither FUSE nor images.
	{"storage/...", []string{"storage/...", "internal/sys", "internal/mmap"}},

	// internal/snapshotter talks to daemons through api only; internal/daemon
	// wires, and only internal/cli imports it.
	{"internal/snapshotter/...", []string{"api"}},
	{"internal/cli", []string{"..."}},
	{"cmd/sluice", []string{"internal/cli"}},
	{"internal/archtest", nil},
	{"internal/testenv", nil},
	{"internal/...", []string{
		"api", "fuse/...", "fs/...", "vfs/...", "image/...", "storage/...", "splice",
		"internal/sys", "internal/mmap", "internal/source", "internal/serve", "internal/ctl",
		"internal/mounts", "internal/doctor", "internal/registry", "internal/sandbox", "internal/demo", "internal/daemon/...", "internal/passthrough",
	}},
	{"examples/...", []string{"fuse/...", "fs/...", "image/...", "storage/...", "vfs/..."}},
}

// only lists who alone may import a package, of the project or not.
var only = map[string][]string{
	module + "/internal/daemon":         {"internal/cli", "internal/daemon/..."},
	"github.com/containerd/containerd/": {"internal/snapshotter/..."},
	"google.golang.org/grpc":            {"internal/snapshotter/..."},
	"github.com/spf13/cobra":            {"internal/cli"},
	"github.com/prometheus/":            {"fuse/fuseprom", "internal/...", "cmd/..."},
}

// light are the packages whose importers shall pull in little: nothing but
// the standard library, the project and these modules.
var light = []string{"fuse", "fuse/wire", "fuse/mount", "fuse/channel/...", "fs", "splice", "internal/sys"}

var lightModules = []string{"golang.org/x/sys/", "golang.org/x/sync/"}

func match(pattern, pkg string) bool {
	if pattern == "..." {
		return true
	}
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == base || strings.HasPrefix(pkg, base+"/")
	}
	return pkg == pattern
}

func matchAny(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return match(p, pkg) })
}

// imports returns the imports of each package of the root module, tests left
// out, by the package's path below the module.
func imports(t *testing.T) map[string][]string {
	t.Helper()
	root := filepath.Join("..", "..")
	all := map[string][]string{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); rel != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "vendor") {
				return fs.SkipDir
			}
			if _, err := os.Stat(filepath.Join(file, "go.mod")); err == nil && rel != "." {
				return fs.SkipDir // a module of its own
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		pkg := path.Dir(filepath.ToSlash(rel))
		for _, spec := range f.Imports {
			imp, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if !slices.Contains(all[pkg], imp) {
				all[pkg] = append(all[pkg], imp)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestImportsFollowTheMap(t *testing.T) {
	all := imports(t)
	if len(all) < 5 {
		t.Fatalf("found %d packages: the walk is wrong", len(all))
	}
	for pkg, imps := range all {
		if strings.HasPrefix(pkg, "test/") {
			continue // whole-program tests use what they like
		}
		i := slices.IndexFunc(rules, func(r rule) bool { return match(r.packages, pkg) })
		if i < 0 {
			t.Errorf("package %s: has no rule in this test", pkg)
			continue
		}
		for _, imp := range imps {
			own, ok := strings.CutPrefix(imp, module+"/")
			if ok && own != pkg && !matchAny(rules[i].allowed, own) {
				t.Errorf("package %s: imports %s, which the rule for %s does not allow", pkg, own, rules[i].packages)
			}
		}
	}
}

func TestOnlyOneDoor(t *testing.T) {
	for pkg, imps := range imports(t) {
		if strings.HasPrefix(pkg, "test/") {
			continue
		}
		for _, imp := range imps {
			for guarded, doors := range only {
				if (imp == guarded || strings.HasPrefix(imp, strings.TrimSuffix(guarded, "/")+"/")) && !matchAny(doors, pkg) {
					t.Errorf("package %s: imports %s, which only %v may", pkg, imp, doors)
				}
			}
		}
	}
}

func TestLibraryStaysLight(t *testing.T) {
	for pkg, imps := range imports(t) {
		if !matchAny(light, pkg) {
			continue
		}
		for _, imp := range imps {
			first, _, _ := strings.Cut(imp, "/")
			outside := strings.Contains(first, ".") && !strings.HasPrefix(imp, module+"/")
			if outside && !slices.ContainsFunc(lightModules, func(m string) bool { return strings.HasPrefix(imp+"/", m) }) {
				t.Errorf("package %s: imports %s; a user of the library would have to take it too", pkg, imp)
			}
		}
	}
}
