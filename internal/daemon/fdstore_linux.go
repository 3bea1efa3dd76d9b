package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// An fdStore keeps what a successor needs in systemd's file descriptor store
// (sd_pid_notify_with_fds(3)): the descriptors of the session, and the state in
// a memfd. systemd hands them to the next process of the unit, after kill -9
// too.
type fdStore struct {
	getenv func(string) string
	name   string // of the state that is kept, "" before the first
	files  int    // descriptors of the session that are kept
}

// Names of what is kept. That of a state ends with a number that grows.
const (
	storedState   = "sluice-state-"
	storedSession = "sluice-session-"
)

// send sends one message, with descriptors.
func (s *fdStore) send(text string, fds ...int) error {
	name := s.getenv("NOTIFY_SOCKET")
	if name == "" {
		return errors.New("fd store: no NOTIFY_SOCKET: not started by systemd")
	}
	if name[0] == '@' {
		name = "\x00" + name[1:]
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("fd store: %w", err)
	}
	defer c.Close()
	// x/net has no such call: the socket is connected, so there is no address
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("fd store: %w", err)
	}
	var serr error
	err = raw.Write(func(fd uintptr) bool {
		serr = unix.Sendmsg(int(fd), []byte(text), unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL)
		return serr != unix.EAGAIN
	})
	if err = errors.Join(err, serr); err != nil {
		return fmt.Errorf("fd store: %w", err)
	}
	return nil
}

// keep replaces what is kept.
func (s *fdStore) keep(state []byte, files []int) error {
	fd, err := unix.MemfdCreate("sluice-state", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("fd store: %w", err)
	}
	f := os.NewFile(uintptr(fd), "state")
	defer f.Close()
	if _, err := f.Write(state); err != nil {
		return fmt.Errorf("fd store: %w", err)
	}
	// The state comes first: a process that is killed between the two leaves a
	// session that nobody holds, which ends, and not one that nobody can serve.
	name := storedState + strconv.FormatInt(time.Now().UnixNano(), 10)
	if err := s.send("FDSTORE=1\nFDPOLL=0\nFDNAME="+name, fd); err != nil {
		return err
	}
	for i, file := range files { // the same again is dropped by systemd
		if err := s.send("FDSTORE=1\nFDPOLL=0\nFDNAME="+storedSession+strconv.Itoa(i), file); err != nil {
			return err
		}
	}
	s.files = len(files)
	old := s.name
	s.name = name
	if old == "" {
		return nil
	}
	return s.send("FDSTOREREMOVE=1\nFDNAME=" + old)
}

// clear has systemd close what it keeps.
func (s *fdStore) clear() error {
	var errs []error
	if s.name != "" {
		errs = append(errs, s.send("FDSTOREREMOVE=1\nFDNAME="+s.name))
	}
	for i := range s.files {
		errs = append(errs, s.send("FDSTOREREMOVE=1\nFDNAME="+storedSession+strconv.Itoa(i)))
	}
	s.name, s.files = "", 0
	return errors.Join(errs...)
}

// given are the descriptors that systemd started this process with, by name.
func given(getenv func(string) string) map[string]int {
	n, err := strconv.Atoi(getenv("LISTEN_FDS"))
	if getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) || err != nil || n < 1 || n > 1024 {
		return nil
	}
	const first = 3 // SD_LISTEN_FDS_START
	names := strings.Split(getenv("LISTEN_FDNAMES"), ":")
	all := map[string]int{}
	for i := range n {
		name := "socket"
		if i < len(names) && names[i] != "" {
			name = names[i]
		}
		all[name] = first + i
	}
	return all
}

// stored returns what a predecessor had kept: the newest state that is whole,
// and the descriptors of the session. All other descriptors of it are closed.
func (s *fdStore) stored() (state []byte, files []int) {
	newest := int64(-1)
	fds := given(s.getenv)
	for name, fd := range fds {
		text, ok := strings.CutPrefix(name, storedState)
		if !ok {
			continue
		}
		at, err := strconv.ParseInt(text, 10, 64)
		b, rerr := readStored(fd)
		if err != nil || rerr != nil || at <= newest {
			continue
		}
		if _, err := decodeState(b); err == nil {
			newest, state, s.name = at, b, name
		}
	}
	for i := 0; ; i++ {
		fd, ok := fds[storedSession+strconv.Itoa(i)]
		if !ok {
			break
		}
		unix.CloseOnExec(fd)
		files = append(files, fd)
	}
	s.files = len(files)
	return state, files
}

// readStored reads a state and closes its descriptor.
func readStored(fd int) ([]byte, error) {
	f := os.NewFile(uintptr(fd), "stored state")
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if fi.Size() > maxState {
		return nil, fmt.Errorf("%d bytes", fi.Size())
	}
	b := make([]byte, fi.Size())
	_, err = f.ReadAt(b, 0)
	return b, err
}
