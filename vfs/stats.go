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
	Busy       time.Duration            // sum of the time in its methods, if Options.Measure
	Times      map[string]time.Duration // the same by operation
	ReadSizes  [8]uint64                // READs by what they gave: see ReadSizeBounds
	ReadTimes  [8]uint64                // READs by how long they took, if Options.Measure: see ReadTimeBounds
	Open       int64                    // files and directories that are open now
	Nodes      int64                    // references that the kernel holds now
}

// ReadSizeBounds are the bounds between the counts of Stats.ReadSizes, bytes: a
// READ that gives as much as a bound counts behind it.
var ReadSizeBounds = [7]int{1 << 10, 4 << 10, 16 << 10, 64 << 10, 128 << 10, 512 << 10, 1 << 20}

// ReadTimeBounds are those of Stats.ReadTimes: a READ that takes as long as a
// bound counts before it.
var ReadTimeBounds = [7]time.Duration{
	200 * time.Microsecond, time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond,
	500 * time.Millisecond, time.Second, 2 * time.Second,
}

// counters are updated for each operation.
type counters struct {
	ops, errors [wire.OpLimit]atomic.Uint64
	read, wrote atomic.Uint64
	busy        [wire.OpLimit]atomic.Int64 // ns
	sizes       [8]atomic.Uint64
	times       [8]atomic.Uint64
}

// took counts the time of an operation.
func (c *counters) took(op uint32, d time.Duration) {
	if op >= wire.OpLimit {
		return
	}
	c.busy[op].Add(int64(d))
	if wire.Opcode(op) != wire.OpRead {
		return
	}
	k := 0
	for k < len(ReadTimeBounds) && d > ReadTimeBounds[k] {
		k++
	}
	c.times[k].Add(1)
}

// gave counts what a READ gave.
func (c *counters) gave(n int) {
	c.read.Add(uint64(max(n, 0)))
	k := 0
	for k < len(ReadSizeBounds) && n >= ReadSizeBounds[k] {
		k++
	}
	c.sizes[k].Add(1)
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
		Times:      map[string]time.Duration{},
	}
	s.Open, s.Nodes = m.InUse()
	for k := range s.ReadSizes {
		s.ReadSizes[k], s.ReadTimes[k] = m.stats.sizes[k].Load(), m.stats.times[k].Load()
	}
	for op := range wire.Opcode(wire.OpLimit) {
		if d := time.Duration(m.stats.busy[op].Load()); d > 0 {
			s.Times[op.String()] = d
			s.Busy += d
		}
		if n := m.stats.ops[op].Load(); n > 0 {
			s.Ops[op.String()] = n
		}
		if n := m.stats.errors[op].Load(); n > 0 {
			s.Errors[op.String()] = n
		}
	}
	return s
}
