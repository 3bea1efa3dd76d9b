package serve

import (
	"time"

	"github.com/sluicefs/sluice/internal/mounts"
)

// Stats is what a mount says of itself.
type Stats struct {
	mounts.Entry
	UptimeSeconds float64     `json:"uptime_seconds"`
	Requests      uint64      `json:"requests"`
	Errors        uint64      `json:"errors"`
	Operations    []Operation `json:"operations,omitempty"`
	Image         *ImageStats `json:"image,omitempty"`
}

// Operation counts the requests of one kind.
type Operation struct {
	Name   string        `json:"name"`
	Count  uint64        `json:"count"`
	Errors uint64        `json:"errors"`
	P50    time.Duration `json:"p50_ns"`
	P99    time.Duration `json:"p99_ns"`
}

// ImageStats is what an image's mount knows beside.
type ImageStats struct {
	Format          string  `json:"format"`
	Digest          string  `json:"digest,omitempty"`
	Inodes          uint64  `json:"inodes"`
	StoredBytes     int64   `json:"stored_bytes"`     // of all blobs
	MetadataBytes   int64   `json:"metadata_bytes"`   // of the bootstrap
	FetchedBytes    int64   `json:"fetched_bytes"`    // by this mount
	FetchedRequests int64   `json:"fetched_requests"` // ranges asked for
	TouchedBytes    int64   `json:"touched_bytes"`    // stored bytes of chunks that were read
	Amplification   float64 `json:"amplification"`    // fetched per touched
	ReadRequests    int64   `json:"read_requests"`    // from the kernel
	ReadBytes       int64   `json:"read_bytes"`
	HitRate         float64 `json:"hit_rate"` // of reads that waited for nothing
	PrefetchState   string  `json:"prefetch"` // "off", "running", "done", "failed: …"
	PrefetchBytes   int64   `json:"prefetch_bytes"`
	// With --passthrough=on: whether the kernel takes part, opens of files
	// that it reads by itself, and the copies that this mount made for that.
	Passthrough      string `json:"passthrough,omitempty"` // "on", "off: why"
	PassthroughOpens int64  `json:"passthrough_opens,omitempty"`
	WholeFiles       int64  `json:"whole_files,omitempty"`
	WholeBytes       int64  `json:"whole_bytes,omitempty"`
	SlowReads        []Slow `json:"slow_reads,omitempty"`
}

// Slow is one of the reads that took longest.
type Slow struct {
	Path     string        `json:"path"`
	Offset   int64         `json:"offset"`
	Length   int64         `json:"length"`
	Duration time.Duration `json:"duration_ns"`
	At       time.Time     `json:"at"`
}

// Why says what is known of one file of an image.
type Why struct {
	Path         string     `json:"path"`
	Type         string     `json:"type"`
	Size         int64      `json:"size"`
	Chunks       int        `json:"chunks"`
	Present      int        `json:"present_chunks"`
	StoredBytes  int64      `json:"stored_bytes"` // of its chunks
	PresentBytes int64      `json:"present_bytes"`
	Touched      int        `json:"touched_chunks"` // read through this mount
	Prefetch     bool       `json:"prefetch"`       // asked for by the image or a profile
	Reads        []ReadSpan `json:"reads,omitempty"`
	Reasons      []string   `json:"reasons"`
	Blobs        []string   `json:"blobs,omitempty"`
}

// ReadSpan is a range of a file that was read, and when first.
type ReadSpan struct {
	Offset int64     `json:"offset"`
	Length int64     `json:"length"`
	At     time.Time `json:"at"`
}
