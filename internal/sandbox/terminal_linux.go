package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// terminalFD is the socket on which Init sends the other side of the
// command's terminal.
const terminalFD = 5

// openTerminal makes a terminal among the root's own, so that programs find
// its name, gives it to the user, sends its other side to Run, and returns
// the descriptor of the command's side.
func openTerminal(uid uint32) (int, error) {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open /dev/ptmx: %w", err)
	}
	defer unix.Close(master)
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return -1, err
	}
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return -1, errno
	}
	slave := int(n)
	_ = unix.Fchown(slave, int(uid), -1)
	err = unix.Sendmsg(terminalFD, []byte{0}, unix.UnixRights(master), nil, 0)
	unix.Close(terminalFD)
	if err != nil {
		unix.Close(slave)
		return -1, fmt.Errorf("hand over: %w", err)
	}
	return slave, nil
}

// IsTerminal reports whether f is a terminal.
func IsTerminal(f *os.File) bool {
	if f == nil {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// console joins the terminal that this process has with that of a command.
type console struct {
	in      *os.File
	restore func()   // makes ours as it was
	socket  *os.File // our end; the other is the child's
	child   *os.File
	done    chan struct{} // all output has come
}

func newConsole(in *os.File) (*console, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	restore, err := rawTerminal(in) // the command's knows what keys mean
	if err != nil {
		return nil, errors.Join(err, unix.Close(fds[0]), unix.Close(fds[1]))
	}
	return &console{
		in: in, restore: restore, done: make(chan struct{}),
		socket: os.NewFile(uintptr(fds[0]), "terminal"), child: os.NewFile(uintptr(fds[1]), "terminal"),
	}, nil
}

// serve waits for the command's terminal and copies until it is closed by all
// who have it. It returns at once if the child ended before it sent one.
func (c *console) serve(out io.Writer) {
	defer close(c.done)
	master, err := c.receive()
	if err != nil {
		return
	}
	defer master.Close()
	stop := c.follow(master)
	defer stop()
	go func() { _, _ = io.Copy(master, c.in) }() // ends with the process: a terminal cannot be told to stop
	_, _ = io.Copy(out, master)                  // ends with EIO, when nobody has the other side
}

// receive takes the descriptor that openTerminal sends.
func (c *console) receive() (*os.File, error) {
	var b [1]byte
	oob := make([]byte, unix.CmsgSpace(4))
	for {
		_, n, _, _, err := unix.Recvmsg(int(c.socket.Fd()), b[:], oob, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		messages, err := unix.ParseSocketControlMessage(oob[:n])
		if err != nil || len(messages) != 1 {
			return nil, errors.Join(err, errors.New("no terminal"))
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil || len(fds) != 1 {
			return nil, errors.Join(err, errors.New("no terminal"))
		}
		return os.NewFile(uintptr(fds[0]), "command's terminal"), nil
	}
}

// follow gives the command's terminal the size of ours, now and whenever that
// changes.
func (c *console) follow(master *os.File) (stop func()) {
	resize := func() {
		if size, err := unix.IoctlGetWinsize(int(c.in.Fd()), unix.TIOCGWINSZ); err == nil {
			_ = unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, size)
		}
	}
	resize()
	changes := make(chan os.Signal, 1)
	signal.Notify(changes, syscall.SIGWINCH)
	var wg sync.WaitGroup
	wg.Go(func() {
		for range changes {
			resize()
		}
	})
	return func() {
		signal.Stop(changes)
		close(changes)
		wg.Wait()
	}
}

// rawTerminal lets every key of the terminal f come to who reads from it, as
// it is and at once. The terminal is as before when restore has been called.
func rawTerminal(f *os.File) (restore func(), err error) {
	t, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	saved := *t
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, t); err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	return func() { _ = unix.IoctlSetTermios(int(f.Fd()), unix.TCSETSW, &saved) }, nil
}

// close waits until all output has come, within a bound: something that was
// left behind may keep the terminal. Then it makes ours as it was.
func (c *console) close() {
	c.child.Close()
	select {
	case <-c.done:
	case <-time.After(outputDelay):
	}
	c.socket.Close()
	c.restore()
}
