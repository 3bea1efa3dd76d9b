package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/passthrough"
)

// Config is the daemon's own configuration, in TOML. docs/operations.md
// explains each field.
type Config struct {
	Mountpoint string   `toml:"mountpoint"`
	Socket     string   `toml:"socket"`
	Supervisor string   `toml:"supervisor"`
	ID         string   `toml:"id"`
	CacheDir   string   `toml:"cache_dir"`
	CacheQuota Size     `toml:"cache_quota"`
	Transport  string   `toml:"transport"` // "", "device", "uring"
	Writable   bool     `toml:"writable"`
	ImagesOnly bool     `toml:"images_only"` // nothing but images: their files need no opening
	Options    []string `toml:"mount_options"`
	// Passthrough says whether the kernel reads and writes files of
	// directories by itself: "" or "auto" where it can, or "off".
	Passthrough string `toml:"passthrough"`
	// FDStore keeps what a successor needs in systemd\'s file descriptor store.
	FDStore  bool          `toml:"fd_store"`
	LogLevel string        `toml:"log_level"`
	LogFile  string        `toml:"log_file"`
	LogSize  Size          `toml:"log_size"`
	Pprof    bool          `toml:"pprof"`
	API      *RemoteConfig `toml:"api"` // over TCP; nil: only the socket
	Mounts   []MountConfig `toml:"mount"`
}

// MountConfig is one mount of a Config.
type MountConfig struct {
	Path       string   `toml:"path"`
	Source     string   `toml:"source"`
	Type       string   `toml:"type"`
	ConfigFile string   `toml:"config_file"` // nydus configuration, for type rafs
	Prefetch   []string `toml:"prefetch"`
	Record     bool     `toml:"record"`
	Overlay    *Overlay `toml:"overlay"`

	Cache  string   `toml:"cache"`   // of a directory: auto, none or always
	UIDMap []string `toml:"uid_map"` // of a directory: "in the mount:below:how many"
	GIDMap []string `toml:"gid_map"`
}

// Size is a number of bytes, written as a number or with KiB, MiB, GiB or TiB.
type Size int64

// UnmarshalText reads a size.
func (s *Size) UnmarshalText(b []byte) error {
	text := string(b)
	shift := 0
	for i, unit := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if t, ok := strings.CutSuffix(text, unit); ok {
			text, shift = strings.TrimSpace(t), 10*(i+1)
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > (1<<62)>>shift {
		return fmt.Errorf("size %q: a number of bytes, or one with KiB, MiB, GiB or TiB", b)
	}
	*s = Size(n << shift)
	return nil
}

// LoadConfig reads and checks the configuration in a file. Paths in it are
// relative to its directory.
func LoadConfig(name string) (*Config, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(filepath.Dir(name))
	if err != nil {
		return nil, err
	}
	c, err := ParseConfig(b, dir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

// ParseConfig is LoadConfig for text; dir is what paths are relative to.
func ParseConfig(b []byte, dir string) (*Config, error) {
	if len(b) > maxConfig {
		return nil, fmt.Errorf("configuration of %d bytes: at most %d", len(b), maxConfig)
	}
	var c Config
	dec := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return nil, tomlError(err)
	}
	if c.Mountpoint == "" {
		return nil, errors.New("mountpoint is missing")
	}
	if key, err := c.wrong(); err != nil {
		return nil, keyError(b, "", 0, key, err)
	}
	if a := c.API; a != nil {
		if err := a.check(); err != nil {
			return nil, keyError(b, "api", 0, "", err)
		}
		for _, p := range []*string{&a.Cert, &a.Key, &a.ClientCA, &a.TokenFile} {
			*p = under(dir, *p)
		}
	}
	for _, p := range []*string{&c.Mountpoint, &c.Socket, &c.Supervisor, &c.CacheDir, &c.LogFile} {
		*p = under(dir, *p)
	}
	seen := map[string]bool{}
	for i := range c.Mounts {
		m := &c.Mounts[i]
		m.ConfigFile = under(dir, m.ConfigFile)
		if m.Type == TypeRAFS || m.Type == TypePassthrough || strings.HasPrefix(m.Source, "./") || strings.HasPrefix(m.Source, "../") {
			m.Source = under(dir, m.Source)
		}
		m.Path = path.Clean("/" + m.Path)
		if m.Overlay != nil {
			m.Overlay.Upper, m.Overlay.Work = under(dir, m.Overlay.Upper), under(dir, m.Overlay.Work)
		}
		if seen[m.Path] {
			return nil, keyError(b, "mount", i, "path", fmt.Errorf("%s is there already", m.Path))
		}
		seen[m.Path] = true
		spec := m.spec("")
		if key, err := spec.wrong(); err != nil {
			return nil, keyError(b, "mount", i, key, err)
		}
		if m.Type == TypeRAFS && m.ConfigFile == "" {
			return nil, keyError(b, "mount", i, "config_file", errors.New("is missing: type rafs needs it"))
		}
	}
	return &c, nil
}

// wrong returns the key of c that has a wrong value, and what is wrong.
func (c *Config) wrong() (key string, err error) {
	if _, err := ParseLevel(c.LogLevel); err != nil {
		return "log_level", err
	}
	switch fuse.Transport(c.Transport) {
	case fuse.TransportAuto, fuse.TransportDevice, fuse.TransportURing:
	default:
		return "transport", fmt.Errorf("%q is unknown: device or uring, or nothing", c.Transport)
	}
	if c.Passthrough != "" && c.Passthrough != "auto" && c.Passthrough != "off" {
		return "passthrough", fmt.Errorf("%q is unknown: auto or off", c.Passthrough)
	}
	return "", nil
}

// under makes p relative to dir, unless it is absolute or empty.
func under(dir, p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(dir, p)
}

func (m *MountConfig) spec(config string) Spec {
	return Spec{
		Path: m.Path, Type: m.Type, Source: m.Source, Config: config,
		Prefetch: m.Prefetch, Record: m.Record, Overlay: m.Overlay,
		Cache: passthrough.Cache(m.Cache), UIDMap: m.UIDMap, GIDMap: m.GIDMap,
	}
}

// Specs returns what is to be mounted, with the files that are named read and
// checked.
func (c *Config) Specs() ([]Spec, error) {
	var specs []Spec
	for _, m := range c.Mounts {
		var text string
		if m.ConfigFile != "" {
			b, err := os.ReadFile(m.ConfigFile)
			if err != nil {
				return nil, fmt.Errorf("mount %s: %w", m.Path, err)
			}
			if _, err := parseNydusConfig(b); err != nil {
				return nil, fmt.Errorf("mount %s: %s: %w", m.Path, m.ConfigFile, err)
			}
			text = string(b)
		}
		specs = append(specs, m.spec(text))
	}
	return specs, nil
}
