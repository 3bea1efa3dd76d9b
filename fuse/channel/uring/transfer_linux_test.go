package uring

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fuse/channel"
	"github.com/sluicefs/sluice/internal/sys"
)

// testSlot is a slot of a small region, as the kernel fills it: a request with
// that opcode, unique and payload.
func testSlot(t *testing.T, r *region, op uint32, id uint64, payload string) *slot {
	t.Helper()
	head, room := r.slot(0, 0)
	q := &queue{c: &Channel{region: r}}
	s := q.addSlot(head, room)
	s.journal = newJournal(head)
	ne := binary.NativeEndian
	ne.PutUint32(head, uint32(40+len(payload)))
	ne.PutUint32(head[4:], op)
	ne.PutUint64(head[8:], id)
	ne.PutUint64(head[16:], 1)
	ne.PutUint64(head[commitAt:], id)
	ne.PutUint32(head[payloadAt:], uint32(len(payload)))
	copy(room, payload)
	return s
}

func testRegion(t *testing.T) *region {
	t.Helper()
	r, err := newRegion(2, 3, 64<<10)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	return r
}

func TestJournal(t *testing.T) {
	const lookup, ioctl = 1, opIoctl
	long := strings.Repeat("data of an ioctl ", 900)
	for _, test := range []struct {
		name    string
		op      uint32
		payload string
		until   func(s *slot) // where the server dies
		want    recovery
	}{
		{"not seen", lookup, "name\x00", func(*slot) {}, redo},
		{"taken", lookup, "name\x00", func(s *slot) { s.lend() }, redo},
		{"half answered", lookup, "name\x00", func(s *slot) {
			s.lend()
			copy(s.req.Out, bytes.Repeat([]byte{0xff}, 128))
			binary.NativeEndian.PutUint32(s.head[errorAt:], 0)
			binary.NativeEndian.PutUint32(s.head[payloadAt:], 128)
		}, redo},
		{"half answered ioctl", ioctl, long, func(s *slot) {
			s.lend()
			copy(s.req.Out, bytes.Repeat([]byte{0xff}, len(long)))
			binary.NativeEndian.PutUint32(s.head[errorAt:], 0)
		}, redo},
		{"answered", lookup, "name\x00", func(s *slot) {
			s.lend()
			s.fill(unix.ENOENT, 0)
		}, resend},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := testRegion(t)
			s := testSlot(t, r, test.op, 42, test.payload)
			header := append([]byte(nil), s.head[:channel.HeaderSize]...)
			test.until(s)
			if got := s.assess(); got != test.want {
				t.Fatalf("assessment: got %d, want %d", got, test.want)
			}
			if test.want != redo {
				return
			}
			s.again = true
			if !s.lend() || !s.req.Resent {
				t.Error("the request is not lent as one that is served again")
			}
			if !bytes.Equal(s.req.Header, header) || string(s.req.Payload) != test.payload {
				t.Errorf("request: got % x %.20q, want % x %.20q", s.req.Header, s.req.Payload, header, test.payload)
			}
		})
	}
}

func TestJournalStrangeSlots(t *testing.T) {
	r := testRegion(t)
	s := testSlot(t, r, 1, 42, "name\x00")
	binary.NativeEndian.PutUint64(s.head[8:], 41) // the header is an older one's
	if got := s.assess(); got != resend {
		t.Errorf("a header that is not the request's: got %d, want %d", got, resend)
	}
	if errno := int32(binary.NativeEndian.Uint32(s.head[errorAt:])); errno != -int32(unix.EIO) {
		t.Errorf("its answer: got %d, want EIO", errno)
	}
	binary.NativeEndian.PutUint64(s.head[commitAt:], 0)
	if got := s.assess(); got != fresh {
		t.Errorf("a slot that was never used: got %d, want %d", got, fresh)
	}
}

func TestRegionIsShared(t *testing.T) {
	r := testRegion(t)
	if _, err := attachRegion(r.fd, r.geometry); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("attach where the region is mapped: got %v, want a refusal", err)
	}
	elsewhere := r.geometry
	elsewhere.addr += 1 << 40
	other, err := attachRegion(r.fd, elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	defer other.close()
	a, _ := r.slot(1, 2)
	b, _ := other.slot(1, 2)
	a[100] = 7
	if b[100] != 7 {
		t.Error("what one process writes is not what the other reads")
	}
	r.count(1).Store(4)
	elsewhere.addr += 1 << 40
	if _, err := attachRegion(r.fd, elsewhere); err == nil {
		t.Error("a count beyond the slots was taken")
	}
	elsewhere.depth++
	if _, err := attachRegion(r.fd, elsewhere); err == nil {
		t.Error("memory of another size was taken")
	}
}

func TestDescription(t *testing.T) {
	g := geometry{addr: regionBase, queues: 2, depth: 8, size: 64 << 10}
	b := g.describe([]byte("device"))
	got, device, err := parseDescription(b)
	if err != nil || got != g || string(device) != "device" {
		t.Errorf("description: got %+v %q %v, want %+v", got, device, err, g)
	}
	for i := range descriptionSize {
		if _, _, err := parseDescription(b[:i]); err == nil {
			t.Errorf("%d bytes were taken", i)
		}
	}
	for name, bad := range map[string]geometry{
		"no address":  {0, 2, 8, 64 << 10},
		"odd address": {regionBase + 1, 2, 8, 64 << 10},
		"no queue":    {regionBase, 0, 8, 64 << 10},
		"huge depth":  {regionBase, 2, 1 << 31, 64 << 10},
		"huge size":   {regionBase, 2, 8, 1 << 62},
		"small size":  {regionBase, 2, 8, 4096},
	} {
		if _, _, err := parseDescription(bad.describe(nil)); err == nil {
			t.Errorf("%s: was taken", name)
		}
	}
}

// TestIntegrationPrivateMemory serves where memory cannot be shared: the
// session works, and says that it cannot be handed over.
func TestIntegrationPrivateMemory(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	small := limit
	small.Cur = 1 << 20
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &small); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_FSIZE, &limit)
	s := start(t, Options{Depth: 2}, found)
	for range 100 {
		s.stat()
	}
	if caps := s.c.Caps(); caps.Transport != "io_uring" || caps.Why["take-over"] == "" {
		t.Errorf("capabilities: got %+v, want io_uring and a reason against take-over", caps)
	}
	if err := s.c.Pause(); !errors.Is(err, channel.ErrUnsupported) {
		t.Errorf("pause: got %v, want %v", err, channel.ErrUnsupported)
	}
	if _, err := s.c.Describe(); !errors.Is(err, channel.ErrUnsupported) {
		t.Errorf("describe: got %v, want %v", err, channel.ErrUnsupported)
	}
	s.stat()
	s.end()
}

func TestMemfdIsSealed(t *testing.T) {
	r := testRegion(t)
	if err := unix.Ftruncate(r.fd, int64(sys.PageSize)); err == nil {
		t.Error("shared memory could be made smaller")
	}
}
