package fuse

import (
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/sluicefs/sluice/fuse/wire"
)

// A Histogram says how long the requests of one operation took, from their
// arrival until their answer had been sent. Buckets grow by a quarter of a
// power of two, so a quantile is right to within 25 percent.
type Histogram struct {
	Count  uint64        // requests
	Errors uint64        // ... that were answered with an error other than ENOSYS and ENODATA
	Sum    time.Duration // of all requests
	counts [histBuckets]uint64
}

const (
	histFirst   = 9  // values below 512 ns share the first bucket
	histLast    = 36 // values from 2^36 ns, 69 s, on share the last
	histBuckets = (histLast-histFirst)*4 + 1
	histShards  = 8 // a power of two
)

func histBucket(d time.Duration) int {
	v := uint64(max(d, 0))
	log := bits.Len64(v) - 1
	if log < histFirst {
		return 0
	}
	if log >= histLast {
		return histBuckets - 1
	}
	return (log-histFirst)*4 + int(v>>(log-2)&3)
}

// Bound returns the upper bound of bucket i.
func histBound(i int) time.Duration {
	return time.Duration(uint64(4+i%4+1) << (histFirst + i/4 - 2))
}

// Quantile returns a duration that the share q of requests, 0 to 1, did not
// exceed.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank, seen := uint64(q*float64(h.Count)), uint64(0)
	for i, n := range h.counts {
		if seen += n; n > 0 && seen > rank || i == histBuckets-1 {
			return histBound(i)
		}
	}
	return 0
}

// Buckets calls f with the upper bound of each bucket and the number of
// requests at or below it, from the shortest to the longest.
func (h *Histogram) Buckets(f func(upTo time.Duration, requests uint64)) {
	var seen uint64
	for i, n := range h.counts {
		seen += n
		f(histBound(i), seen)
	}
}

// histShard counts for some of the requests, so that cores seldom share a
// cache line.
type histShard struct {
	counts [histBuckets]atomic.Uint64
	sum    atomic.Int64
	errors atomic.Uint64
}

// A LatencyMap gets the name and duration of each request. See
// [Server.RecordLatencies].
type LatencyMap interface {
	Add(name string, dt time.Duration)
}

// metrics has the histograms of a session, without locks. A shard is made
// when it is first needed.
type metrics struct {
	ops     [wire.OpLimit][histShards]atomic.Pointer[histShard]
	forgets atomic.Uint64
	latency atomic.Pointer[LatencyMap]
}

func (m *metrics) record(op wire.Opcode, shard uint32, d time.Duration, failed bool) {
	at := &m.ops[op][shard%histShards]
	h := at.Load()
	if h == nil {
		at.CompareAndSwap(nil, new(histShard))
		h = at.Load()
	}
	h.counts[histBucket(d)].Add(1)
	h.sum.Add(int64(d))
	if failed {
		h.errors.Add(1)
	}
	if l := m.latency.Load(); l != nil {
		(*l).Add(op.String(), d)
	}
}

// count counts an operation without an answer.
func (m *metrics) count(wire.Opcode) { m.forgets.Add(1) }

// histogram sums up op's shards.
func (m *metrics) histogram(op wire.Opcode) Histogram {
	var sum Histogram
	for i := range m.ops[op] {
		h := m.ops[op][i].Load()
		if h == nil {
			continue
		}
		for b := range h.counts {
			n := h.counts[b].Load()
			sum.counts[b] += n
			sum.Count += n
		}
		sum.Sum += time.Duration(h.sum.Load())
		sum.Errors += h.errors.Load()
	}
	return sum
}
