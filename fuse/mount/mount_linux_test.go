package mount

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/internal/sys"
	"github.com/sluicefs/sluice/internal/testenv"
)

// server answers INIT and GETATTR of the root, and ENOSYS to all else; it ends
// with the session.
type server struct {
	done  chan struct{}
	inits atomic.Int32
}

func serve(t *testing.T, fd int) *server {
	s := &server{done: make(chan struct{})}
	go func() {
		defer close(s.done)
		defer unix.Close(fd)
		buf := make([]byte, 1<<17)
		for {
			n, errno := sys.Read(fd, buf)
			switch errno {
			case 0:
				s.answer(fd, buf[:n])
			case unix.EINTR, unix.ENOENT:
			case unix.ENODEV, unix.ECONNABORTED:
				return
			default:
				t.Errorf("read of the device: %v", errno)
				return
			}
		}
	}()
	return s
}

func (s *server) answer(fd int, msg []byte) {
	ne := binary.NativeEndian
	var out []byte
	errno := unix.ENOSYS
	switch ne.Uint32(msg[4:]) {
	case 2, 42, 36: // FORGET, BATCH_FORGET, INTERRUPT
		return
	case 26: // INIT
		s.inits.Add(1)
		errno, out = 0, make([]byte, 64)
		ne.PutUint32(out, 7)
		ne.PutUint32(out[4:], 31)
		ne.PutUint32(out[20:], 65536)
	case 3: // GETATTR
		errno, out = 0, make([]byte, 104)
		ne.PutUint64(out[16:], 1)
		ne.PutUint32(out[16+60:], unix.S_IFDIR|0o755)
		ne.PutUint32(out[16+64:], 2)
	}
	reply := make([]byte, 16, 16+len(out))
	ne.PutUint32(reply, uint32(16+len(out)))
	ne.PutUint32(reply[4:], uint32(-int32(errno)))
	copy(reply[8:16], msg[8:16])
	_, _ = sys.Write(fd, append(reply, out...))
}

// mounted mounts at a fresh directory and serves; the test's end takes it off.
func mounted(t *testing.T, o Options) (*Point, *server) {
	t.Helper()
	testenv.MountFUSE(t)
	o.Point = t.TempDir()
	p, err := Prepare(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(p.Path(), unix.MNT_DETACH) })
	if !p.Synchronous() { // reading before the mount would be an error
		if err := p.Attach(); err != nil {
			t.Fatal(err)
		}
	}
	s := serve(t, p.FD())
	if err := p.Attach(); err != nil {
		t.Fatal(err)
	}
	return p, s
}

func entry(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[1] == path {
			return line
		}
	}
	return ""
}

func TestIntegrationAttach(t *testing.T) {
	for _, how := range []Method{Auto, API, Syscall, Helper} {
		t.Run(how.String(), func(t *testing.T) {
			testenv.MountFUSE(t)
			if how == Helper {
				testenv.Program(t, "fusermount3", "fuse3")
			}
			o := Options{Point: t.TempDir(), Method: how, Subtype: "sluicetest", Source: "a,b", ReadOnly: true, NoSuid: true, NoDirAtime: how != Helper,
				AllowOther: true, DefaultPermissions: true, MaxRead: 8192}
			p, err := Prepare(o)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Unmount(p.Path(), unix.MNT_DETACH) })
			if err := p.Attach(); err != nil {
				t.Fatal(err)
			}
			s := serve(t, p.FD())
			line := entry(t, p.Path())
			for _, want := range []string{"a,b ", "fuse.sluicetest", "ro", "nosuid", "allow_other", "default_permissions", "max_read=8192"} {
				if !strings.Contains(line, want) {
					t.Errorf("/proc/self/mounts: %q lacks %q", line, want)
				}
			}
			if o.NoDirAtime && !strings.Contains(line, "nodiratime") { // Debian's fusermount3 does not know it
				t.Errorf("/proc/self/mounts: %q lacks nodiratime", line)
			}
			var st unix.Stat_t
			if err := unix.Stat(p.Path(), &st); err != nil {
				t.Errorf("stat of the root: %v", err)
			}
			if err := p.Unmount(); err != nil {
				t.Error(err)
			}
			if err := p.Unmount(); err != nil {
				t.Errorf("second unmount: %v", err)
			}
			<-s.done
			if line := entry(t, p.Path()); line != "" {
				t.Errorf("still mounted: %q", line)
			}
		})
	}
}

