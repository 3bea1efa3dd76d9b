package conformance

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/testenv"
)

// stressors are those of stress-ng's file-system class that work in the
// directory they are given; the others test block devices or the kernel's
// own tables, need minutes, or sync(2) every file system of the machine.
var stressors = []string{
	"access", "chdir", "chmod", "chown", "dentry", "dir", "dirdeep", "dirmany", "dup", "fallocate", "fcntl",
	"filename", "flock", "fpunch", "fsize", "fstat", "getdent", "hdd", "inotify", "link", "locka",
	"lockf", "lockofd", "open", "rename", "symlink", "sync-file", "touch", "utime", "verity", "xattr",
}

// mount shows a fresh directory through the loopback and returns the mount
// point. stress-ng and fio are children of this process, whose programs do
// not lie on the mount and whose working directory is not on it.
func mount(t *testing.T, transport fuse.Transport) string {
	t.Helper()
	root, err := fs.NewLoopbackRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	second := time.Second
	server, err := fs.Mount(dir, root, &fs.Options{
		MountOptions: fuse.MountOptions{FsName: "loopback", Name: "sluice", Transport: transport, AllowOther: true},
		EntryTimeout: &second, AttrTimeout: &second,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Unmount(); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// each runs f on every channel.
func each(t *testing.T, f func(t *testing.T, dir string)) {
	t.Run("classic", func(t *testing.T) {
		testenv.MountFUSE(t)
		f(t, mount(t, fuse.TransportDevice))
	})
	t.Run("uring", func(t *testing.T) {
		testenv.URing(t)
		f(t, mount(t, fuse.TransportURing))
	})
}

func TestIntegrationStressNG(t *testing.T) {
	testenv.Long(t)
	testenv.MountFUSE(t)
	program := testenv.Program(t, "stress-ng", "stress-ng")
	each(t, func(t *testing.T, dir string) {
		for _, s := range stressors {
			t.Run(s, func(t *testing.T) {
				run(t, program, "--"+s, "2", "--"+s+"-ops", "100", "--timeout", "1", "--verify", "--temp-path", dir, "--oomable")
			})
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	})
}

// run runs a program that fails by its exit code. stress-ng's 4 is "not
// implemented here", which is no failure.
func run(t *testing.T, program string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	const notImplemented = 4
	if exit, ok := err.(*exec.ExitError); ok && exit.ExitCode() == notImplemented {
		t.Logf("not implemented here: %s", strings.TrimSpace(string(out)))
		return
	}
	if err != nil {
		t.Errorf("%s %s: %v\n%s", filepath.Base(program), strings.Join(args, " "), err, out)
	}
}

func TestIntegrationFioVerify(t *testing.T) {
	testenv.Long(t)
	testenv.MountFUSE(t)
	program := testenv.Program(t, "fio", "fio")
	each(t, func(t *testing.T, dir string) {
		for _, rw := range []string{"write", "randwrite", "randrw"} {
			for _, engine := range []string{"psync", "mmap", "libaio"} {
				for _, direct := range []int{0, 1} {
					if engine == "mmap" && direct == 1 {
						continue
					}
					name := fmt.Sprintf("%s-%s-direct%d", rw, engine, direct)
					t.Run(name, func(t *testing.T) {
						run(t, program, "--name="+name, "--directory="+dir, "--rw="+rw, "--ioengine="+engine, fmt.Sprintf("--direct=%d", direct),
							"--size=4m", "--bsrange=4k-128k", "--blockalign=4k", "--verify=crc32c", "--verify_fatal=1", "--do_verify=1",
							"--iodepth=8", "--unlink=1", "--output-format=terse")
					})
				}
			}
		}
	})
}

func TestMain(m *testing.M) {
	// Children write their reports where they start.
	if dir, err := os.MkdirTemp("", "conformance-"); err == nil {
		os.Chdir(dir)
		code := m.Run()
		os.RemoveAll(dir)
		os.Exit(code)
	}
	os.Exit(m.Run())
}
