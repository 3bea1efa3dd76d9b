package fuse

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/sluicefs/sluice/fuse/channel"
	"github.com/sluicefs/sluice/fuse/mount"
	"github.com/sluicefs/sluice/fuse/wire"
)

// A Session is a live mount on its way to another server, which may be another
// process, of another version of the program: the mount, open files and waiting
// callers stay, and see no more than a pause.
//
// A planned hand-over is [Server.Detach] here, [Session.Send] and
// [ReceiveSession] over a unix socket, and [Resume] there. To survive a crash
// somebody who does not crash keeps what [Server.Snapshot] gives (the
// descriptors keep the kernel's side alive; callers wait meanwhile) and hands
// it to a new server, which resumes with Crashed set.
type Session struct {
	// State is what the successor needs to know: versioned, with a checksum.
	State []byte
	// Files are the descriptors of the kernel's side, the one that was
	// mounted first; whoever has the Session owns them.
	Files []int
	// Crashed says that the last server ended without handing over: requests
	// that it had read are asked for again. They may have been carried out
	// already (see [Request.Resent]). Requests that it had over io_uring are
	// found in the memory that the rings share.
	Crashed bool
}

// Stateful is implemented by a [RawFileSystem] whose node ids or handles mean
// nothing to another instance by themselves. SaveState is called while no
// handler runs, or, for [Server.Snapshot], at any time; RestoreState once,
// after Init and before the first request. A file system that serves an image
// by its inode numbers needs none of this.
type Stateful interface {
	SaveState() ([]byte, error)
	RestoreState(state []byte) error
}

// sessionState is what State holds, as JSON, between a head and a checksum.
type sessionState struct {
	Transport string         `json:"transport"`
	Channel   []byte         `json:"channel"` // what the channel says of itself
	Params    channel.Params `json:"params"`
	InitIn    []byte         `json:"init_in"`
	InitOut   []byte         `json:"init_out"`
	Path      string         `json:"path"`
	ProbeNode uint64         `json:"probe_node"`
	FS        []byte         `json:"fs,omitempty"`
	Stateful  bool           `json:"stateful"`
}

// The head of State: magic, then the version and the length of what follows,
// 4 bytes each, little endian; the checksum (CRC-32C) of all before it is last.
const (
	stateMagic   = "SLUICEFS"
	stateVersion = 1
	stateHead    = len(stateMagic) + 8
	maxState     = 1 << 30
)

// errState is wrapped by what is wrong with a State.
var errState = errors.New("session state")

func (st *sessionState) encode() ([]byte, error) {
	body, err := json.Marshal(st)
	if err != nil {
		return nil, fmt.Errorf("encode %w: %w", errState, err)
	}
	b := append([]byte(nil), stateMagic...)
	b = binary.LittleEndian.AppendUint32(b, stateVersion)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(body)))
	b = append(b, body...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func decodeState(b []byte) (*sessionState, error) {
	if len(b) < stateHead+4 || string(b[:len(stateMagic)]) != stateMagic {
		return nil, fmt.Errorf("%w: not one", errState)
	}
	version, size := binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:])
	if version != stateVersion {
		return nil, fmt.Errorf("%w: version %d, this program reads %d", errState, version, stateVersion)
	}
	end := len(b) - 4
	if uint64(size) != uint64(end-stateHead) {
		return nil, fmt.Errorf("%w: %d bytes, %d announced", errState, end-stateHead, size)
	}
	if sum := crc32.Checksum(b[:end], castagnoli); sum != binary.LittleEndian.Uint32(b[end:]) {
		return nil, fmt.Errorf("%w: checksum is wrong", errState)
	}
	st := new(sessionState)
	if err := json.Unmarshal(b[stateHead:end], st); err != nil {
		return nil, fmt.Errorf("%w: %w", errState, err)
	}
	if st.Params.Minor < 1 || st.Params.MaxWrite == 0 {
		return nil, fmt.Errorf("%w: no INIT in it", errState)
	}
	return st, nil
}

// Snapshot returns the session as it is now, with duplicates of its
// descriptors, for somebody who keeps it in case this process dies. Serving
// goes on. It is refused before INIT is done and for channels that cannot be
// handed over.
func (s *Server) Snapshot() (*Session, error) { return s.session(false) }

