package fuse_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/fuse/wire"
	"github.com/sluicefs/sluice/internal/testenv"
)

// The tests of this file run servers in processes of their own: the test
// binary again, with what it is to do in the environment and a unix socket as
// descriptor 3.
const childEnv = "SLUICE_FUSE_TEST_CHILD"

func TestMain(m *testing.M) {
	if what := os.Getenv(childEnv); what != "" {
		if err := child(what); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// directFS is a memFS of known content whose reads all come to the server.
type directFS struct{ *memFS }

func newDirectFS() directFS {
	m := newMemFS()
	m.data = make([]byte, 8192)
	for i := range m.data {
		m.data[i] = byte(i * 7)
	}
	return directFS{m}
}

func (d directFS) Open(_ <-chan struct{}, _ *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_DIRECT_IO
	return fuse.OK
}

// child serves a session: "mount TRANSPORT DIR" begins it and sends a snapshot
// to the parent, "resume" receives one. Then it waits for a command: 'd'
// detaches and sends the session; the end of the socket ends it. "load DIR"
// uses a mount.
func child(what string) error {
	if path, ok := strings.CutPrefix(what, "lock "); ok {
		return locker(path)
	}
	if strings.HasPrefix(what, "read ") {
		return readers(what)
	}
	f := os.NewFile(3, "parent")
	c, err := net.FileConn(f)
	if err != nil {
		return err
	}
	f.Close()
	conn := c.(*net.UnixConn)
	if dir, ok := strings.CutPrefix(what, "load "); ok {
		return serveLoad(dir, conn)
	}
	s, err := childServer(what, conn)
	if err != nil {
		return err
	}
	go s.Serve()
	if err := s.WaitMount(); err != nil {
		return err
	}
	sess, err := s.Snapshot()
	if err != nil {
		return err
	}
	if err := errors.Join(sess.Send(conn), sess.Close()); err != nil {
		return err
	}
	var cmd [1]byte
	if _, err := io.ReadFull(conn, cmd[:]); err != nil || cmd[0] != 'd' {
		return err
	}
	ctx, stop := context.WithTimeout(context.Background(), watchdog)
	defer stop()
	if sess, err = s.Detach(ctx); err != nil {
		return err
	}
	return sess.Send(conn)
}

func childServer(what string, conn *net.UnixConn) (*fuse.Server, error) {
	var transport, dir string
	what, stuck := strings.CutPrefix(what, "stuck ")
	what, mute := strings.CutPrefix(what, "mute ")
	if n, _ := fmt.Sscanf(what, "mount %s %s", &transport, &dir); n == 2 {
		fs := newDirectFS()
		if stuck {
			fs.hook = stickInReads(conn)
		}
		o := &fuse.MountOptions{Transport: fuse.Transport(transport)}
		if transport == "clones" {
			o = &fuse.MountOptions{Transport: fuse.TransportDevice, CloneFd: true, Readers: 3}
		}
		if mute {
			o.Debug, o.Logger = true, log.New(stickAtPoll{conn}, "", 0)
		}
		return fuse.NewServer(fs, dir, o)
	}
	sess, err := fuse.ReceiveSession(conn)
	if err != nil {
		return nil, err
	}
	return fuse.Resume(newDirectFS(), sess, nil)
}

// stickInReads makes each READ report to the parent and never end.
func stickInReads(conn io.Writer) func(*fuse.InHeader, <-chan struct{}) fuse.Status {
	return func(h *fuse.InHeader, _ <-chan struct{}) fuse.Status {
		if wire.Opcode(h.Opcode) != wire.OpRead {
			return fuse.OK
		}
		if _, err := conn.Write([]byte("r")); err != nil {
			return fuse.EIO
		}
		select {}
	}
}

// process is a running child.
type process struct {
	cmd  *exec.Cmd
	conn *net.UnixConn
}

func startChild(t *testing.T, what string) *process {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer ours.Close()
	defer theirs.Close()
	c, err := net.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(os.Args[0]), conn: c.(*net.UnixConn)}
	p.cmd.Env = append(os.Environ(), childEnv+"="+what)
	p.cmd.ExtraFiles = []*os.File{theirs}
	p.cmd.Stderr = os.Stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = p.conn.SetDeadline(time.Now().Add(2 * watchdog))
	return p
}

// kill ends the child at once, if it has not ended.
func (p *process) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
	p.conn.Close()
}

