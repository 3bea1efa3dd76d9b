package fuse

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fuse/channel"
	"github.com/sluicefs/sluice/fuse/channel/device"
	"github.com/sluicefs/sluice/fuse/channel/uring"
	"github.com/sluicefs/sluice/internal/sys"
)

// resumeChannel makes the channel that st tells of.
func resumeChannel(st *sessionState, sess *Session, opts *MountOptions) (channel.Channel, error) {
	switch st.Transport {
	case "device":
		return device.Resume(sess.Files, st.Channel, deviceOptions(opts))
	case "io_uring":
		below := func(files []int, desc []byte) (channel.Channel, error) {
			return device.Resume(files, desc, besideRings(deviceOptions(opts)))
		}
		return uring.Resume(sess.Files, st.Channel, below, uring.Options{Depth: opts.RingDepth, Path: st.Path})
	}
	return nil, fmt.Errorf("%w: a session over %q cannot be resumed", errState, st.Transport)
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// Close gives the session up: it closes Files. If nobody else has them the
// kernel ends the session, and its callers get errors.
func (s *Session) Close() error {
	closeAll(s.Files)
	s.Files = nil
	return nil
}

// Duplicate returns a copy that owns descriptors of its own, so that one can
// be kept and one given to Resume.
func (s *Session) Duplicate() (*Session, error) {
	files, err := sys.DuplicateFDs(s.Files...)
	if err != nil {
		return nil, err
	}
	return &Session{State: s.State, Files: files, Crashed: s.Crashed}, nil
}

// The message of a hand-over: version, Crashed, number of descriptors, 4 bytes
// each, and the length of State, 8 bytes, with which the descriptors come;
// then State.
const (
	handoverVersion = 1
	handoverHead    = 20
)

// Send sends the session over a connected unix stream socket, such as a
// *net.UnixConn. The descriptors stay open here too.
func (s *Session) Send(conn syscall.Conn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("send session: %w", err)
	}
	head := binary.LittleEndian.AppendUint32(nil, handoverVersion)
	var crashed uint32
	if s.Crashed {
		crashed = 1
	}
	head = binary.LittleEndian.AppendUint32(head, crashed)
	head = binary.LittleEndian.AppendUint32(head, uint32(len(s.Files)))
	head = binary.LittleEndian.AppendUint64(head, uint64(len(s.State)))
	err = whileBusy(raw.Write, func(fd int) error { return sys.SendFDs(fd, head, s.Files...) })
	for b := s.State; err == nil && len(b) > 0; {
		err = whileBusy(raw.Write, func(fd int) error {
			n, err := unix.SendmsgN(fd, b[:min(len(b), 1<<16)], nil, nil, unix.MSG_NOSIGNAL)
			b = b[max(n, 0):]
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("send session: %w", err)
	}
	return nil
}

// whileBusy calls f with the descriptor until it gives something else than
// EAGAIN or EINTR; wait waits for the descriptor between the calls.
func whileBusy(wait func(func(uintptr) bool) error, f func(fd int) error) error {
	var err error
	werr := wait(func(fd uintptr) bool {
		for {
			if err = f(int(fd)); err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	return errors.Join(werr, err)
}

// ReceiveSession receives what Send sent.
func ReceiveSession(conn syscall.Conn) (*Session, error) {
	s, err := receiveSession(conn)
	if err != nil {
		return nil, fmt.Errorf("receive session: %w", err)
	}
	return s, nil
}

func receiveSession(conn syscall.Conn) (*Session, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	head := make([]byte, handoverHead)
	var n int
	s := new(Session)
	err = whileBusy(raw.Read, func(fd int) (err error) {
		n, s.Files, err = sys.ReceiveFDs(fd, head)
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case n == 0:
		return nil, io.EOF
	}
	le := binary.LittleEndian
	size := le.Uint64(head[12:])
	if n != handoverHead || le.Uint32(head) != handoverVersion || int(le.Uint32(head[8:])) != len(s.Files) || size > maxState {
		closeAll(s.Files)
		return nil, fmt.Errorf("%w: malformed head", errState)
	}
	s.Crashed = le.Uint32(head[4:]) != 0
	s.State = make([]byte, size)
	for b := s.State; len(b) > 0; b = b[n:] {
		err = whileBusy(raw.Read, func(fd int) (err error) {
			n, err = unix.Read(fd, b)
			return err
		})
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			closeAll(s.Files)
			return nil, err
		}
	}
	return s, nil
}
