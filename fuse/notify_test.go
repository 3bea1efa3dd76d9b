package fuse_test

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/fuse/fusetest"
	"github.com/sluicefs/sluice/fuse/wire"
)

func codes(k *fusetest.Kernel) (all []wire.NotifyCode) {
	for _, n := range k.Notices() {
		all = append(all, n.Code)
	}
	return all
}

func TestNotifications(t *testing.T) {
	k, s := session(t, newMemFS(), fusetest.Options{}, nil)
	n := s.Notifier()
	n.Inode(2, 0, 0)
	n.Entry(1, "a")
	n.Expire(1, "b")
	n.Delete(1, 9, "c")
	n.Store(2, 4096, []byte("data"))
	n.Poll(5)
	n.Resend()
	n.IncEpoch()
	n.Prune([]uint64{3, 4})
	if err := n.Flush(ctxFor(t)); err != nil {
		t.Fatal(err)
	}
	want := []wire.NotifyCode{wire.NotifyInvalInode, wire.NotifyInvalEntry, wire.NotifyInvalEntry, wire.NotifyDelete,
		wire.NotifyStore, wire.NotifyPoll, wire.NotifyResend, wire.NotifyIncEpoch, wire.NotifyPrune}
	if got := codes(k); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	sizes := []int{24, 16 + 2, 16 + 2, 24 + 2, 24 + 4, 8, 0, 0, 16 + 16}
	for i, got := range k.Notices() {
		if len(got.Body) != sizes[i] {
			t.Errorf("%v: %d bytes, want %d", got.Code, len(got.Body), sizes[i])
		}
	}
	if b := k.Notices()[2].Body; binary.NativeEndian.Uint32(b[12:]) != wire.ExpireOnly || string(b[16:]) != "b\x00" {
		t.Errorf("EXPIRE: %v", b)
	}
	if st := s.EntryNotify(1, "with/slash"); st != fuse.EINVAL {
		t.Errorf("a name with a slash: %v", st)
	}
}

// What is queued before INIT is sent as the kernel can take it, which nobody
// knows until then.
func TestNotifyBeforeInit(t *testing.T) {
	k := fusetest.NewKernel(fusetest.Options{})
	s := fuse.NewServerOn(newMemFS(), k, nil)
	n := s.Notifier()
	n.Expire(1, "a")
	queued := make(chan struct{})
	go func() {
		defer close(queued)
		for range 100 { // some before, some after
			n.Expire(1, "b")
			n.Retrieve(2, 0, make([]byte, 4096))
		}
	}()
	begin(t, k, s)
	within(t, "queueing", queued)
	if err := n.Flush(ctxFor(t)); err != nil {
		t.Fatal(err)
	}
	if b := k.Notices()[0].Body; binary.NativeEndian.Uint32(b[12:]) != wire.ExpireOnly {
		t.Errorf("EXPIRE: %v", b)
	}
}

// What waits in the queue is merged; order is kept.
func TestNotifyMerges(t *testing.T) {
	k, s := session(t, newMemFS(), fusetest.Options{}, nil)
	hold, sent := make(chan struct{}), make(chan struct{}, 16)
	k.OnNotify(func(fusetest.Notice) syscall.Errno {
		sent <- struct{}{}
		<-hold
		return 0
	})
	n := s.Notifier()
	n.Inode(99, 0, 0) // keeps the goroutine busy
	within(t, "the first one", sent)
	for range 1000 {
		n.Entry(1, "a")
		n.IncEpoch()
	}
	n.Inode(2, 0, 10)
	n.Inode(2, 10, 10)
	n.Inode(2, -1, 0)
	n.Store(2, 0, []byte("x"))
	n.Inode(2, 0, 5)
	n.Delete(1, 9, "a") // says more than the queued ENTRY
	close(hold)
	if err := n.Flush(ctxFor(t)); err != nil {
		t.Fatal(err)
	}
	want := []wire.NotifyCode{wire.NotifyInvalInode, wire.NotifyDelete, wire.NotifyIncEpoch,
		wire.NotifyInvalInode, wire.NotifyStore, wire.NotifyInvalInode}
	if got := codes(k); !slices.Equal(got, want) {
		t.Fatalf("%v, want %v", got, want)
	}
	joined := k.Notices()[3].Body
	if off, size := binary.NativeEndian.Uint64(joined[8:]), binary.NativeEndian.Uint64(joined[16:]); off != 0 || size != 20 {
		t.Errorf("joined range [%d +%d)", off, size)
	}
	if st := s.Stats(); st.Merged != 2001 || st.Notified != 6 {
		t.Errorf("%+v", st)
	}
}

// A handler may notify, although the kernel holds the notification until that
// very handler has answered.
func TestNotifyFromHandler(t *testing.T) {
	fs := newMemFS()
	k, s := session(t, fs, fusetest.Options{}, nil)
	answered := make(chan struct{})
	k.OnNotify(func(fusetest.Notice) syscall.Errno {
		<-answered
		return 0
	})
	fs.hook = func(*fuse.InHeader, <-chan struct{}) fuse.Status {
		if st := s.InodeNotify(2, 0, 0); st != fuse.OK {
			t.Errorf("InodeNotify: %v", st)
		}
		if _, st := s.InodeRetrieveCache(2, 0, make([]byte, 10)); st != fuse.Status(syscall.EDEADLK) {
			t.Errorf("InodeRetrieveCache: %v", st)
		}
		return fuse.OK
	}
	if r := within(t, "the answer", getattr(k, 0)); r.Errno != 0 {
		t.Errorf("%v", r.Errno)
	}
	close(answered)
}