// receive returns the session that the child sends.
func (p *process) receive(t *testing.T) *fuse.Session {
	t.Helper()
	s, err := fuse.ReceiveSession(p.conn)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// load are callers that use a mount all the time. They run in a process of
// their own: one that holds a session's descriptors must never wait for it,
// not even in the FLUSH of a file that a fork copied.
type load struct {
	dir   string
	stop  atomic.Bool
	calls atomic.Int64
	wg    sync.WaitGroup
	mu    sync.Mutex
	errs  []string
}

// loadReport is what a process of callers says when it is asked.
type loadReport struct {
	Calls  int64
	Errors []string
}

// serveLoad runs callers on dir until the parent says 'e'; it reports at each
// command.
func serveLoad(dir string, conn io.ReadWriter) error {
	l := &load{dir: dir}
	for i := range 4 {
		l.wg.Go(func() { l.run(i) })
	}
	enc := json.NewEncoder(conn)
	for {
		var cmd [1]byte
		if _, err := io.ReadFull(conn, cmd[:]); err != nil {
			return err
		}
		if cmd[0] == 'e' {
			l.stop.Store(true)
			l.wg.Wait()
		}
		l.mu.Lock()
		r := loadReport{l.calls.Load(), l.errs}
		l.mu.Unlock()
		if err := enc.Encode(r); err != nil || cmd[0] == 'e' {
			return err
		}
	}
}

func (l *load) run(i int) {
	want := newDirectFS().data
	for n := i; !l.stop.Load(); n++ {
		path := fmt.Sprintf("%s/%d", l.dir, n%10)
		err := statFile(path)
		if n%3 == 0 {
			err = readFile(path, want)
		}
		if err != nil {
			l.mu.Lock()
			l.errs = append(l.errs, err.Error())
			l.mu.Unlock()
			if errors.Is(err, unix.ENOTCONN) {
				return // it will not get better
			}
		}
		l.calls.Add(1)
	}
}

// statFile and readFile use plain system calls: what they open must not get
// into the runtime's poller.
func statFile(path string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return fmt.Errorf("lstat: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("lstat: mode %o", st.Mode)
	}
	return nil
}

func readFile(path string, want []byte) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer unix.Close(fd)
	buf := make([]byte, len(want))
	n, err := unix.Read(fd, buf)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if !bytes.Equal(buf[:n], want) {
		return fmt.Errorf("read: wrong content in %d bytes", n)
	}
	return nil
}

// cluster is a mount, its callers, the server of the moment and what a
// supervisor keeps: the test.
type cluster struct {
	server, load *process
	dec          *json.Decoder
	kept         *fuse.Session
}

func newCluster(t *testing.T, transport, dir string) *cluster {
	t.Helper()
	c := &cluster{}
	t.Cleanup(func() { c.end(dir) })
	c.server = startChild(t, "mount "+transport+" "+dir)
	c.kept = c.server.receive(t)
	c.load = startChild(t, "load "+dir)
	c.dec = json.NewDecoder(c.load.conn)
	return c
}

// end ends all processes. Without descriptors and servers nobody can hang: the
// kernel ends the session. So they go before the callers are waited for.
func (c *cluster) end(dir string) {
	if c.kept != nil {
		_ = c.kept.Close()
	}
	if c.server != nil {
		c.server.kill()
	}
	if c.load != nil {
		c.load.kill()
	}
	_ = unix.Unmount(dir, unix.MNT_DETACH)
}

func (c *cluster) report(t *testing.T, cmd string) (r loadReport) {
	t.Helper()
	if _, err := c.load.conn.Write([]byte(cmd)); err != nil {
		t.Fatal(err)
	}
	if err := c.dec.Decode(&r); err != nil {
		t.Fatal(err)
	}
	return r
}

// settle waits until the callers have made progress: the server works.
func (c *cluster) settle(t *testing.T) {
	t.Helper()
	goal := c.report(t, "p").Calls + 50
	eventually(t, "progress of the callers", func() bool { return c.report(t, "p").Calls >= goal })
}

// takeover runs a session through n servers after the first, each of which
// gets it from next, under load.
func takeover(t *testing.T, transport string, n int, next func(*testing.T, *cluster) *fuse.Session) loadReport {
	t.Helper()
	testenv.MountFUSE(t)
	dir := t.TempDir()
	c := newCluster(t, transport, dir)
	c.settle(t)
	for range n {
		sess := next(t, c)
		c.server = startChild(t, "resume")
		if err := errors.Join(sess.Send(c.server.conn), sess.Close()); err != nil {
			t.Fatal(err)
		}
		fresh := c.server.receive(t)
		_ = c.kept.Close()
		c.kept = fresh
		c.settle(t)
	}
	r := c.report(t, "e")
	if err := c.load.cmd.Wait(); err != nil {
		t.Errorf("callers: %v", err)
	}
	eventually(t, "unmounting", func() bool { return unix.Unmount(dir, 0) == nil })
	t.Logf("%d calls, %d errors", r.Calls, len(r.Errors))
	return r
}

