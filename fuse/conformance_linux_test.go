package fuse_test

import (
	"bytes"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/fuse/channel/device"
	"github.com/sluicefs/sluice/fuse/fusetest"
)

// The device channel keeps its promises on a socket in place of /dev/fuse.
func TestDeviceConforms(t *testing.T) {
	fusetest.Run(t, func(t *testing.T) *fusetest.Link {
		const payload = 64 << 10 // what a packet of a socket can hold
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		dev, err := device.New(pair[0], device.Options{MaxPayload: payload})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(pair[1]) })
		buf := make([]byte, payload+8192)
		return &fusetest.Link{
			Channel: dev, MaxPayload: payload,
			Send: func(msg []byte) error { return unix.Send(pair[1], msg, unix.MSG_NOSIGNAL) },
			Receive: func() ([]byte, error) {
				n, err := unix.Read(pair[1], buf)
				if err == nil && n == 0 {
					err = os.ErrClosed
				}
				return bytes.Clone(buf[:max(n, 0)]), err
			},
			Hangup: func() { _ = unix.Shutdown(pair[1], unix.SHUT_RDWR) },
		}
	})
}

// What a real kernel asked is answered the same way again, without it.
func TestIntegrationRecord(t *testing.T) {
	transports(t, func(t *testing.T, o *fuse.MountOptions) {
		var rec bytes.Buffer
		o.WrapChannel = fusetest.Record(&rec)
		s, dir := mounted(t, newDirectFS(), o)
		if out, err := run(t, `ls -l "$1"/1 && cat "$1"/2 | wc -c && ls "$1"; ls "$1"/none`, dir); err == nil {
			t.Errorf("all was found: %s", out)
		}
		if err := s.Unmount(); err != nil {
			t.Fatal(err)
		}
		exchanges, err := fusetest.ReadRecording(&rec)
		if err != nil || len(exchanges) < 8 {
			t.Fatalf("%d exchanges, %v", len(exchanges), err)
		}
		kept := exchanges[:0]
		for _, x := range exchanges {
			// The probe of POLL belongs to the server that was recorded.
			if !bytes.Contains(x.Args, []byte(".poll-")) && !bytes.Contains(x.Payload, []byte(".poll-")) && x.Header[23]&0x80 == 0 {
				kept = append(kept, x)
			}
		}
		k := fusetest.NewKernel(fusetest.Options{})
		again := fuse.NewServerOn(newDirectFS(), k, nil)
		go again.Serve()
		for _, d := range fusetest.Replay(k, kept) {
			if d.Op.String() != "INIT" { // whose answer depends on the channel
				t.Error(d)
			}
		}
		k.Close()
		again.Wait()
		for _, f := range k.Faults() {
			t.Error(f)
		}
	})
}
