package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/api"
	"github.com/sluicefs/sluice/internal/testenv"
)

// manager stands for systemd: it listens on a NOTIFY_SOCKET, keeps the
// descriptors that it is given by name, and starts a unit's process with them.
type manager struct {
	path string
	l    *net.UnixConn

	mu     sync.Mutex
	kept   []keptFD
	states []string // READY=1 and the like
	done   chan struct{}
}

type keptFD struct {
	name string
	fd   int
}

func newManager(t *testing.T) *manager {
	t.Helper()
	m := &manager{path: filepath.Join(t.TempDir(), "notify"), done: make(chan struct{})}
	var err error
	if m.l, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	go m.serve()
	t.Cleanup(func() {
		m.l.Close()
		<-m.done
		for _, k := range m.kept {
			unix.Close(k.fd)
		}
	})
	return m
}

func (m *manager) serve() {
	defer close(m.done)
	buf, oob := make([]byte, 4096), make([]byte, 1024)
	for {
		n, k, _, _, err := m.l.ReadMsgUnix(buf, oob)
		if err != nil {
			return
		}
		m.message(string(buf[:n]), rights(oob[:k]))
	}
}

// message does what systemd's service_notify_message does.
func (m *manager) message(text string, fds []int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		fields[k] = v
		if k == "READY" || k == "STOPPING" || k == "RELOADING" || k == "MAINPID" {
			m.states = append(m.states, k)
		}
	}
	name := fields["FDNAME"]
	if fields["FDSTOREREMOVE"] == "1" {
		m.kept = slices.DeleteFunc(m.kept, func(k keptFD) bool {
			if k.name == name {
				unix.Close(k.fd)
			}
			return k.name == name
		})
	}
	for _, fd := range fds {
		same := slices.ContainsFunc(m.kept, func(k keptFD) bool { return sameFile(k.fd, fd) })
		if fields["FDSTORE"] != "1" || same {
			unix.Close(fd)
			continue
		}
		m.kept = append(m.kept, keptFD{name, fd})
	}
}

// sameFile reports whether two descriptors are of one open file.
func sameFile(a, b int) bool {
	const kcmpFile = 0
	pid := uintptr(os.Getpid())
	r, _, errno := unix.Syscall6(unix.SYS_KCMP, pid, pid, kcmpFile, uintptr(a), uintptr(b), 0)
	return errno == 0 && r == 0
}

func (m *manager) names() (all []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.kept {
		all = append(all, k.name)
	}
	return all
}

