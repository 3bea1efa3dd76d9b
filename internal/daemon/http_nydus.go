package daemon

import (
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/sluicefs/sluice/fuse/wire"
	"github.com/sluicefs/sluice/vfs"
)

// nydusRoutes are nydusd's API, versions 1 and 2.
func nydusRoutes() []route {
	return []route{
		{"GET", "/api/v1/daemon", (*server).nydusDaemon},
		{"PUT", "/api/v1/daemon", (*server).nydusConfigure},
		{"GET", "/api/v2/daemon", (*server).nydusDaemon2},
		{"PUT", "/api/v2/daemon", (*server).nydusConfigure},
		{"GET", "/api/v1/daemon/events", (*server).nydusEvents},
		{"GET", "/api/v1/daemon/backend", (*server).nydusBackend},
		{"PUT", "/api/v1/daemon/start", func(s *server, r *http.Request) (any, error) { return nil, s.d.Start("API") }},
		{"PUT", "/api/v1/daemon/exit", func(s *server, r *http.Request) (any, error) { return nil, s.d.Exit(r.Context(), "API") }},
		{"PUT", "/api/v1/daemon/fuse/sendfd", func(s *server, r *http.Request) (any, error) { return nil, s.d.SendState(r.Context()) }},
		{"PUT", "/api/v1/daemon/fuse/takeover", func(s *server, r *http.Request) (any, error) { return nil, s.d.TakeOver(r.Context(), "API") }},
		{"POST", "/api/v1/mount", (*server).nydusMount},
		{"PUT", "/api/v1/mount", (*server).nydusRemount},
		{"DELETE", "/api/v1/mount", (*server).nydusUmount},
		{"GET", "/api/v1/metrics", (*server).nydusFsMetrics},
		{"GET", "/api/v1/metrics/files", (*server).nydusFiles},
		{"GET", "/api/v1/metrics/pattern", (*server).nydusPattern},
		{"GET", "/api/v1/metrics/backend", (*server).nydusBackendMetrics},
		{"GET", "/api/v1/metrics/blobcache", (*server).nydusCacheMetrics},
		{"GET", "/api/v1/metrics/inflight", (*server).nydusInflight},
		{"GET", "/api/v1/config", (*server).nydusGetConfig},
		{"PUT", "/api/v1/config", (*server).nydusPutConfig},
		{"GET", "/api/v2/blobs", (*server).nydusBlobs},
		{"PUT", "/api/v2/blobs", (*server).nydusBlobs},
		{"DELETE", "/api/v2/blobs", (*server).nydusBlobs},
	}
}

type nydusVersion struct {
	PackageVer string `json:"package_ver"`
	GitCommit  string `json:"git_commit"`
	BuildTime  string `json:"build_time"`
	Profile    string `json:"profile"`
	Rustc      string `json:"rustc"`
}

type nydusInfo struct {
	Version    nydusVersion            `json:"version"`
	ID         *string                 `json:"id"`
	Supervisor *string                 `json:"supervisor"`
	State      State                   `json:"state"`
	Backends   map[string]nydusMounted `json:"backend_collection,omitempty"`
}

type nydusMounted struct {
	Type       string         `json:"backend_type"`
	Mountpoint string         `json:"mountpoint"`
	Since      string         `json:"mounted_time"`
	Config     map[string]any `json:"config"`
}

func (s *server) nydusDaemon2(*http.Request) (any, error) {
	optional := func(v string) *string {
		if v == "" {
			return nil
		}
		return &v
	}
	return nydusInfo{
		Version:    nydusVersion{PackageVer: "sluice " + s.version, GitCommit: s.revision, Profile: "release", Rustc: runtime.Version()},
		ID:         optional(s.d.opts.ID),
		Supervisor: optional(s.d.opts.Supervisor),
		State:      s.d.State(),
	}, nil
}

func (s *server) nydusDaemon(r *http.Request) (any, error) {
	v, _ := s.nydusDaemon2(r)
	info := v.(nydusInfo)
	info.Backends = map[string]nydusMounted{}
	for _, i := range s.d.list() {
		m := nydusMounted{Type: i.kind(), Mountpoint: i.spec.Path, Since: i.since.Format(time.RFC3339Nano)}
		if i.config != nil {
			m.Config = i.config.raw
		}
		info.Backends[i.spec.Path] = m
	}
	return info, nil
}

func (s *server) nydusConfigure(r *http.Request) (any, error) {
	var c struct {
		LogLevel string `json:"log_level"`
	}
	if err := body(r, &c); err != nil {
		return nil, err
	}
	if c.LogLevel == "" {
		return nil, nil
	}
	if err := s.d.SetLevel(c.LogLevel); err != nil {
		return nil, badRequest("%v", err)
	}
	return nil, nil
}

func (s *server) nydusEvents(*http.Request) (any, error) {
	total, last := 0, []string{}
	if s.d.opts.Events != nil {
		total, last = s.d.opts.Events.kept.list()
	}
	return map[string]any{"max_errors": maxEvents, "total_errors": total, "max_size": maxEventsSize, "errors": last}, nil
}

// mountpoint is the path that a request is about; nydusd's clients give it
// with or without the slash.
func mountpoint(r *http.Request, key string) string {
	return cleanPath(r.URL.Query().Get(key))
}

