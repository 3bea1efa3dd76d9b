package daemon

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/vfs"
)

// The state that goes to a supervisor: magic, version and length, then JSON,
// then a checksum (CRC-32C) of all before it. Numbers are little-endian.
const (
	stateMagic   = "SLUICEDM"
	stateVersion = 1
	stateHead    = len(stateMagic) + 8
	maxState     = 256 << 20
)

// savedState is what a successor needs: what is mounted where, and the
// session with the kernel.
type savedState struct {
	Mountpoint string `json:"mountpoint"`
	OpenLess   bool   `json:"open_less"`
	Specs      []Spec `json:"specs"`
	Leaving    []left `json:"leaving,omitempty"`
	Stored     string `json:"stored,omitempty"` // what the state is called in systemd's store
	Session    []byte `json:"session"`
}

// left is something that was unmounted lazily and is still in use.
type left struct {
	Slot uint64 `json:"slot"` // in the union
	Spec Spec   `json:"spec"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (s *savedState) encode() ([]byte, error) {
	body, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	b := append([]byte(nil), stateMagic...)
	b = binary.LittleEndian.AppendUint32(b, stateVersion)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(body)))
	b = append(b, body...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), nil
}

func decodeState(b []byte) (*savedState, error) {
	if len(b) < stateHead+4 || string(b[:len(stateMagic)]) != stateMagic {
		return nil, errors.New("saved state: not of this program")
	}
	le := binary.LittleEndian
	if v := le.Uint32(b[8:]); v != stateVersion {
		return nil, fmt.Errorf("saved state: version %d, this program reads %d", v, stateVersion)
	}
	end := len(b) - 4
	if n := le.Uint32(b[12:]); uint64(n) != uint64(end-stateHead) {
		return nil, fmt.Errorf("saved state: %d bytes, %d announced", end-stateHead, n)
	}
	if crc32.Checksum(b[:end], castagnoli) != le.Uint32(b[end:]) {
		return nil, errors.New("saved state: checksum is wrong")
	}
	s := new(savedState)
	if err := json.Unmarshal(b[stateHead:end], s); err != nil {
		return nil, fmt.Errorf("saved state: %w", err)
	}
	return s, nil
}

// supervisorTimeout bounds one exchange with the supervisor.
const supervisorTimeout = 30 * time.Second

func (d *Daemon) dialSupervisor(ctx context.Context) (*net.UnixConn, error) {
	if d.opts.Supervisor == "" {
		return nil, errors.New("no supervisor: the daemon was started without its socket")
	}
	dialer := net.Dialer{Timeout: supervisorTimeout}
	c, err := dialer.DialContext(ctx, "unix", d.opts.Supervisor)
	if err != nil {
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	if err := c.SetDeadline(time.Now().Add(supervisorTimeout)); err != nil {
		c.Close()
		return nil, err
	}
	return c.(*net.UnixConn), nil
}

// SendState gives the supervisor what a successor needs, and the descriptor
// of the session, which keeps the kernel's side alive if this process dies.
func (d *Daemon) SendState(ctx context.Context) error {
	conn, err := d.dialSupervisor(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := d.sendTo(conn); err != nil {
		return err
	}
	d.mu.Lock()
	d.handed = true
	d.mu.Unlock()
	return nil
}

// sendWithFD writes b to conn, the descriptors with its first bytes.
func sendWithFD(conn *net.UnixConn, b []byte, fds []int) error {
	n, _, err := conn.WriteMsgUnix(b, unix.UnixRights(fds...), nil)
	for err == nil && n < len(b) {
		var m int
		m, err = conn.Write(b[n:])
		n += m
	}
	return err
}

// receiveWithFD reads what sendWithFD wrote, until the other side closes.
func receiveWithFD(conn *net.UnixConn) (b []byte, fds []int, err error) {
	buf, oob := make([]byte, 256<<10), make([]byte, unix.CmsgSpace(64*4))
	for err == nil {
		var n, m int
		n, m, _, _, err = conn.ReadMsgUnix(buf, oob)
		if m > 0 {
			fds = append(fds, rights(oob[:m])...)
		}
		b = append(b, buf[:n]...)
		if n == 0 && err == nil {
			err = io.EOF
		}
		if len(b) > maxState {
			err = fmt.Errorf("more than %d bytes", maxState)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b, fds, err
}

// rights returns the descriptors in a control message.
func rights(oob []byte) (fds []int) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range messages {
		if got, err := unix.ParseUnixRights(&messages[i]); err == nil {
			fds = append(fds, got...)
		}
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	return fds
}

// TakeOver fetches from the supervisor what a predecessor sent, and mounts the
// same again: INIT to READY. Serving begins with Start, by when the
// predecessor must have ended.
func (d *Daemon) TakeOver(ctx context.Context, cause string) error {
	return d.takeOver(ctx, cause, func() ([]byte, []int, error) {
		conn, err := d.dialSupervisor(ctx)
		if err != nil {
			return nil, nil, err
		}
		defer conn.Close()
		return receiveWithFD(conn)
	})
}

// takeOver is TakeOver with what fetch fetches.
func (d *Daemon) takeOver(ctx context.Context, cause string, fetch func() ([]byte, []int, error)) error {
	return d.machine.do(evTakeOver, cause, func() error {
		b, fds, err := fetch()
		session := &fuse.Session{Files: fds, Crashed: d.opts.Resend}
		if err == nil {
			err = d.adopt(ctx, b, session, true)
		}
		if err != nil {
			session.Close()
			return fmt.Errorf("take over: %w", err)
		}
		d.mu.Lock()
		d.session, d.handed = session, true
		d.mu.Unlock()
		return nil
	})
}

// adopt mounts what a predecessor sent; last says that its session comes with
// it.
func (d *Daemon) adopt(ctx context.Context, b []byte, session *fuse.Session, last bool) error {
	if len(session.Files) == 0 {
		return errors.New("the supervisor sent no descriptor")
	}
	saved, err := decodeState(b)
	if err != nil {
		return err
	}
	d.opMu.Lock()
	defer d.opMu.Unlock()
	d.opts.OpenLess = saved.OpenLess
	d.union.SetOpenLess(saved.OpenLess)
	d.mu.Lock()
	d.where = saved.Mountpoint
	d.mu.Unlock()
	if err := d.drop(ctx, saved.Specs); err != nil {
		return err
	}
	for _, spec := range saved.Specs {
		if i := d.at(spec.Path); i != nil && i.spec.same(spec) {
			continue
		} else if i != nil {
			if err := d.detach(ctx, spec.Path, vfs.Strict); err != nil {
				return err
			}
		}
		i, err := d.open(ctx, spec)
		if err != nil {
			return err
		}
		if i.mount, err = d.union.Attach(spec.Path, i.fuseFS()); err != nil {
			return errors.Join(err, i.close())
		}
		d.put(i)
	}
	if d.store != nil && d.store.name == "" {
		d.store.name = saved.Stored
	}
	if last {
		d.leave(ctx, saved.Leaving)
	}
	session.State = saved.Session
	return nil
}

// leave opens what the predecessor had unmounted lazily. Who uses something
// that cannot be opened any more gets ESTALE.
func (d *Daemon) leave(ctx context.Context, all []left) {
	for _, l := range all {
		i, err := d.open(ctx, l.Spec)
		if err != nil {
			d.log.Warn("what was unmounted and is in use is lost", "path", l.Spec.Path, "error", err)
			continue
		}
		i.mount = d.union.Leave(l.Slot, l.Spec.Path, i.fuseFS())
		d.closeLater(i)
	}
}
