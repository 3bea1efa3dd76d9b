package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/sluicefs/sluice/storage/backend"
)

// Host is a place that has the blobs and manifests of a repository.
type Host struct {
	URL     *url.URL // scheme, host and the path before the repository, "/v2" for most
	Resolve bool     // may say which digest a tag is
	TLS     backend.TLS
	Header  http.Header
}

// hostsFile is hosts.toml as containerd documents it in docs/hosts.md.
type hostsFile struct {
	Server string `toml:"server"`
	hostConfig
	Host map[string]hostConfig `toml:"host"`
}

type hostConfig struct {
	Capabilities []string       `toml:"capabilities"`
	CA           any            `toml:"ca"`
	Client       any            `toml:"client"`
	SkipVerify   *bool          `toml:"skip_verify"`
	Header       map[string]any `toml:"header"`
	OverridePath bool           `toml:"override_path"`
}

// maxHostsFile bounds a hosts.toml, in bytes.
const maxHostsFile = 1 << 20

// ReadHosts returns the mirrors of a registry, in their order, and the
// registry itself last, from the directories of hosts.toml files; server is
// the registry where no file says otherwise. Without a file it is the server
// alone.
func ReadHosts(dirs []string, registry string, server Host) ([]Host, error) {
	for _, dir := range dirs {
		for _, name := range hostDirs(registry) {
			path := filepath.Join(dir, name, "hosts.toml")
			b, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err == nil && len(b) > maxHostsFile {
				err = errors.New("too large")
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			hosts, err := parseHosts(b, filepath.Dir(path), server)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			return hosts, nil
		}
	}
	return []Host{server}, nil
}

// hostDirs is where a registry's file may be, as containerd looks for it.
func hostDirs(registry string) []string {
	if registry == "index.docker.io" {
		registry = "docker.io"
	}
	names := []string{registry}
	if host, port, ok := strings.Cut(registry, ":"); ok {
		names = append(names, host+"_"+port+"_", host)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return strings.ContainsAny(n, `/\`) || n == ".." || n == "." })
	return append(names, "_default")
}

func parseHosts(b []byte, dir string, server Host) ([]Host, error) {
	var f hostsFile
	if err := toml.Unmarshal(b, &f); err != nil {
		return nil, err
	}
	var hosts []Host
	for _, name := range hostOrder(b) {
		c, ok := f.Host[name]
		if !ok {
			continue
		}
		h, pull, err := c.host(name, dir)
		if err != nil {
			return nil, err
		}
		if pull {
			hosts = append(hosts, h)
		}
	}
	if f.Server != "" {
		h, _, err := f.hostConfig.host(f.Server, dir)
		if err != nil {
			return nil, err
		}
		h.Resolve = true
		server = h
	}
	return append(hosts, server), nil
}

// hostOrder lists the [host."…"] tables in the order of the file, which
// decoding into a map loses.
func hostOrder(b []byte) []string {
	var order []string
	var p unstable.Parser
	p.Reset(b)
	for p.NextExpression() {
		e := p.Expression()
		if e.Kind != unstable.Table {
			continue
		}
		var keys []string
		for it := e.Key(); it.Next(); {
			keys = append(keys, string(it.Node().Data))
		}
		if len(keys) >= 2 && keys[0] == "host" && !slices.Contains(order, keys[1]) {
			order = append(order, keys[1])
		}
	}
	return order
}

// host makes the Host called name; pull is whether it serves blobs.
func (c *hostConfig) host(name, dir string) (h Host, pull bool, err error) {
	if !strings.Contains(name, "://") {
		name = "https://" + name
	}
	u, err := url.Parse(name)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return h, false, fmt.Errorf("host %.80q is not a URL", name)
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	if !c.OverridePath && !strings.HasSuffix(u.Path, "/v2") {
		u.Path += "/v2"
	}
	h = Host{URL: u, Header: make(http.Header)}
	h.TLS.SkipVerify = c.SkipVerify != nil && *c.SkipVerify
	for _, f := range texts(c.CA) {
		h.TLS.CAFiles = append(h.TLS.CAFiles, absolute(dir, f))
	}
	if h.TLS.Clients, err = clientPairs(c.Client, dir); err != nil {
		return h, false, err
	}
	for k, v := range c.Header {
		for _, s := range texts(v) {
			h.Header.Add(k, s)
		}
	}
	pull = len(c.Capabilities) == 0 || slices.Contains(c.Capabilities, "pull")
	h.Resolve = len(c.Capabilities) == 0 || slices.Contains(c.Capabilities, "resolve")
	return h, pull, nil
}

// texts is a value that may be one string or several.
func texts(v any) (out []string) {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		for _, e := range v {
			if s, ok := e.(string); ok {
				out = append(out, s)
			}
		}
	}
	return out
}

// clientPairs parses "file", ["file", …] and [["cert", "key"], …]; one file
// alone has both.
func clientPairs(v any, dir string) (pairs [][2]string, err error) {
	list, ok := v.([]any)
	if !ok {
		for _, f := range texts(v) {
			pairs = append(pairs, [2]string{absolute(dir, f), absolute(dir, f)})
		}
		return pairs, nil
	}
	for _, e := range list {
		switch files := texts(e); len(files) {
		case 1:
			pairs = append(pairs, [2]string{absolute(dir, files[0]), absolute(dir, files[0])})
		case 2:
			pairs = append(pairs, [2]string{absolute(dir, files[0]), absolute(dir, files[1])})
		default:
			return nil, errors.New("client: neither a file nor a pair of files")
		}
	}
	return pairs, nil
}

func absolute(dir, f string) string {
	if filepath.IsAbs(f) {
		return f
	}
	return filepath.Join(dir, f)
}