// Detach hands the session over: it stops taking requests, waits until those
// that run are answered, and ends Serve without unmounting. Callers wait for
// the successor from then on. If ctx ends first the requests that still run
// are left to the successor, as after a crash; this process should then exit
// soon, for it must not carry them on.
//
// After an error nothing has been handed over: serving goes on if requests
// were still being taken, which an error that wraps channel.ErrUnsupported or
// precedes INIT guarantees.
func (s *Server) Detach(ctx context.Context) (*Session, error) {
	if s.view != nil {
		return nil, errView
	}
	if err := s.transferable(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.e.notify.Flush(ctx); err != nil {
		return nil, fmt.Errorf("detach: send what is queued: %w", err)
	}
	if err := s.ch.(channel.Transferable).Pause(); err != nil {
		return nil, fmt.Errorf("detach: %w", err)
	}
	drained := s.e.drain(ctx)
	sess, err := s.session(true)
	if err != nil {
		return nil, err
	}
	sess.Crashed = !drained
	s.e.detached.Store(true)
	s.unmounted = true
	if err := s.ch.Close(); err != nil {
		return nil, err
	}
	if s.serving.Load() {
		select {
		case <-s.done:
		case <-ctx.Done(): // a handler does not come back
		}
	}
	return sess, nil
}

func (s *Server) transferable() error {
	if _, ok := s.ch.(channel.Transferable); !ok {
		return fmt.Errorf("hand over: the %s channel: %w", s.ch.Caps().Transport, channel.ErrUnsupported)
	}
	if s.e.state.Load() != sessionOn {
		return errors.New("hand over: the session has not begun, or is over")
	}
	return nil
}

// session describes the session; quiet means that no handler runs.
func (s *Server) session(quiet bool) (*Session, error) {
	if err := s.transferable(); err != nil {
		return nil, err
	}
	t := s.ch.(channel.Transferable)
	desc, err := t.Describe()
	if err != nil {
		return nil, fmt.Errorf("hand over: %w", err)
	}
	st := sessionState{
		Transport: s.ch.Caps().Transport, Channel: desc, Params: s.e.params,
		InitIn: structBytes(&s.e.initIn), InitOut: structBytes(&s.e.initOut), ProbeNode: s.e.probeNode.Load(),
	}
	if s.point != nil {
		st.Path = s.point.Path()
	}
	if fs, ok := s.e.fs.(Stateful); ok {
		st.Stateful = true
		if st.FS, err = fs.SaveState(); err != nil {
			return nil, fmt.Errorf("save the file system's state: %w", err)
		}
	}
	b, err := st.encode()
	if err != nil {
		return nil, err
	}
	files, err := t.Files()
	if err != nil {
		return nil, fmt.Errorf("hand over: %w", err)
	}
	return &Session{State: b, Files: files}, nil
}

// Resume makes a server for a session that another server has begun. It takes
// over sess's Files; fs must be the same file system, as far as the kernel can
// tell. opts is as for [NewServer], but what was agreed in INIT stays. The
// caller then calls Serve.
func Resume(fs RawFileSystem, sess *Session, opts *MountOptions) (*Server, error) {
	st, err := decodeState(sess.State)
	if err != nil {
		return nil, err
	}
	if len(sess.Files) == 0 {
		return nil, fmt.Errorf("%w: no descriptors came with it", errState)
	}
	if opts == nil {
		opts = &MountOptions{}
	}
	stateful, ok := fs.(Stateful)
	if st.Stateful && !ok {
		return nil, fmt.Errorf("%w: the file system %v cannot restore what its predecessor saved", errState, fs)
	}
	point, err := mount.Adopt(sess.Files[0], st.Path)
	if err != nil {
		return nil, err
	}
	ch, err := resumeChannel(st, sess, opts)
	if err != nil {
		return nil, err
	}
	s := NewServerOn(fs, ch, opts)
	s.point = point
	close(s.attached)
	if err := s.e.resume(st, stateful); err != nil {
		return nil, errors.Join(err, ch.Close())
	}
	if sess.Crashed {
		if err := ch.Notify(resendMessage()); err != nil {
			s.e.logger.Printf("fuse: requests that the last server had read cannot be asked for again: %v", err)
		}
	}
	return s, nil
}

// resume puts the engine where its predecessor's was.
func (e *engine) resume(st *sessionState, stateful Stateful) error {
	copy(structBytes(&e.initIn), st.InitIn)
	copy(structBytes(&e.initOut), st.InitOut)
	e.params = st.Params
	e.settleLayout()
	if st.ProbeNode != 0 {
		e.probeNode.Store(st.ProbeNode)
		e.probe.Store(&pollProbe{node: st.ProbeNode, name: "/"}) // no name has a slash
	}
	e.resumed = true
	e.fs.Init(e.server)
	if st.Stateful {
		if err := stateful.RestoreState(st.FS); err != nil {
			return fmt.Errorf("restore the file system's state: %w", err)
		}
	}
	e.state.Store(sessionOn)
	e.open()
	if f := e.fatal.Load(); f != nil {
		return *f
	}
	return nil
}

func resendMessage() []byte {
	return wire.AppendOutHeader(nil, wire.OutHeader{Length: wire.OutHeaderSize, Error: int32(wire.NotifyResend)})
}
