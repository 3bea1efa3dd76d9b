package cache

import "sync/atomic"

// Stats are the counts of a Reader, or of a Cache, since it was opened.
type Stats struct {
	Hits          uint64 `json:"hits"`           // chunks served from the cache
	Misses        uint64 `json:"misses"`         // chunks that a reader had to wait for
	Joined        uint64 `json:"joined"`         // of the misses, those already being fetched
	BytesRead     uint64 `json:"bytes_read"`     // given to readers
	BytesTouched  uint64 `json:"bytes_touched"`  // stored size of the chunks that readers missed
	Requests      uint64 `json:"requests"`       // ranges asked of the backend
	BytesFetched  uint64 `json:"bytes_fetched"`  // stored bytes asked of the backend, all causes
	BytesAhead    uint64 `json:"bytes_ahead"`    // of these, by read-ahead
	BytesPrefetch uint64 `json:"bytes_prefetch"` // of these, by prefetch
	BytesStored   uint64 `json:"bytes_stored"`   // uncompressed, written to the cache
	Mismatches    uint64 `json:"mismatches"`     // chunks that came with wrong bytes
	Damaged       uint64 `json:"damaged"`        // cached chunks that were found damaged
	Errors        uint64 `json:"errors"`         // reads that failed
	StoreErrors   uint64 `json:"store_errors"`   // chunks that could not be written to the cache
	Evicted       uint64 `json:"evicted"`        // chunks evicted
}

// counters are Stats that are counted in.
type counters struct {
	hits, misses, joined, read, touched, requests, fetched, ahead, prefetch,
	stored, mismatches, damaged, errors, storeErrors, evicted atomic.Uint64
}

func (n *counters) stats() Stats {
	return Stats{
		Hits: n.hits.Load(), Misses: n.misses.Load(), Joined: n.joined.Load(),
		BytesRead: n.read.Load(), BytesTouched: n.touched.Load(),
		Requests: n.requests.Load(), BytesFetched: n.fetched.Load(),
		BytesAhead: n.ahead.Load(), BytesPrefetch: n.prefetch.Load(),
		BytesStored: n.stored.Load(), Mismatches: n.mismatches.Load(),
		Damaged: n.damaged.Load(), Errors: n.errors.Load(),
		StoreErrors: n.storeErrors.Load(), Evicted: n.evicted.Load(),
	}
}
