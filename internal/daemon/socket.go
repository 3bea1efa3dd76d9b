package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"
)

// ErrRunning is what Listen fails with if another daemon has the socket.
var ErrRunning = errors.New("a daemon is running on this socket")

// Listen makes the API's socket, which only this user can connect to. A socket
// that a dead predecessor left is replaced.
func Listen(path string) (*Listener, error) {
	if len(path) > 107 {
		return nil, fmt.Errorf("API socket %s: the path is longer than 107 bytes", path)
	}
	if err := onlySocket(path); err != nil {
		return nil, fmt.Errorf("API socket %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("API socket: %w", err)
	}
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, fmt.Errorf("API socket %s: %w", path, err)
	}
	l, err := listen(path)
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("API socket %s: %w", path, err)
	}
	return &Listener{Listener: ownOnly(l), lock: lock, path: path}, nil
}

// listen replaces a socket that nobody answers on.
func listen(path string) (*net.UnixListener, error) {
	if Alive(path) {
		return nil, ErrRunning
	}
	return bind(path)
}

// onlySocket refuses a path where something is that is not a socket: a file
// or a device that a slip of the hand names is not removed.
func onlySocket(path string) error {
	fi, err := os.Lstat(path)
	if err == nil && fi.Mode()&os.ModeSocket == 0 {
		return errors.New("something that is not a socket is there")
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// bind makes a socket that only this user can connect to, in place of one
// that is there.
func bind(path string) (*net.UnixListener, error) {
	if err := onlySocket(path); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	restore := umask(0o177) // the socket must not be open to others even for a moment
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	restore()
	return l, err
}

// Alive reports whether somebody listens on the socket at path.
func Alive(path string) bool {
	c, err := net.DialTimeout("unix", path, 5*time.Second)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// Stale reports whether a socket is at path that nobody listens on: what a
// daemon that was killed leaves.
func Stale(path string) bool {
	fi, err := os.Lstat(path)
	return err == nil && fi.Mode()&os.ModeSocket != 0 && !Alive(path)
}

// Close closes the socket and removes it.
func (l *Listener) Close() error {
	err := l.Listener.Close()
	if l.lock != nil {
		err = errors.Join(err, os.Remove(l.lock.Name()), l.lock.Close())
	}
	if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// ownListener refuses connections of other users.
type ownListener struct {
	*net.UnixListener
}

func ownOnly(l *net.UnixListener) net.Listener { return &ownListener{l} }

// Accept returns the next connection of this user, or of root.
func (l *ownListener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		uid, err := peerUID(c)
		if err == nil && (uid == 0 || uid == os.Geteuid()) {
			return c, nil
		}
		c.Close()
	}
}
