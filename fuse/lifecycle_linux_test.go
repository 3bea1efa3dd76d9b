package fuse_test

import (
	"context"
	"errors"
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

// A program may be given one processor by its environment, or by a container's
// limit. The tests that need several things at once pass there too.
func TestIntegrationGOMAXPROCS1(t *testing.T) {
	testenv.MountFUSE(t)
	ctx, stop := context.WithTimeout(t.Context(), 2*watchdog)
	defer stop()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.short",
		"-test.run=^TestIntegration(Serve|BlockedHandlers|Interrupt|UnmountBusy|Abort|Notify|StoreRetrieve|Poll|Locks|Operations|Deadline)$")
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

// Everything that ends a session may be called at any time, by several at
// once, and again.
func TestIntegrationEndRaces(t *testing.T) {
	transports(t, func(t *testing.T, o *fuse.MountOptions) {
		for range 5 {
			fs := newDirectFS()
			s, dir := mounted(t, fs, o)
			var stop atomic.Bool
			var wg sync.WaitGroup
			wg.Go(func() { // notifications
				for !stop.Load() {
					s.Notifier().Inode(3, 0, 0)
					s.InodeNotify(4, -1, 0)
					s.EntryNotify(1, "5")
				}
			})
			wg.Go(func() { // callers
				for !stop.Load() {
					_ = statFile(dir + "/1")
				}
			})
			wg.Go(func() { // a second Serve waits for the end
				s.Serve()
			})
			eventually(t, "a request", func() bool { return s.Latency("LOOKUP").Count > 0 })
			var ends sync.WaitGroup
			for _, end := range []func() error{s.Unmount, s.Unmount, func() error {
				ctx, stop := context.WithTimeout(context.Background(), watchdog)
				defer stop()
				return s.Shutdown(ctx)
			}} {
				ends.Go(func() {
					if err := end(); err != nil && !errors.Is(err, syscall.EBUSY) {
						t.Error(err)
					}
				})
			}
			ends.Wait()
			stop.Store(true)
			wg.Wait()
			s.Wait()
			if st := s.InodeNotify(4, -1, 0); st == fuse.OK {
				t.Error("a notification after the end was accepted")
			}
			if _, err := s.Snapshot(); err == nil {
				t.Error("a session that is over was handed over")
			}
			if err := errors.Join(s.Unmount(), s.Abort()); err != nil {
				t.Errorf("after the end: %v", err)
			}
			if fs.unmounts != 1 {
				t.Errorf("OnUnmount was called %d times", fs.unmounts)
			}
		}
	})
}

// A server that never served can be unmounted, and its callers are let go.
func TestIntegrationNeverServed(t *testing.T) {
	testenv.MountFUSE(t)
	dir := t.TempDir()
	s, err := fuse.NewServer(newDirectFS(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	for range 2 {
		if err := s.Unmount(); err != nil {
			t.Errorf("unmount: %v", err)
		}
	}
}

// Programs that a server starts do not get its descriptors: with one of them
// a session would outlive its server, and its callers would wait for good.
func TestIntegrationCloseOnExec(t *testing.T) {
	transports(t, func(t *testing.T, o *fuse.MountOptions) {
		o.CloneFd, o.Readers = true, 2
		s, dir := mounted(t, newDirectFS(), o)
		stat(t, dir+"/1")
		sess, err := s.Snapshot() // makes what a hand-over needs
		if err != nil {
			t.Fatal(err)
		}
		defer sess.Close()
		out, err := run(t, `ls -l /proc/$$/fd`)
		if err != nil {
			t.Fatal(err)
		}
		for _, what := range []string{"/dev/fuse", "io_uring", "memfd", "eventfd"} {
			if strings.Contains(out, what) {
				t.Errorf("a child has %s:\n%s", what, out)
			}
		}
	})
}

// The kernel ends a session whose request stays unanswered, if it was asked to.
// It looks every 15 seconds.
func TestIntegrationRequestTimeout(t *testing.T) {
	testenv.Long(t)
	transports(t, func(t *testing.T, o *fuse.MountOptions) {
		fs := newDirectFS()
		fs.hook = func(h *fuse.InHeader, cancel <-chan struct{}) fuse.Status {
			if wire.Opcode(h.Opcode) == wire.OpRead {
				<-cancel
				return fuse.EINTR
			}
			return fuse.OK
		}
		o.RequestTimeout = time.Second
		s, dir := mounted(t, fs, o)
		if s.Transport().Flags&fuse.CAP_REQUEST_TIMEOUT == 0 {
			testenv.Missing(t, "time-outs of requests", "the kernel does not offer them (Linux 6.15)")
		}
		p := startReaders(t, dir, 1)
		if err := waitFor(t, p); err == nil {
			t.Error("a read that nobody answers succeeded")
		}
		s.Wait()
	})
}
