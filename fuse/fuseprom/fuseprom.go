// Package fuseprom exports what a [fuse.Server] counts to prometheus.
//
//	prometheus.MustRegister(fuseprom.New(server, prometheus.Labels{"mount": "/mnt"}))
package fuseprom

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluicefs/sluice/fuse"
)

// Collector collects from one server whenever prometheus asks; nothing is
// counted twice and nothing runs in between. It is safe for concurrent use.
type Collector struct {
	s        *fuse.Server
	duration *prometheus.Desc
	errors   *prometheus.Desc
	running  *prometheus.Desc
	oldest   *prometheus.Desc
	events   *prometheus.Desc
	info     *prometheus.Desc
}

var _ prometheus.Collector = (*Collector)(nil)

// New makes a collector whose metrics all carry labels, which tell mounts
// apart; it may be nil for a single one.
func New(s *fuse.Server, labels prometheus.Labels) *Collector {
	desc := func(name, help string, variable ...string) *prometheus.Desc {
		return prometheus.NewDesc("fuse_"+name, help, variable, labels)
	}
	return &Collector{
		s:        s,
		duration: desc("request_duration_seconds", "Time from the arrival of a request to its answer.", "op"),
		errors:   desc("request_errors_total", "Requests that were answered with an error.", "op"),
		running:  desc("requests_running", "Requests that wait for their answer."),
		oldest:   desc("oldest_request_seconds", "Age of the oldest request that waits for its answer."),
		events:   desc("events_total", "What else happened in the session.", "event"),
		info:     desc("session_info", "Always 1; labels say what the session uses.", "transport"),
	}
}

// Describe is part of prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.duration, c.errors, c.running, c.oldest, c.events, c.info} {
		ch <- d
	}
}

// Collect is part of prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	for op, h := range c.s.Latencies() {
		ch <- prometheus.MustNewConstHistogram(c.duration, h.Count, h.Sum.Seconds(), buckets(&h), op)
		ch <- prometheus.MustNewConstMetric(c.errors, prometheus.CounterValue, float64(h.Errors), op)
	}
	st := c.s.Stats()
	ch <- prometheus.MustNewConstMetric(c.running, prometheus.GaugeValue, float64(st.Running))
	var oldest time.Duration
	if run := c.s.Running(); len(run) > 0 {
		oldest = run[0].Age
	}
	ch <- prometheus.MustNewConstMetric(c.oldest, prometheus.GaugeValue, oldest.Seconds())
	for event, n := range map[string]uint64{
		"forget": st.Forgets, "interrupt": st.Interrupts, "cancelled": st.Cancelled,
		"expired":   st.Expired,
		"malformed": st.Malformed, "unanswered": st.Unanswered, "refused": st.Refused,
		"panic": st.Panics, "notified": st.Notified, "merged": st.Merged,
	} {
		ch <- prometheus.MustNewConstMetric(c.events, prometheus.CounterValue, float64(n), event)
	}
	ch <- prometheus.MustNewConstMetric(c.info, prometheus.GaugeValue, 1, c.s.Transport().Name)
}

// buckets thins a histogram out to one bucket for each power of two.
func buckets(h *fuse.Histogram) map[float64]uint64 {
	out := make(map[float64]uint64)
	i := 0
	h.Buckets(func(upTo time.Duration, n uint64) {
		if i++; i%4 == 0 {
			out[upTo.Seconds()] = n
		}
	})
	return out
}