// A handler that notifies a thousand times of what the kernel has locked for it
// waits for the first one only, and the next handlers hardly.
func TestManyNotifiesFromHandlers(t *testing.T) {
	fs := newMemFS()
	k, s := session(t, fs, fusetest.Options{}, nil)
	var answered chan struct{}
	k.OnNotify(func(fusetest.Notice) syscall.Errno {
		<-answered
		return 0
	})
	fs.hook = func(*fuse.InHeader, <-chan struct{}) fuse.Status {
		for i := range 1000 { // at 100 ms each it would take longer than the watchdog
			s.EntryNotify(1, strconv.Itoa(i))
		}
		return fuse.OK
	}
	for range 3 {
		answered = make(chan struct{})
		within(t, "the answer", getattr(k, 0))
		close(answered)
		if err := s.Notifier().Flush(ctxFor(t)); err != nil {
			t.Fatal(err)
		}
	}
}

// A handler's notification is with the kernel before the handler goes on, so
// that its caller does not see what was dropped.
func TestNotifyBeforeAnswer(t *testing.T) {
	fs := newMemFS()
	k, s := session(t, fs, fusetest.Options{}, nil)
	k.OnNotify(func(fusetest.Notice) syscall.Errno {
		time.Sleep(time.Millisecond) // a kernel that takes a while
		return syscall.ENOENT
	})
	waited := false
	fs.hook = func(*fuse.InHeader, <-chan struct{}) fuse.Status {
		waited = s.InodeNotify(2, 0, 0) == fuse.ENOENT
		return fuse.OK
	}
	// One that did not get the processor in time goes on without the answer.
	for range 100 {
		if within(t, "the answer", getattr(k, 0)); waited {
			return
		}
	}
	t.Error("InodeNotify beneath a handler never had the kernel's status")
}

func TestNotifyStatus(t *testing.T) {
	k, s := session(t, newMemFS(), fusetest.Options{}, nil)
	k.OnNotify(func(fusetest.Notice) syscall.Errno { return syscall.ENOENT })
	if st := s.Notifier().Inode(2, 0, 0).Wait(ctxFor(t)); st != fuse.ENOENT {
		t.Errorf("%v", st)
	}
	k.Close()
	s.Wait()
	if st := s.InodeNotify(2, 0, 0); st != fuse.ENODEV {
		t.Errorf("after the end: %v", st)
	}
	old, so := session(t, newMemFS(), fusetest.Options{Minor: 30}, nil)
	if st := so.PruneNotify([]uint64{1}); st != fuse.ENOSYS || len(old.Notices()) != 0 {
		t.Errorf("a kernel of 7.30: %v", st)
	}
}

func TestRetrieve(t *testing.T) {
	both(t, func(t *testing.T, o fusetest.Options) {
		k, s := session(t, newMemFS(), o, nil)
		content := strings.Repeat("0123456789", 1000)
		k.OnNotify(func(n fusetest.Notice) syscall.Errno {
			ne := binary.NativeEndian
			id, node, off, size := ne.Uint64(n.Body), ne.Uint64(n.Body[8:]), ne.Uint64(n.Body[16:]), ne.Uint32(n.Body[24:])
			if node == 404 {
				return syscall.ENOENT
			}
			data := content[min(off, uint64(len(content))):]
			data = data[:min(int(size), len(data))]
			args := fusetest.Args(&fuse.NotifyRetrieveIn{Offset: off, Size: uint32(len(data))})
			k.Go(&fusetest.Request{Op: wire.OpNotifyReply, Unique: id, Node: node, Args: args, Payload: []byte(data)})
			return 0
		})
		dest := make([]byte, 100)
		if n, st := s.Notifier().Retrieve(2, 5, dest).Wait(ctxFor(t)); n != 100 || st != fuse.OK || string(dest) != content[5:105] {
			t.Errorf("%d %v %q", n, st, dest)
		}
		if n, st := s.InodeRetrieveCache(2, 9990, dest); n != 10 || st != fuse.OK {
			t.Errorf("at the end: %d %v", n, st)
		}
		if _, st := s.InodeRetrieveCache(404, 0, dest); st != fuse.ENOENT {
			t.Errorf("unknown node: %v", st)
		}
		// An answer to nothing is dropped.
		k.Call(&fusetest.Request{Op: wire.OpNotifyReply, Unique: 12345, Args: make([]byte, 40)})
		// What is asked for stays below what a ring's buffer holds.
		big := make([]byte, 4<<20)
		s.Notifier().Retrieve(2, 0, big)
		if err := s.Notifier().Flush(ctxFor(t)); err != nil {
			t.Fatal(err)
		}
		last := k.Notices()[len(k.Notices())-1].Body
		if size := binary.NativeEndian.Uint32(last[24:]); size != 1<<20-4096 {
			t.Errorf("asks for %d bytes", size)
		}
	})
}
