package daemon

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// collector makes Prometheus metrics of a daemon when it is asked.
type collector struct{ d *Daemon }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("sluice_"+name, help, labels, nil)
}

// The metrics, described for whoever reads them.
var (
	descUp       = desc("running", "1 while requests are served.")
	descMounts   = desc("mounts", "File systems that are mounted.")
	descLogLost  = desc("log_lines_lost_total", "Lines of the log that could not be written.")
	descInflight = desc("requests_in_flight", "Requests that wait for their answer.")
	descOldest   = desc("request_oldest_seconds", "Age of the request that waits longest.")
	descLatency  = desc("request_duration_seconds", "How long requests took.", "operation")
	descFailed   = desc("request_errors_total", "Requests that were answered with an error.", "operation")
	descOps      = desc("mount_operations_total", "Operations of a mount.", "path", "operation")
	descOpErrors = desc("mount_errors_total", "Operations of a mount that failed.", "path", "operation")
	descRead     = desc("mount_read_bytes_total", "Bytes read from a mount.", "path")
	descWritten  = desc("mount_written_bytes_total", "Bytes written to a mount.", "path")
	descOpen     = desc("mount_open", "Files and directories of a mount that are open.", "path")
	descFetched  = desc("image_fetched_bytes_total", "Bytes that a mount fetched from its backend.", "path")
	descRequests = desc("image_fetches_total", "Ranges that a mount asked its backend for.", "path")
	descAhead    = desc("image_prefetched_bytes_total", "Bytes that a mount fetched ahead.", "path")
	descUsed     = desc("cache_used_bytes", "Bytes of a cache on disk.", "dir")
	descHits     = desc("cache_hits_total", "Chunks that were in a cache.", "dir")
	descMisses   = desc("cache_misses_total", "Chunks that a reader had to wait for.", "dir")
	descEvicted  = desc("cache_evicted_total", "Chunks that were evicted.", "dir")
	descWrong    = desc("cache_mismatches_total", "Chunks that came with wrong bytes.", "dir")
)

// Describe is that of a prometheus.Collector: metrics are found by collecting.
func (c *collector) Describe(ch chan<- *prometheus.Desc) { ch <- descUp }

// Collect is that of a prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	running := 0.0
	if c.d.State() == Running {
		running = 1
	}
	all := c.d.list()
	gauge(descUp, running)
	gauge(descMounts, float64(len(all)))
	count(ch, descLogLost, c.d.logLost())
	c.server(ch, gauge)
	for _, i := range all {
		i.collect(ch)
	}
	for dir, s := range c.d.opener.all() {
		st := s.Stats()
		gauge(descUsed, float64(s.Used()), dir)
		count(ch, descHits, st.Hits, dir)
		count(ch, descMisses, st.Misses, dir)
		count(ch, descEvicted, st.Evicted, dir)
		count(ch, descWrong, st.Mismatches, dir)
	}
}

func count(ch chan<- prometheus.Metric, d *prometheus.Desc, n uint64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
}

func (c *collector) server(ch chan<- prometheus.Metric, gauge func(*prometheus.Desc, float64, ...string)) {
	server := c.d.Server()
	if server == nil {
		return
	}
	waiting := server.Running()
	gauge(descInflight, float64(len(waiting)))
	oldest := 0.0
	if len(waiting) > 0 {
		oldest = waiting[0].Age.Seconds()
	}
	gauge(descOldest, oldest)
	for op, h := range server.Latencies() {
		ch <- prometheus.MustNewConstSummary(descLatency, h.Count, h.Sum.Seconds(), map[float64]float64{
			0.5: h.Quantile(0.5).Seconds(), 0.99: h.Quantile(0.99).Seconds(),
		}, op)
		count(ch, descFailed, h.Errors, op)
	}
}

func (i *instance) collect(ch chan<- prometheus.Metric) {
	st, p := i.mount.Stats(), i.spec.Path
	for op, n := range st.Ops {
		count(ch, descOps, n, p, op)
	}
	for op, n := range st.Errors {
		count(ch, descOpErrors, n, p, op)
	}
	count(ch, descRead, st.ReadBytes, p)
	count(ch, descWritten, st.WriteBytes, p)
	ch <- prometheus.MustNewConstMetric(descOpen, prometheus.GaugeValue, float64(st.Open), p)
	if img := i.imageStats(); img != nil {
		count(ch, descFetched, uint64(img.FetchedBytes), p)
		count(ch, descRequests, uint64(img.FetchedRequests), p)
		count(ch, descAhead, uint64(img.PrefetchBytes), p)
	}
}

// metricsHandler answers in Prometheus' form.
func (d *Daemon) metricsHandler() http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(&collector{d}, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{})
}
