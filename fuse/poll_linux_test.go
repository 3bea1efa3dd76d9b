package fuse_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/testenv"
)

// stickAtPoll is where the lines of a server's log go. The one that tells of a
// POLL is reported to the parent and never ends, so the answer is not given.
type stickAtPoll struct{ parent io.Writer }

func (s stickAtPoll) Write(line []byte) (int, error) {
	if bytes.HasPrefix(line, []byte("rx ")) && bytes.Contains(line, []byte("POLL")) {
		if _, err := s.parent.Write([]byte("p")); err != nil {
			return 0, err
		}
		select {}
	}
	return len(line), nil
}

// A server that is killed while the kernel waits for its answer to the first
// POLL ends, and the session with it.
func TestIntegrationKilledInFirstPoll(t *testing.T) {
	testenv.MountFUSE(t)
	for _, transport := range []fuse.Transport{fuse.TransportDevice, fuse.TransportURing} {
		t.Run(string(transport), func(t *testing.T) {
			if transport == fuse.TransportURing {
				testenv.URing(t)
			}
			dir := t.TempDir()
			t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
			server := startChild(t, fmt.Sprintf("mute mount %s %s", transport, dir))
			var b [1]byte
			_, err := io.ReadFull(server.conn, b[:])
			ended := make(chan struct{})
			go func() {
				server.kill()
				close(ended)
			}()
			select {
			case <-ended:
			case <-time.After(watchdog):
				abortAt(dir)
				t.Fatal("the killed server does not end")
			}
			if err != nil {
				t.Fatal(err)
			}
			// Rings are taken down, and the process that polled ends, behind
			// our back.
			testenv.Until(t, "the end of the session", func() bool {
				var st unix.Statfs_t
				return errors.Is(unix.Statfs(dir, &st), unix.ENOTCONN)
			})
			testenv.Until(t, "an unmount", func() bool { return unix.Unmount(dir, 0) == nil })
		})
	}
}

// abortAt ends the session that is mounted at dir, and nobody answers.
func abortAt(dir string) {
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if _, minor, ok := strings.Cut(f[2], ":"); ok && f[4] == dir {
			_ = os.WriteFile("/sys/fs/fuse/connections/"+minor+"/abort", []byte("1"), 0)
		}
	}
}