// start starts a daemon with what is kept.
func (m *manager) start(t *testing.T, c childOptions) *child {
	t.Helper()
	p := c.child(t)
	m.mu.Lock()
	var names []string
	for _, k := range m.kept {
		fd, err := unix.FcntlInt(uintptr(k.fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), k.name)
		defer f.Close()
		p.cmd.ExtraFiles = append(p.cmd.ExtraFiles, f)
		names = append(names, k.name)
	}
	m.mu.Unlock()
	p.cmd.Env = append(p.cmd.Env, "NOTIFY_SOCKET="+m.path, fmt.Sprint("LISTEN_FDS=", len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	// only the process itself can say its number
	p.cmd.Args = append([]string{"/bin/sh", "-c", `export LISTEN_PID=$$; exec "$0"`, p.cmd.Path}, p.cmd.Args[1:]...)
	p.cmd.Path = "/bin/sh"
	return p.start(t)
}

// systemd keeps the session of a daemon that is killed, and the next process
// goes on with it; nothing is left there after a clean end.
func TestIntegrationFDStore(t *testing.T) {
	img, more := makeImage(t, 21), makeImage(t, 22)
	mnt, dir := mountDir(t), t.TempDir()
	m := newManager(t)
	c := childOptions{
		Mountpoint: mnt, CacheDir: filepath.Join(dir, "cache"), Socket: filepath.Join(dir, "api.sock"), FDStore: true,
		Specs: []Spec{img.spec("/a")},
	}
	p := m.start(t, c)
	waitState(t, c.Socket, Running)
	rd := startReaders(t, 2, toRead{mnt + "/a", 21})
	rd.goOn(t)
	client := api.Dial(c.Socket)
	defer client.Close()
	for i := range 3 {
		if i == 1 {
			if err := client.PutMount(t.Context(), "/b", api.MountRequest{Source: more.boot, Type: TypeRAFS, Config: more.config}, false); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "one state and one session are kept", func() error {
			names := m.names()
			slices.Sort(names) // the session's comes first
			if len(names) != 2 || !strings.HasPrefix(names[0], storedSession) || !strings.HasPrefix(names[1], storedState) {
				return fmt.Errorf("kept: %q", names)
			}
			return nil
		})
		p.kill()
		p.wait(t)
		q := m.start(t, c)
		eventually(t, "another daemon runs", func() error {
			now, err := client.Daemon(t.Context())
			if err == nil && (now.PID != q.cmd.Process.Pid || now.State != string(Running)) {
				err = errors.New("not yet")
			}
			return err
		})
		rd.goOn(t)
		p = q
	}
	rd.stop()
	if err := errors.Join(img.check(mnt+"/a"), more.check(mnt+"/b")); err != nil {
		t.Error(err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.wait(t)
	eventually(t, "nothing is kept", func() error {
		if names := m.names(); len(names) != 0 {
			return fmt.Errorf("kept: %q", names)
		}
		return nil
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.Contains(m.states, "READY") || !slices.Contains(m.states, "STOPPING") {
		t.Errorf("what systemd was told: %q", m.states)
	}
}

// A socket that systemd has opened is served, and found among other
// descriptors.
func TestIntegrationActivation(t *testing.T) {
	mnt, dir := mountDir(t), t.TempDir()
	m := newManager(t)
	path := filepath.Join(dir, "api.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	f, err := l.File()
	l.Close()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	m.kept = append(m.kept, keptFD{"sluice.socket", fd})
	c := childOptions{Mountpoint: mnt, CacheDir: filepath.Join(dir, "cache"), FDStore: true}
	p := m.start(t, c)
	waitState(t, path, Running)
	p.kill()
	p.wait(t)
	// whoever connects now waits for the next process
	asked := make(chan error, 1)
	go func() {
		_, err := api.Dial(path).Daemon(context.Background())
		asked <- err
	}()
	q := m.start(t, c)
	if err := <-asked; err != nil {
		t.Errorf("asked while no daemon ran: %v", err)
	}
	want(t, 204, path, "POST", "/v1/daemon/stop", nil)
	q.wait(t)
}

// A session that was kept without a state is ended, and the mount made anew: it
// would let everybody wait who comes near it, the daemon as well.
func TestIntegrationStoredSessionWithoutState(t *testing.T) {
	mnt, dir := mountDir(t), t.TempDir()
	m := newManager(t)
	path := filepath.Join(dir, "api.sock")
	c := childOptions{Mountpoint: mnt, Socket: path, CacheDir: filepath.Join(dir, "cache"), FDStore: true}
	p := m.start(t, c)
	waitState(t, path, Running)
	testenv.Until(t, "the session is kept", func() bool { return m.keeps(storedSession) && m.keeps(storedState) })
	p.kill()
	p.wait(t)
	m.mu.Lock()
	m.kept = slices.DeleteFunc(m.kept, func(k keptFD) bool {
		state := strings.HasPrefix(k.name, storedState)
		if state {
			unix.Close(k.fd)
		}
		return state
	})
	m.mu.Unlock()
	q := m.start(t, c)
	waitState(t, path, Running)
	want(t, 204, path, "POST", "/v1/daemon/stop", nil)
	q.wait(t)
}

// keeps reports whether something is kept under a name that begins with prefix.
func (m *manager) keeps(prefix string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.kept, func(k keptFD) bool { return strings.HasPrefix(k.name, prefix) })
}