func handOver(t *testing.T, c *cluster) *fuse.Session {
	p := c.server
	if _, err := p.conn.Write([]byte("d")); err != nil {
		t.Fatal(err)
	}
	sess := p.receive(t)
	if sess.Crashed {
		t.Error("not all requests were answered before the hand-over")
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("the predecessor ended with %v", err)
	}
	p.conn.Close()
	return sess
}

func crash(t *testing.T, c *cluster) *fuse.Session {
	c.server.kill()
	sess, err := c.kept.Duplicate()
	if err != nil {
		t.Fatal(err)
	}
	sess.Crashed = true
	return sess
}

// rounds is how many servers follow each other in a test.
func rounds() int {
	if testing.Short() {
		return 4
	}
	return 20
}

func TestIntegrationHandOver(t *testing.T) {
	for _, err := range takeover(t, string(fuse.TransportDevice), rounds(), handOver).Errors {
		t.Error(err)
	}
}

func TestIntegrationCrash(t *testing.T) {
	for _, err := range takeover(t, string(fuse.TransportDevice), rounds(), crash).Errors {
		t.Error(err)
	}
}

// Requests that were read from clones of the device survive as well.
func TestIntegrationCrashClones(t *testing.T) {
	for _, next := range []func(*testing.T, *cluster) *fuse.Session{crash, handOver} {
		for _, err := range takeover(t, "clones", 4, next).Errors {
			t.Error(err)
		}
	}
}

func TestIntegrationRingHandOver(t *testing.T) {
	testenv.URing(t)
	for _, err := range takeover(t, string(fuse.TransportURing), rounds(), handOver).Errors {
		t.Error(err)
	}
}

// TestIntegrationRingCrash kills servers that own their rings. A request that
// the kernel had given to an entry of the dying process, and that was not
// copied yet, fails with ECANCELED: nobody can help it. Nothing else may fail.
func TestIntegrationRingCrash(t *testing.T) {
	testenv.URing(t)
	n := rounds()
	lost := 0
	for _, err := range takeover(t, string(fuse.TransportURing), n, crash).Errors {
		if !strings.HasSuffix(err, unix.ECANCELED.Error()) {
			t.Error(err)
			continue
		}
		lost++
	}
	t.Logf("%d kills, %d calls cancelled by the kernel", n, lost)
	if lost > 16*n { // each entry of two queues, each time
		t.Errorf("%d calls were cancelled by %d kills", lost, n)
	}
}

// TestIntegrationCrashInHandlers kills a server whose handlers have requests:
// the next one serves them, and the callers see nothing of it.
func TestIntegrationCrashInHandlers(t *testing.T) {
	transports(t, func(t *testing.T, o *fuse.MountOptions) {
		testenv.MountFUSE(t)
		dir := t.TempDir()
		const n = 20
		c := &cluster{}
		t.Cleanup(func() { c.end(dir) })
		c.server = startChild(t, fmt.Sprintf("stuck mount %s %s", o.Transport, dir))
		c.kept = c.server.receive(t)
		c.load = startChild(t, fmt.Sprintf("read %s %d", dir, n))
		if _, err := io.ReadFull(c.server.conn, make([]byte, n)); err != nil {
			t.Fatalf("READs in handlers: %v", err)
		}
		sess := crash(t, c)
		c.server = startChild(t, "resume")
		if err := errors.Join(sess.Send(c.server.conn), sess.Close()); err != nil {
			t.Fatal(err)
		}
		fresh := c.server.receive(t)
		_ = c.kept.Close()
		c.kept = fresh
		if err := c.load.cmd.Wait(); err != nil {
			t.Errorf("callers: %v", err)
		}
		// The last server may have left requests of its own; see uring.
		eventually(t, "unmounting", func() bool { return unix.Unmount(dir, 0) == nil })
	})
}

func TestSessionState(t *testing.T) {
	sess := fuse.Session{}
	for _, bad := range []string{"", "SLUICEFS", "SLUICEFS\x01\x00\x00\x00\x02\x00\x00\x00{}\x00\x00\x00\x00", string(make([]byte, 100))} {
		sess.State = []byte(bad)
		if _, err := fuse.Resume(newMemFS(), &sess, nil); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

var _ syscall.Conn = (*net.UnixConn)(nil)

// A file system that shares a session cannot hand it over.
func TestIntegrationViewDoesNotDetach(t *testing.T) {
	s, dir := mounted(t, newDirectFS(), &fuse.MountOptions{Transport: fuse.TransportDevice})
	if _, err := s.View(sameNodes{}).Detach(ctxFor(t)); err == nil {
		t.Error("detach by a view: got no error")
	}
	stat(t, dir+"/1")
}

type sameNodes struct{}

func (sameNodes) Node(inner uint64) uint64 { return inner }

func (sameNodes) Answered(*fuse.InHeader, *fuse.EntryOut, *fuse.Attr) {}