func (s *server) instance(r *http.Request, key string) (*instance, error) {
	p := mountpoint(r, key)
	if i := s.d.at(p); i != nil {
		return i, nil
	}
	// Metrics of a daemon with one mount are asked for without an id.
	if all := s.d.list(); r.URL.Query().Get(key) == "" && len(all) == 1 {
		return all[0], nil
	}
	return nil, fmt.Errorf("%s: %w", p, ErrNotMounted)
}

func (s *server) nydusBackend(r *http.Request) (any, error) {
	i, err := s.instance(r, "mountpoint")
	if err != nil {
		return nil, err
	}
	if i.config == nil {
		return map[string]any{}, nil
	}
	return i.config.raw, nil
}

type nydusMountCmd struct {
	Source        string   `json:"source"`
	FsType        string   `json:"fs_type"`
	Config        string   `json:"config"`
	PrefetchFiles []string `json:"prefetch_files"`
}

func (s *server) nydusSpec(r *http.Request) (Spec, error) {
	var c nydusMountCmd
	if err := body(r, &c); err != nil {
		return Spec{}, err
	}
	if r.URL.Query().Get("mountpoint") == "" {
		return Spec{}, badRequest("mountpoint is missing in the query")
	}
	spec := Spec{
		Path: mountpoint(r, "mountpoint"), Type: c.FsType, Source: c.Source,
		Config: c.Config, Prefetch: c.PrefetchFiles,
	}
	if spec.Type == "" {
		spec.Type = TypeRAFS
	}
	if err := spec.check(); err != nil {
		return Spec{}, badRequest("%v", err)
	}
	return spec, nil
}

func (s *server) nydusMount(r *http.Request) (any, error) {
	spec, err := s.nydusSpec(r)
	if err != nil {
		return nil, err
	}
	return nil, s.attach(r, spec)
}

func (s *server) nydusRemount(r *http.Request) (any, error) {
	spec, err := s.nydusSpec(r)
	if err != nil {
		return nil, err
	}
	return nil, s.d.Replace(r.Context(), spec)
}

func (s *server) nydusUmount(r *http.Request) (any, error) {
	return nil, s.d.Detach(r.Context(), mountpoint(r, "mountpoint"), vfs.Lazy)
}

func (s *server) nydusInflight(*http.Request) (any, error) {
	server := s.d.Server()
	if server == nil {
		return nil, nil
	}
	type item struct {
		Inode  uint64 `json:"inode"`
		Opcode uint32 `json:"opcode"`
		Unique uint64 `json:"unique"`
		Since  int64  `json:"timestamp_secs"`
	}
	var all []item
	for _, q := range server.Running() {
		op, _ := wire.ParseOpcode(q.Op)
		all = append(all, item{q.Node, uint32(op), q.Unique, time.Now().Add(-q.Age).Unix()})
	}
	if len(all) == 0 {
		return nil, nil
	}
	return all, nil
}

// hotKeys are what can be set while a mount is in use.
var hotKeys = []string{"registry_auth", "proxy_url", "dragonfly_scheduler_endpoint"}

func (s *server) nydusGetConfig(r *http.Request) (any, error) {
	i, err := s.instance(r, "id")
	if err != nil {
		return nil, err
	}
	set := map[string]string{} // secrets are not shown
	if i.config != nil {
		i.config.route.mu.Lock()
		if u := i.config.route.url; u != "" {
			if strings.Contains(u, "@") {
				u = withoutUser(u)
			}
			set["proxy_url"] = u
		}
		i.config.route.mu.Unlock()
	}
	return set, nil
}

func (s *server) nydusPutConfig(r *http.Request) (any, error) {
	i, err := s.instance(r, "id")
	if err != nil {
		return nil, err
	}
	var set map[string]string
	if err := body(r, &set); err != nil {
		return nil, err
	}
	for k, v := range set {
		switch {
		case k == "registry_auth" && i.config != nil:
			if err := i.config.setAuth(v); err != nil {
				return nil, badRequest("%v", err)
			}
		case k == "proxy_url" && i.config != nil:
			if err := i.config.setProxy(v); err != nil {
				return nil, badRequest("%v", err)
			}
		case slices.Contains(hotKeys, k):
			return nil, badRequest("%s cannot be changed while %s is mounted: mount it again", k, i.spec.Path)
		default:
			return nil, badRequest("%q is unknown: one of %s", k, strings.Join(hotKeys, ", "))
		}
	}
	return nil, nil
}

// nydusBlobs is for the kernel's fscache, which is gone from Linux 6.12 on.
func (s *server) nydusBlobs(*http.Request) (any, error) {
	return nil, &apiUnsupported
}

// nydusFiles and nydusPattern tell which files were read, as far as the mount
// records that.
func (s *server) nydusFiles(r *http.Request) (any, error) {
	i, err := s.instance(r, "id")
	if err != nil {
		return nil, err
	}
	latest := r.URL.Query().Get("latest") == "true"
	told := i.access.tells()
	switch {
	case latest && told.Latest:
		return i.access.recent(), nil
	case latest:
		return [][2]uint64{}, nil
	case told.IOStats:
		return i.access.counts(), nil
	}
	return map[uint64]nydusFile{}, nil
}

func (s *server) nydusPattern(r *http.Request) (any, error) {
	i, err := s.instance(r, "id")
	if err != nil {
		return nil, err
	}
	if !i.access.tells().Pattern {
		return []nydusAccess{}, nil
	}
	return i.access.pattern(), nil
}
