package fuseprom_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/fuse/fuseprom"
	"github.com/sluicefs/sluice/fuse/fusetest"
)

type attrFS struct{ fuse.RawFileSystem }

func (attrFS) GetAttr(<-chan struct{}, *fuse.GetAttrIn, *fuse.AttrOut) fuse.Status { return fuse.OK }

func (attrFS) Lookup(<-chan struct{}, *fuse.InHeader, string, *fuse.EntryOut) fuse.Status {
	return fuse.ENOENT
}

func TestCollector(t *testing.T) {
	k := fusetest.NewKernel(fusetest.Options{})
	s := fuse.NewServerOn(attrFS{fuse.NewDefaultRawFileSystem()}, k, nil)
	go s.Serve()
	defer s.Wait()
	defer k.Close()
	k.Init()
	for range 3 {
		k.Getattr(1)
	}
	k.Lookup(1, "none")

	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(fuseprom.New(s, prometheus.Labels{"mount": "/mnt"}))
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.Metric {
			key := f.GetName()
			for _, l := range m.Label {
				if l.GetName() != "mount" {
					key += " " + l.GetValue()
				}
			}
			switch {
			case m.Histogram != nil:
				found[key] = float64(m.Histogram.GetSampleCount())
			case m.Counter != nil:
				found[key] = m.Counter.GetValue()
			default:
				found[key] = m.Gauge.GetValue()
			}
		}
	}
	for key, want := range map[string]float64{
		"fuse_request_duration_seconds GETATTR": 3,
		"fuse_request_duration_seconds LOOKUP":  1,
		"fuse_request_errors_total LOOKUP":      1,
		"fuse_requests_running":                 0,
		"fuse_session_info fake":                1,
		"fuse_events_total panic":               0,
	} {
		if got, ok := found[key]; !ok || got != want {
			t.Errorf("%s: %v, want %v", key, got, want)
		}
	}
}