func TestIntegrationSynchronousInit(t *testing.T) {
	p, s := mounted(t, Options{SyncInit: true, Method: API})
	if p.Synchronous() && s.inits.Load() != 1 {
		t.Errorf("INITs answered when Attach returned: got %d, want 1", s.inits.Load())
	}
}

func TestIntegrationBusyDetachAbort(t *testing.T) {
	p, s := mounted(t, Options{SyncInit: true})
	root, err := unix.Open(p.Path(), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(root)
	if err := p.Unmount(); !errors.Is(err, unix.EBUSY) {
		t.Errorf("unmount while busy: got %v, want EBUSY", err)
	}
	if _, err := p.Waiting(); err != nil {
		t.Error(err)
	}
	if err := p.SetReadAhead(1 << 20); err != nil {
		t.Error(err)
	} else {
		dev, _ := p.Device()
		b, err := os.ReadFile(filepath.Join("/sys/class/bdi", dev, "read_ahead_kb"))
		if string(bytes.TrimSpace(b)) != "1024" {
			t.Errorf("read_ahead_kb: got %q, %v, want 1024", b, err)
		}
	}
	if err := p.Abort(); err != nil {
		t.Fatal(err)
	}
	<-s.done
	if _, err := Prepare(Options{Point: p.Path()}); !errors.Is(err, unix.ENOTCONN) || !strings.Contains(err.Error(), "umount -l") {
		t.Errorf("prepare on a dead mount: got %v, want ENOTCONN and what to do", err)
	}
	if err := p.Detach(); err != nil {
		t.Error(err)
	}
	if line := entry(t, p.Path()); line != "" {
		t.Errorf("still mounted: %q", line)
	}
}

func TestIntegrationAdopt(t *testing.T) {
	p, _ := mounted(t, Options{SyncInit: true})
	dup, err := unix.Dup(p.FD())
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dup)
	a, err := Adopt(dup, p.Path())
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Attach(); err != nil {
		t.Errorf("attach of an adopted session: %v", err)
	}
	flags, err := unix.FcntlInt(uintptr(dup), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("adopted descriptor: flags %#x, %v, want close-on-exec", flags, err)
	}
	if err := a.Unmount(); err != nil {
		t.Error(err)
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(null)
	if _, err := Adopt(null, ""); err == nil {
		t.Error("adopt of /dev/null: got no error")
	}
}

const namespaceMark = "SLUICE_TEST_NAMESPACE"

// TestIntegrationNamespace mounts in a user and mount namespace: the test
// binary starts itself there.
func TestIntegrationNamespace(t *testing.T) {
	if dir := os.Getenv(namespaceMark); dir != "" {
		p, err := Prepare(Options{Point: dir, SyncInit: true})
		if err != nil {
			t.Fatal(err)
		}
		s := serve(t, p.FD())
		if err := p.Attach(); err != nil {
			t.Fatal(err)
		}
		if err := p.Unmount(); err != nil {
			t.Fatal(err)
		}
		<-s.done
		return
	}
	testenv.MountFUSE(t)
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestIntegrationNamespace$")
	cmd.Env = append(os.Environ(), namespaceMark+"="+t.TempDir())
	Namespace(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("mount in a namespace of its own: %v\n%s", err, out)
	}
}

func TestFindDevice(t *testing.T) {
	const info = `21 1 0:5 / / rw - ext4 /dev/vda rw
30 21 0:44 / /mnt/a\040b rw,nosuid shared:1 - fuse.x x rw
31 21 0:45 / /mnt/a\040b rw - fuse x rw
32 21 0:46 / /mnt rw - tmpfs x rw
`
	if got := findDevice(info, "/mnt/a b"); got != "0:45" {
		t.Errorf("device: got %q, want the topmost, 0:45", got)
	}
	if got := findDevice(info, "/mnt"); got != "" {
		t.Errorf("device of a tmpfs: got %q, want none", got)
	}
	if got := unescape(`a\`); got != `a\` {
		t.Errorf("unescape: got %q", got)
	}
}
