package uring

import (
	"encoding/binary"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fuse/wire"
)

// TestOwnerRoamsWhileReadingAhead has requests come one after the other and
// looks where the owner's thread may run.
func TestOwnerRoamsWhileReadingAhead(t *testing.T) {
	done := make(chan struct{})
	go func() { // ends with its thread, whose binding is not undone
		defer close(done)
		runtime.LockOSThread()
		q := &queue{}
		if err := unix.SchedGetaffinity(0, &q.anywhere); err != nil {
			t.Error(err)
			return
		}
		for !q.anywhere.IsSet(q.cpu) {
			q.cpu++
		}
		q.bind()
		request := func(op wire.Opcode, size, flags uint32) *slot {
			s := &slot{head: make([]byte, headerSize)}
			binary.NativeEndian.PutUint32(s.head[opcodeAt:], uint32(op))
			binary.NativeEndian.PutUint32(s.head[argsAt+readSizeAt:], size)
			binary.NativeEndian.PutUint32(s.head[argsAt+readFlagsAt:], flags)
			return s
		}
		ahead := request(wire.OpRead, 1<<20, 0)
		for _, step := range []struct {
			name  string
			s     *slot
			times int
			cpus  int
		}{
			{"first large read", ahead, 1, 1},
			{"another request between", request(wire.OpGetattr, 0, 0), 1, 1},
			{"read again", ahead, roamAfter - 1, 1},
			{"enough of them", ahead, 1, q.anywhere.Count()},
			{"a few others", request(wire.OpLookup, 0, 0), returnAfter - 1, q.anywhere.Count()},
			{"read between", ahead, 1, q.anywhere.Count()},
			{"enough others", request(wire.OpLookup, 0, 0), returnAfter, 1},
			{"large WRITE", request(wire.OpWrite, 1<<20, 0), 2 * roamAfter, 1},
			{"direct read", request(wire.OpRead, 1<<20, readLockOwner), 2 * roamAfter, 1},
			{"small read", request(wire.OpRead, 64<<10, 0), 2 * roamAfter, 1},
		} {
			for range step.times {
				q.place(step.s)
			}
			var now unix.CPUSet
			if err := unix.SchedGetaffinity(0, &now); err != nil {
				t.Error(err)
				return
			}
			if now.Count() != step.cpus {
				t.Errorf("%s: the owner may run on %d processors, want %d", step.name, now.Count(), step.cpus)
			}
		}
	}()
	<-done
}
