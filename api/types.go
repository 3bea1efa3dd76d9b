package api

import "time"

// Daemon is what the daemon says of itself.
type Daemon struct {
	ID            string            `json:"id,omitempty"`
	Version       string            `json:"version"`
	PID           int               `json:"pid"`
	State         string            `json:"state"` // INIT, READY, RUNNING, STOPPED
	Mountpoint    string            `json:"mountpoint"`
	Supervisor    string            `json:"supervisor,omitempty"`
	LogLevel      string            `json:"log_level"`
	LogLost       uint64            `json:"log_lost"` // lines of the log that could not be written
	UptimeSeconds float64           `json:"uptime_seconds"`
	Mounts        int               `json:"mounts"`
	Transport     string            `json:"transport,omitempty"`
	NotUsed       map[string]string `json:"not_used,omitempty"` // what of the transport is off, and why
	Requests      uint64            `json:"requests"`
	Errors        uint64            `json:"errors"`
}

// MountRequest says what to mount.
type MountRequest struct {
	Source        string   `json:"source"`
	Type          string   `json:"type,omitempty"`           // "", "rafs", "passthrough_fs"
	Config        string   `json:"config,omitempty"`         // nydus configuration, for rafs
	PrefetchFiles []string `json:"prefetch_files,omitempty"` // to fetch ahead
	Record        bool     `json:"record,omitempty"`         // keep what is read
	Overlay       *Overlay `json:"overlay,omitempty"`

	// For directories: "auto", "none" or "always", and owners as
	// "in the mount:below:how many".
	CachePolicy string   `json:"cache_policy,omitempty"`
	UIDMap      []string `json:"uid_map,omitempty"`
	GIDMap      []string `json:"gid_map,omitempty"`
}

// Overlay makes a mount writable.
type Overlay struct {
	Upper string `json:"upper"`
	Work  string `json:"work"`
}

// Mount is something that is mounted, with what happened to it so far.
type Mount struct {
	Path       string            `json:"path"`
	Source     string            `json:"source"`
	Type       string            `json:"type"`
	Since      time.Time         `json:"since"`
	Overlay    *Overlay          `json:"overlay,omitempty"`
	Open       int64             `json:"open"`  // files and directories
	Nodes      int64             `json:"nodes"` // references that the kernel holds
	Operations map[string]uint64 `json:"operations"`
	Errors     map[string]uint64 `json:"errors,omitempty"`
	ReadBytes  uint64            `json:"read_bytes"`
	WriteBytes uint64            `json:"write_bytes"`
	BusyNS     int64             `json:"busy_ns"` // time in its operations, added up
	Image      *Image            `json:"image,omitempty"`
}

// Image is what is known of a mount that is an image.
type Image struct {
	Format          string  `json:"format"`
	Digest          string  `json:"digest,omitempty"`
	Inodes          uint64  `json:"inodes"`
	StoredBytes     int64   `json:"stored_bytes"`
	FetchedBytes    int64   `json:"fetched_bytes"`
	FetchedRequests int64   `json:"fetched_requests"`
	TouchedBytes    int64   `json:"touched_bytes"`
	ReadBytes       int64   `json:"read_bytes"`
	HitRate         float64 `json:"hit_rate"`
	Prefetch        string  `json:"prefetch"`
	PrefetchBytes   int64   `json:"prefetch_bytes"`
}

// Request is one that waits for its answer.
type Request struct {
	ID        uint64 `json:"id"`
	Operation string `json:"operation"`
	Node      uint64 `json:"node"`
	Mount     string `json:"mount,omitempty"`
	PID       uint32 `json:"pid"`
	AgeNS     int64  `json:"age_ns"`
}

// Latency is how long the requests of one kind took.
type Latency struct {
	Operation string `json:"operation"`
	Count     uint64 `json:"count"`
	Errors    uint64 `json:"errors"`
	MeanNS    int64  `json:"mean_ns"`
	P50NS     int64  `json:"p50_ns"`
	P99NS     int64  `json:"p99_ns"`
}

// Cache is one directory of chunks.
type Cache struct {
	Dir          string `json:"dir"`
	UsedBytes    int64  `json:"used_bytes"`
	Hits         uint64 `json:"hits"`
	Misses       uint64 `json:"misses"`
	FetchedBytes uint64 `json:"fetched_bytes"`
	Evicted      uint64 `json:"evicted"`
	Mismatches   uint64 `json:"mismatches"`
}

// Trim says how large caches may be.
type Trim struct {
	Dir   string `json:"dir,omitempty"` // one, or all
	Bytes int64  `json:"bytes"`
}

// Trimmed is how many bytes were freed.
type Trimmed struct {
	FreedBytes int64 `json:"freed_bytes"`
}

// HandOver has the daemon give a successor what it needs, over a unix socket
// that the successor listens on.
type HandOver struct {
	To    string `json:"to"`
	Final bool   `json:"final"` // the session too; this daemon ends
}

// Log sets the log level: trace, debug, info, warn or error.
type Log struct {
	Level string `json:"level"`
}

// Error is the body of an answer that is none.
type Error struct {
	Code    string `json:"code"` // "NotFound", "Exists", "BadRequest", "WrongState", "Internal", ...
	Message string `json:"message"`
	Status  int    `json:"-"` // of HTTP
}

func (e *Error) Error() string { return e.Message }
