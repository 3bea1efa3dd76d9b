// Package testenv says what a test needs of the machine, and skips the test
// with the reason where it is missing. With SLUICE_CI=1 in the environment a
// missing thing fails the test instead: the project's CI skips nothing.
package testenv

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Need is something that a test needs; the probe returns why it is missing,
// or "".
type need struct {
	what  string
	probe func() string
}

// Root needs to be root.
func Root(t testing.TB) {
	t.Helper()
	require(t, need{"root", func() string {
		if os.Geteuid() != 0 {
			return "not root"
		}
		return ""
	}})
}

// FUSE needs a /dev/fuse that this user may open.
func FUSE(t testing.TB) {
	t.Helper()
	require(t, need{"/dev/fuse", func() string {
		f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
		if err != nil {
			return err.Error()
		}
		f.Close()
		return ""
	}})
}

// MountFUSE needs to be root and to have /dev/fuse: what a test needs that
// mounts by itself.
func MountFUSE(t testing.TB) {
	t.Helper()
	Root(t)
	FUSE(t)
}

// URing needs FUSE over io_uring, switched on in the fuse module.
func URing(t testing.TB) {
	t.Helper()
	MountFUSE(t)
	require(t, need{"FUSE over io_uring", func() string {
		b, err := os.ReadFile("/sys/module/fuse/parameters/enable_uring")
		if err != nil {
			return err.Error()
		}
		if strings.TrimSpace(string(b)) != "Y" {
			return "enable_uring is off (echo Y > /sys/module/fuse/parameters/enable_uring)"
		}
		return ""
	}})
}

// Filesystem needs the kernel to know the file system fstype.
func Filesystem(t testing.TB, fstype string) {
	t.Helper()
	require(t, need{"file system " + fstype, func() string {
		b, err := os.ReadFile("/proc/filesystems")
		if err != nil {
			return err.Error()
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 0 && f[len(f)-1] == fstype {
				return ""
			}
		}
		return "not in /proc/filesystems"
	}})
}

// Program needs an executable in PATH and returns its path; deb is the
// Debian package that has it.
func Program(t testing.TB, name, deb string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	require(t, need{name, func() string {
		if err != nil {
			return fmt.Sprintf("not in PATH (Debian package %s)", deb)
		}
		return ""
	}})
	return path
}

// Long marks a test that takes more than a few seconds: "go test -short"
// leaves it out.
func Long(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes long (-short)")
	}
}

// Missing says that something turned out to be missing while the test ran:
// the test is skipped, or fails in CI.
func Missing(t testing.TB, what, why string) {
	t.Helper()
	require(t, need{what, func() string { return why }})
}

func require(t testing.TB, n need) {
	t.Helper()
	why := n.probe()
	if why == "" {
		return
	}
	if os.Getenv("SLUICE_CI") == "1" {
		t.Fatalf("needs %s: %s", n.what, why)
	}
	t.Skipf("needs %s: %s", n.what, why)
}

// UserNamespaces needs the machine to let the ordinary user uid make user
// namespaces, which its administrator may forbid. The caller is root.
func UserNamespaces(t testing.TB, uid int) {
	t.Helper()
	require(t, need{"user namespaces for ordinary users", func() string {
		cmd := exec.Command("setpriv", fmt.Sprint("--reuid=", uid), fmt.Sprint("--regid=", uid), "--clear-groups", "unshare", "--user", "--map-root-user", "--mount", "true")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Sprintf("%v: %s", err, out)
		}
		return ""
	}})
}

// Static needs the program at path to run without shared libraries, which a
// race build does not.
func Static(t testing.TB, path string) {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Skip("needs a static test binary: this one is built with the race detector")
		}
	}
}

// Disk skips a test for the file system that dir is on: why says what needs
// another. With SLUICE_CI=1 it fails.
func Disk(t testing.TB, dir, why string) {
	t.Helper()
	require(t, need{"another file system for " + dir, func() string { return why }})
}
