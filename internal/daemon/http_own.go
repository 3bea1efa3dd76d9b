package daemon

import (
	"maps"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/sluicefs/sluice/api"
	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/passthrough"
	"github.com/sluicefs/sluice/internal/serve"
	"github.com/sluicefs/sluice/vfs"
)

var apiUnsupported = api.Error{
	Code: "NotSupported", Status: http.StatusNotImplemented,
	Message: "blobs for fscache are not supported: the kernel has no on-demand fscache any more",
}

// ownRoutes are the API of package api.
func ownRoutes() []route {
	return []route{
		{"GET", "/v1/daemon", (*server).info},
		{"POST", "/v1/daemon/stop", func(s *server, r *http.Request) (any, error) { return nil, s.d.Stop(r.Context(), "API") }},
		{"POST", "/v1/daemon/handover", (*server).handOver},
		{"GET", "/v1/mounts", (*server).mounts},
		{"GET", "/v1/mounts/{path...}", (*server).mount},
		{"PUT", "/v1/mounts/{path...}", (*server).putMount},
		{"DELETE", "/v1/mounts/{path...}", (*server).deleteMount},
		{"GET", "/v1/profile", (*server).profile},
		{"GET", "/v1/requests", (*server).requests},
		{"GET", "/v1/latencies", (*server).latencies},
		{"GET", "/v1/caches", (*server).caches},
		{"POST", "/v1/caches/trim", (*server).trim},
		{"GET", "/v1/log", func(s *server, _ *http.Request) (any, error) {
			return api.Log{Level: LevelName(s.d.opts.Level.Level())}, nil
		}},
		{"PUT", "/v1/log", (*server).setLog},
	}
}

func (s *server) info(*http.Request) (any, error) {
	d := s.d
	info := api.Daemon{
		ID: d.opts.ID, Version: s.version, PID: os.Getpid(), State: string(d.State()),
		Mountpoint: d.mountpoint(), Supervisor: d.opts.Supervisor, LogLevel: LevelName(d.opts.Level.Level()),
		UptimeSeconds: time.Since(d.started).Seconds(), Mounts: len(d.list()), LogLost: d.logLost(),
	}
	if server := d.Server(); server != nil && d.State() == Running {
		t := server.Transport()
		info.Transport, info.NotUsed = t.Name, t.Off
		for _, h := range server.Latencies() {
			info.Requests += h.Count
			info.Errors += h.Errors
		}
	}
	return info, nil
}

func (i *instance) describe() api.Mount {
	st := i.mount.Stats()
	m := api.Mount{
		Path: i.spec.Path, Source: i.spec.Source, Type: i.kind(), Since: i.since,
		Open: st.Open, Nodes: st.Nodes, Operations: st.Ops, Errors: st.Errors,
		ReadBytes: st.ReadBytes, WriteBytes: st.WriteBytes, BusyNS: int64(st.Busy),
	}
	if o := i.spec.Overlay; o != nil {
		m.Overlay = &api.Overlay{Upper: o.Upper, Work: o.Work}
	}
	if img := i.imageStats(); img != nil {
		m.Image = &api.Image{
			Format: img.Format, Digest: img.Digest, Inodes: img.Inodes, StoredBytes: img.StoredBytes,
			FetchedBytes: img.FetchedBytes, FetchedRequests: img.FetchedRequests,
			TouchedBytes: img.TouchedBytes, ReadBytes: img.ReadBytes, HitRate: img.HitRate,
			Prefetch: img.PrefetchState, PrefetchBytes: img.PrefetchBytes,
		}
	}
	return m
}

// imageStats is what an image knows of its use, nil for others.
func (i *instance) imageStats() *serve.ImageStats {
	if i.target.Image == nil {
		return nil
	}
	var st serve.Stats
	i.target.Image.Stats(&st)
	return st.Image
}

func (s *server) mounts(*http.Request) (any, error) {
	all := []api.Mount{}
	for _, i := range s.d.list() {
		all = append(all, i.describe())
	}
	return all, nil
}

// pathOf is the mount that a resource is.
func pathOf(r *http.Request) string { return cleanPath(r.PathValue("path")) }

func (s *server) mount(r *http.Request) (any, error) {
	i := s.d.at(pathOf(r))
	if i == nil {
		return nil, ErrNotMounted
	}
	return i.describe(), nil
}

