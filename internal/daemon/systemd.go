package daemon

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// Notify tells systemd what the daemon is doing, in the words of sd_notify(3):
// "READY=1", "RELOADING=1", "STOPPING=1", "WATCHDOG=1", "STATUS=...". Without
// systemd it does nothing.
func Notify(getenv func(string) string, state string) error {
	name := getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	if name[0] == '@' {
		name = "\x00" + name[1:]
	}
	c, err := net.Dial("unixgram", name)
	if err != nil {
		return fmt.Errorf("sd_notify: %w", err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(state)); err != nil {
		return fmt.Errorf("sd_notify: %w", err)
	}
	return nil
}

// Watchdog tells systemd that the daemon is well, twice as often as it wants,
// until ctx ends; well is asked each time, and when it says no the word is not
// sent, so that systemd restarts the daemon.
func Watchdog(ctx context.Context, getenv func(string) string, well func() bool) {
	usec, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || usec <= 0 {
		return
	}
	if pid := getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return
	}
	t := time.NewTicker(time.Duration(usec) * time.Microsecond / 2)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if well() {
				_ = Notify(getenv, "WATCHDOG=1")
			}
		}
	}
}

// Activated returns the socket that systemd has opened for the API, or nil.
func Activated(getenv func(string) string) (*Listener, error) {
	for name, fd := range given(getenv) {
		if strings.HasPrefix(name, "sluice-") {
			continue // of the file descriptor store
		}
		f := os.NewFile(uintptr(fd), "socket of systemd")
		l, err := net.FileListener(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("socket of systemd: %w", err)
		}
		u, ok := l.(*net.UnixListener)
		if !ok {
			l.Close()
			return nil, fmt.Errorf("socket of systemd: not a unix socket")
		}
		u.SetUnlinkOnClose(false)
		return &Listener{Listener: ownOnly(u)}, nil
	}
	return nil, nil
}
