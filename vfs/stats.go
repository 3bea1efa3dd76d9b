package vfs

import (
	"sync/atomic"
	"time"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/fuse/wire"
)

// Stats is what happened at one attached file system since it was attached.
type Stats struct {
	Ops        map[string]uint64 // by operation, such as "LOOKUP"; absent = 0
	Errors     map[string]uint64 // of those, how many did not end in OK
	ReadBytes  uint64
	WriteBytes uint64
	Busy       time.Duration // sum of the time in its methods, if Options.Measure
	Open       int64         // files and directories that are open now
	Nodes      int64         // references that the kernel holds now
}

// counters are updated for each operation.
type counters struct {
	ops, errors [wire.OpLimit]atomic.Uint64
	read, wrote atomic.Uint64
	busy        atomic.Int64
}

func (c *counters) count(op uint32, st fuse.Status) {
	if op >= wire.OpLimit {
		return
	}
	c.ops[op].Add(1)
	if st != fuse.OK && st != fuse.Pending {
		c.errors[op].Add(1)
	}
}

// Stats returns the counts so far.
func (m *Mount) Stats() Stats {
	s := Stats{
		Ops:        map[string]uint64{},
		Errors:     map[string]uint64{},
		ReadBytes:  m.stats.read.Load(),
		WriteBytes: m.stats.wrote.Load(),
		Busy:       time.Duration(m.stats.busy.Load()),
	}
	s.Open, s.Nodes = m.InUse()
	for op := range wire.Opcode(wire.OpLimit) {
		if n := m.stats.ops[op].Load(); n > 0 {
			s.Ops[op.String()] = n
		}
		if n := m.stats.errors[op].Load(); n > 0 {
			s.Errors[op.String()] = n
		}
	}
	return s
}
