package serve

import (
	"sort"
	"time"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/mounts"
)

// Stats returns what is known of the mount.
func (m *Mount) Stats() *Stats {
	s := &Stats{UptimeSeconds: time.Since(m.started).Seconds()}
	if m.reg != nil {
		s.Entry = m.reg.Entry()
	} else {
		s.Entry = mounts.Entry{Mountpoint: m.point, Source: m.opts.Source, Type: m.opts.Type, Started: m.started, Transport: m.Transport()}
	}
	for name, h := range m.server.Latencies() {
		s.Requests += h.Count
		s.Errors += h.Errors
		s.Operations = append(s.Operations, Operation{
			Name: name, Count: h.Count, Errors: h.Errors,
			P50: h.Quantile(0.5), P99: h.Quantile(0.99),
		})
	}
	sort.Slice(s.Operations, func(i, j int) bool { return s.Operations[i].Count > s.Operations[j].Count })
	if m.opts.Inspect != nil {
		m.opts.Inspect.Stats(s)
	}
	return s
}

func transport(s *fuse.Server) string { return s.Transport().Name }
