package e2e

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/internal/testenv"
	"github.com/sluicefs/sluice/storage"
)

// nobody is the ordinary user of these tests, whose home is in the bench.
const nobody = 65534

// userBench is a bench that an ordinary user can work in; it needs root, to
// become him.
func userBench(t *testing.T) *bench {
	t.Helper()
	testenv.Root(t)
	testenv.UserNamespaces(t, nobody)
	b := mountBench(t)
	if fi, err := os.Stat("/dev/fuse"); err != nil || fi.Mode()&0o006 != 0o006 {
		testenv.Missing(t, "/dev/fuse for ordinary users", "root alone may open it (chmod 666 /dev/fuse)")
	}
	for name, mode := range map[string]os.FileMode{"": 0o755, "home": 0o700, "home/run": 0o700, "tmp": 0o777 | os.ModeSticky} {
		b.mkdir(name)
		if err := os.Chmod(b.path(name), mode); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(name, "home") {
			if err := os.Chown(b.path(name), nobody, nobody); err != nil {
				t.Fatal(err)
			}
		}
	}
	// The directory of a test binary is root's alone.
	self, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(b.path("sluice"), self, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// asNobody is the program run by the ordinary user, in a mount namespace in
// which /etc has these lines as subuid and subgid.
func (b *bench) asNobody(subids string, args ...string) *exec.Cmd {
	b.t.Helper()
	etc := b.mkdir("etc")
	script := `set -e; d=$1; shift; lines=$1; shift
		mount -t tmpfs tmpfs "$d/etc"; cp /etc/passwd /etc/group "$d/etc"
		printf %s "$lines" >"$d/etc/subuid"; printf %s "$lines" >"$d/etc/subgid"
		mount --bind "$d/etc" /etc
		exec setpriv --reuid 65534 --regid 65534 --clear-groups "$d/sluice" "$@"`
	cmd := b.command()
	cmd.Path = testenv.Program(b.t, "unshare", "util-linux")
	cmd.Args = append([]string{"unshare", "--mount", "sh", "-c", script, "sh", strings.TrimSuffix(etc, "/etc"), subids}, args...)
	cmd.Env = append(cmd.Env, "HOME="+b.path("home"), "XDG_RUNTIME_DIR="+b.path("home/run"), "SLUICE_CACHE_DIR="+b.path("home/cache"), "TMPDIR="+b.path("tmp"))
	return cmd
}

// busyboxImage makes an image with a shell, and returns its bootstrap.
func (b *bench) busyboxImage() string {
	b.t.Helper()
	program, err := os.ReadFile(testenv.Program(b.t, "busybox", "busybox-static"))
	if err == nil {
		b.mkdir("rootfs/usr/share/doc")
		err = os.WriteFile(b.mkdir("rootfs/bin")+"/busybox", program, 0o755)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	boot, _ := b.image(b.path("rootfs"), "img", storage.Zstd)
	return boot
}

// With newuidmap and a range of ids a user who is not root has all the users
// of an image, and directories can be renamed as installing packages does.
func TestIntegrationRunWithDelegatedUsers(t *testing.T) {
	b := userBench(t)
	testenv.Program(t, "newuidmap", "uidmap")
	boot := b.busyboxImage()
	script := `busybox touch /tmp/f; busybox chown 33:44 /tmp/f; busybox stat -c %u:%g /tmp/f
		busybox mkdir /usr/share/doc/a.new; busybox mv /usr/share/doc/a.new /usr/share/doc/a; busybox ls /usr/share/doc
		busybox grep CapInh /proc/self/status`
	const want = "33:44\na\nCapInh:\t0000000000000000\n"
	cmd := b.asNobody("nobody:100000:65536\n", "run", boot, "--", "/bin/busybox", "sh", "-c", script)
	var errout bytes.Buffer
	cmd.Stderr = &errout
	if out, err := cmd.Output(); err != nil || string(out) != want {
		t.Errorf("got %q, %v; want %q\n%s", out, err, want, errout.String())
	}
	user := b.asNobody("65534:100000:65536\n", "run", "-q", "-u", "7:8", boot, "--", "/bin/busybox", "id")
	if out, err := user.CombinedOutput(); err != nil || string(out) != "uid=7 gid=8\n" {
		t.Errorf("as another user: got %q, %v", out, err)
	}
}

// Without a range of ids there is only root, and a line says what is missing.
func TestIntegrationRunWithoutDelegatedUsers(t *testing.T) {
	b := userBench(t)
	testenv.Program(t, "newuidmap", "uidmap")
	boot := b.busyboxImage()
	for name, c := range map[string]struct{ lines, want string }{
		"no line":      {"somebody:100000:65536\n", "/etc/subuid has no line for nobody"},
		"refused line": {"nobody:65534:1\n", "newuidmap"}, // his own id, a second time
	} {
		cmd := b.asNobody(c.lines, "run", boot, "--", "/bin/busybox", "id", "-u")
		var errout bytes.Buffer
		cmd.Stderr = &errout
		out, err := cmd.Output()
		if err != nil || string(out) != "0\n" {
			t.Errorf("%s: got %q, %v\n%s", name, out, err, errout.String())
		}
		if first, _, _ := strings.Cut(errout.String(), "\n"); !strings.Contains(first, "no users but root") || !strings.Contains(first, c.want) {
			t.Errorf("%s: said %q", name, first)
		}
	}
}

// A program that is killed takes all that it has started with it, though what
// it has started has become root of a namespace since.
func TestIntegrationRunWithDelegatedUsersKilled(t *testing.T) {
	b := userBench(t)
	testenv.Program(t, "newuidmap", "uidmap")
	cmd := b.asNobody("nobody:100000:65536\n", "run", b.busyboxImage(), "--", "/bin/busybox", "sh", "-c", "echo up; exec busybox sleep 1000")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	if err := r.SetReadDeadline(time.Now().Add(watchdog)); err != nil {
		t.Fatal(err)
	}
	var text [16]byte
	if n, err := r.Read(text[:]); string(text[:n]) != "up\n" {
		t.Fatalf("read %q, %v", text[:n], err)
	}
	if err := cmd.Process.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if _, err := io.Copy(io.Discard, r); err != nil { // ends when nobody has the other side
		t.Errorf("something lives on: %v", err)
	}
}