func (s *server) putMount(r *http.Request) (any, error) {
	var in api.MountRequest
	if err := body(r, &in); err != nil {
		return nil, err
	}
	spec := Spec{
		Path: pathOf(r), Type: in.Type, Source: in.Source, Config: in.Config,
		Prefetch: in.PrefetchFiles, Record: in.Record,
		Cache: passthrough.Cache(in.CachePolicy), UIDMap: in.UIDMap, GIDMap: in.GIDMap,
	}
	if in.Overlay != nil {
		spec.Overlay = &Overlay{Upper: in.Overlay.Upper, Work: in.Overlay.Work}
	}
	if err := spec.check(); err != nil {
		return nil, badRequest("%v", err)
	}
	if r.URL.Query().Get("replace") == "1" {
		return nil, s.d.Replace(r.Context(), spec)
	}
	return nil, s.attach(r, spec)
}

func (s *server) deleteMount(r *http.Request) (any, error) {
	how := vfs.Strict
	if r.URL.Query().Get("lazy") == "1" {
		how = vfs.Lazy
	}
	return nil, s.d.Detach(r.Context(), pathOf(r), how)
}

func (s *server) profile(r *http.Request) (any, error) {
	i, err := s.instance(r, "path")
	if err != nil {
		return nil, err
	}
	if i.target.Image == nil || !i.spec.Record {
		return nil, badRequest("%s does not record what is read: mount it with record", i.spec.Path)
	}
	p, err := i.target.Image.Profile()
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (s *server) requests(*http.Request) (any, error) {
	all := []api.Request{}
	server := s.d.Server()
	if server == nil {
		return all, nil
	}
	for _, q := range server.Running() {
		item := api.Request{ID: q.Unique, Operation: q.Op, Node: q.Node, PID: q.PID, AgeNS: int64(q.Age)}
		if m := s.d.union.Of(q.Node); m != nil {
			item.Mount = m.Path()
		}
		all = append(all, item)
	}
	return all, nil
}

func (s *server) latencies(*http.Request) (any, error) {
	all := []api.Latency{}
	server := s.d.Server()
	if server == nil {
		return all, nil
	}
	hs := server.Latencies()
	for _, op := range slices.Sorted(maps.Keys(hs)) {
		all = append(all, latency(op, hs[op]))
	}
	return all, nil
}

func latency(op string, h fuse.Histogram) api.Latency {
	l := api.Latency{
		Operation: op, Count: h.Count, Errors: h.Errors,
		P50NS: int64(h.Quantile(0.5)), P99NS: int64(h.Quantile(0.99)),
	}
	if h.Count > 0 {
		l.MeanNS = int64(h.Sum) / int64(h.Count)
	}
	return l
}

func (s *server) caches(*http.Request) (any, error) {
	all := []api.Cache{}
	stores := s.d.opener.all()
	for _, dir := range slices.Sorted(maps.Keys(stores)) {
		st := stores[dir].Stats()
		all = append(all, api.Cache{
			Dir: dir, UsedBytes: stores[dir].Used(), Hits: st.Hits, Misses: st.Misses,
			FetchedBytes: st.BytesFetched, Evicted: st.Evicted, Mismatches: st.Mismatches,
		})
	}
	return all, nil
}

func (s *server) trim(r *http.Request) (any, error) {
	var in api.Trim
	if err := body(r, &in); err != nil {
		return nil, err
	}
	if in.Bytes < 0 {
		return nil, badRequest("bytes: %d", in.Bytes)
	}
	var out api.Trimmed
	found := in.Dir == ""
	for dir, c := range s.d.opener.all() {
		if in.Dir != "" && in.Dir != dir {
			continue
		}
		found = true
		n, err := c.Trim(in.Bytes)
		if err != nil {
			return nil, err
		}
		out.FreedBytes += n
	}
	if !found {
		return nil, badRequest("no cache in use is in %s", in.Dir)
	}
	return out, nil
}

func (s *server) setLog(r *http.Request) (any, error) {
	var in api.Log
	if err := body(r, &in); err != nil {
		return nil, err
	}
	if err := s.d.SetLevel(in.Level); err != nil {
		return nil, badRequest("%v", err)
	}
	return nil, nil
}

func (s *server) handOver(r *http.Request) (any, error) {
	var in api.HandOver
	if err := body(r, &in); err != nil {
		return nil, err
	}
	if in.To == "" {
		return nil, badRequest("to: the successor's socket is missing")
	}
	return nil, s.d.HandOver(r.Context(), in.To, in.Final)
}
