package daemon

import (
	"net/http"

	"github.com/sluicefs/sluice/fuse/wire"
)

// fops are the operations that nydusd counts, in its order.
var fops = [15][]wire.Opcode{
	{wire.OpGetattr, wire.OpStatx}, {wire.OpReadlink}, {wire.OpOpen}, {wire.OpRelease}, {wire.OpRead},
	{wire.OpStatfs}, {wire.OpGetxattr}, {wire.OpListxattr}, {wire.OpOpendir}, {wire.OpLookup},
	{wire.OpReaddir}, {wire.OpReaddirplus}, {wire.OpAccess}, {wire.OpForget}, {wire.OpBatchForget},
}

// nydusFsMetrics is what nydusd tells of a file system. Latencies are in
// microseconds.
type nydusFsMetrics struct {
	FilesAccount  bool       `json:"files_account_enabled"`
	MeasureTime   bool       `json:"measure_latency"`
	AccessPattern bool       `json:"access_pattern_enabled"`
	ID            string     `json:"id"`
	Opens         uint64     `json:"nr_opens"`
	DataRead      uint64     `json:"data_read"`
	BlockCount    [8]uint64  `json:"block_count_read"`
	Hits          [15]uint64 `json:"fop_hits"`
	Errors        [15]uint64 `json:"fop_errors"`
	Latency       [15]uint64 `json:"fop_cumulative_latency_total"`
	ReadLatency   [8]uint64  `json:"read_latency_dist"`
}

func (s *server) nydusFsMetrics(r *http.Request) (any, error) {
	i, err := s.instance(r, "id")
	if err != nil {
		return nil, err
	}
	st := i.mount.Stats()
	m := nydusFsMetrics{
		ID: i.spec.Path, MeasureTime: true, AccessPattern: i.access.tells().Pattern, FilesAccount: i.access.tells().IOStats,
		DataRead: st.ReadBytes, Opens: st.Ops[wire.OpOpen.String()],
		BlockCount: st.ReadSizes, ReadLatency: st.ReadTimes,
	}
	for k, ops := range fops {
		for _, op := range ops {
			m.Hits[k] += st.Ops[op.String()]
			m.Errors[k] += st.Errors[op.String()]
			m.Latency[k] += uint64(st.Times[op.String()].Microseconds())
		}
	}
	return m, nil
}

type nydusBackendMetrics struct {
	ID           string       `json:"id"`
	Type         string       `json:"backend_type"`
	Reads        uint64       `json:"read_count"`
	Errors       uint64       `json:"read_errors"`
	Amount       uint64       `json:"read_amount_total"`
	Latency      uint64       `json:"read_cumulative_latency_millis_total"`
	LatencyDist  [8]uint64    `json:"read_cumulative_latency_millis_dist"`
	SizeDist     [8]uint64    `json:"read_count_block_size_dist"`
	LatencySizes [8][8]uint64 `json:"read_latency_sizes_dist"`
}

func (s *server) nydusBackendMetrics(r *http.Request) (any, error) {
	i, err := s.instance(r, "id")
	if err != nil {
		return nil, err
	}
	m := nydusBackendMetrics{ID: i.spec.Path, Type: "localfs"}
	if i.config != nil {
		m.Type = i.config.Type
	}
	if b := i.backend; b != nil {
		m.Reads, m.Errors, m.Amount = b.reads.Load(), b.errors.Load(), b.bytes.Load()
		m.Latency = uint64(b.busy.Load() / 1e6)
		m.LatencyDist, m.SizeDist = loadAll(&b.times), loadAll(&b.sizes)
		for k := range b.both {
			m.LatencySizes[k] = loadAll(&b.both[k])
		}
	}
	return m, nil
}

type nydusCacheMetrics struct {
	ID               string   `json:"id"`
	Files            []string `json:"underlying_files"`
	Store            string   `json:"store_path"`
	PartialHits      uint64   `json:"partial_hits"`
	WholeHits        uint64   `json:"whole_hits"`
	Total            uint64   `json:"total"`
	Entries          uint64   `json:"entries_count"`
	PrefetchAmount   uint64   `json:"prefetch_data_amount"`
	PrefetchRequests uint64   `json:"prefetch_requests_count"`
	PrefetchWorkers  uint     `json:"prefetch_workers"`
	PrefetchUnmerged uint64   `json:"prefetch_unmerged_chunks"`
	PrefetchMillis   uint64   `json:"prefetch_cumulative_time_millis"`
	BeginSecs        uint64   `json:"prefetch_begin_time_secs"`
	BeginMillis      uint64   `json:"prefetch_begin_time_millis"`
	EndSecs          uint64   `json:"prefetch_end_time_secs"`
	EndMillis        uint64   `json:"prefetch_end_time_millis"`
	Buffered         uint64   `json:"buffered_backend_size"`
	AllReady         bool     `json:"data_all_ready"`
}

func (s *server) nydusCacheMetrics(r *http.Request) (any, error) {
	i, err := s.instance(r, "id")
	if err != nil {
		return nil, err
	}
	m := nydusCacheMetrics{ID: i.spec.Path, Files: []string{}}
	if i.config != nil {
		m.Store = i.config.cacheDir()
		if c := s.d.opener.all()[m.Store]; c != nil {
			st := c.Stats()
			m.WholeHits, m.Total = st.Hits, st.Hits+st.Misses
		}
	}
	if i.target.Image != nil {
		for _, b := range i.target.Image.Image.Tree.Blobs() {
			m.Files = append(m.Files, b.ID)
		}
		m.Entries = uint64(len(m.Files))
	}
	if img := i.imageStats(); img != nil {
		m.PrefetchAmount = uint64(img.PrefetchBytes)
		m.AllReady = img.PrefetchState == "done" && i.config != nil && i.config.Prefetch.All
	}
	return m, nil
}
