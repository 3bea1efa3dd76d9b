package sys

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// maxFDs is the most descriptors that one message may carry: SCM_MAX_FD.
const maxFDs = 253

// SendFDs sends msg (at least one byte) and fds over the unix socket sock. The
// descriptors stay open here too.
func SendFDs(sock int, msg []byte, fds ...int) error {
	if len(msg) == 0 || len(fds) > maxFDs {
		return fmt.Errorf("send %d descriptors with %d bytes: %w", len(fds), len(msg), unix.EINVAL)
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	for {
		err := unix.Sendmsg(sock, msg, oob, nil, unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return err
		}
	}
}

// ReceiveFDs receives one message into msg, and the descriptors that came
// with it, close-on-exec. n is 0 when the other side is gone. Descriptors of a
// message that was cut are closed.
func ReceiveFDs(sock int, msg []byte) (n int, fds []int, err error) {
	oob := make([]byte, unix.CmsgSpace(maxFDs*4))
	var oobn, flags int
	for {
		n, oobn, flags, _, err = unix.Recvmsg(sock, msg, oob, unix.MSG_CMSG_CLOEXEC)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return 0, nil, err
	}
	ctl, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return 0, nil, err
	}
	for i := range ctl {
		got, err := unix.ParseUnixRights(&ctl[i])
		if err != nil {
			continue // credentials and the like
		}
		fds = append(fds, got...)
	}
	if flags&(unix.MSG_CTRUNC|unix.MSG_TRUNC) != 0 {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return 0, nil, fmt.Errorf("receive descriptors: message of more than %d bytes: %w", len(msg), unix.EMSGSIZE)
	}
	return n, fds, nil
}

// DuplicateFDs returns copies of fds, close-on-exec, or none at all.
func DuplicateFDs(fds ...int) ([]int, error) {
	var dup []int
	for _, fd := range fds {
		n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			for _, fd := range dup {
				unix.Close(fd)
			}
			return nil, fmt.Errorf("duplicate descriptor %d: %w", fd, err)
		}
		dup = append(dup, n)
	}
	return dup, nil
}
