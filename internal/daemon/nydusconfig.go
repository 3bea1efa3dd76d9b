package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/pelletier/go-toml/v2"
)

// nydusConfig is what counts of a nydusd configuration, of either generation.
type nydusConfig struct {
	ID        string
	Type      string // of the backend
	Backend   backendConfig
	CacheType string
	WorkDir   string
	Prefetch  prefetchConfig
	Xattr     bool
	Validate  bool
	Amplify   *int64 // bytes to fetch at least around a read, nil if not said
	Access    accessConfig

	route proxyRoute
	raw   map[string]any // as given, for those who ask; secrets are taken out

	mu   sync.Mutex
	auth string // set while running, before Backend.Auth
}

// backendConfig has the fields of all backends.
type backendConfig struct {
	// localfs, localdisk
	BlobFile   string   `json:"blob_file"`
	Dir        string   `json:"dir"`
	AltDirs    []string `json:"alt_dirs"`
	DevicePath string   `json:"device_path"`
	DisableGPT bool     `json:"disable_gpt"`

	// registry
	Host               string `json:"host"`
	Repo               string `json:"repo"`
	Auth               string `json:"auth"` // base64 of user:password
	RegistryToken      string `json:"registry_token"`
	BlobURLScheme      string `json:"blob_url_scheme"`
	BlobRedirectedHost string `json:"blob_redirected_host"`

	// oss, s3
	Endpoint        string `json:"endpoint"`
	BucketName      string `json:"bucket_name"`
	ObjectPrefix    string `json:"object_prefix"`
	AccessKeyID     string `json:"access_key_id"`
	AccessKeySecret string `json:"access_key_secret"`
	Region          string `json:"region"`

	// http-proxy
	Addr string `json:"addr"` // URL, or the path of a unix socket
	Path string `json:"path"`

	Scheme         string   `json:"scheme"`
	SkipVerify     bool     `json:"skip_verify"`
	CACertFiles    []string `json:"ca_cert_files"`
	Timeout        int      `json:"timeout"`         // seconds
	ConnectTimeout int      `json:"connect_timeout"` // seconds
	RetryLimit     int      `json:"retry_limit"`
	Proxy          struct {
		URL           string `json:"url"`
		PingURL       string `json:"ping_url"`
		Fallback      *bool  `json:"fallback"` // nil means true
		CheckInterval int    `json:"check_interval"`
		UseHTTP       bool   `json:"use_http"`
		CheckPause    int    `json:"check_pause_elapsed"`
	} `json:"proxy"`
}

type prefetchConfig struct {
	Enable    bool `json:"enable"`
	All       bool `json:"prefetch_all"`
	Threads   int  `json:"threads"`
	ThreadsV1 int  `json:"threads_count"`
	Limit     int  `json:"bandwidth_limit"`
	LimitV1   int  `json:"bandwidth_rate"`
}

// accessConfig says what to remember of reads.
type accessConfig struct {
	IOStats bool `json:"iostats_files"`
	Pattern bool `json:"access_pattern"`
	Latest  bool `json:"latest_read_files"`
}

func (a accessConfig) any() bool { return a.IOStats || a.Pattern || a.Latest }

type configV1 struct {
	Device *struct {
		ID      string `json:"id"`
		Backend struct {
			Type   string        `json:"type"`
			Config backendConfig `json:"config"`
		} `json:"backend"`
		Cache struct {
			Type     string `json:"type"`
			Validate bool   `json:"validate"`
			Config   struct {
				WorkDir string `json:"work_dir"`
			} `json:"config"`
		} `json:"cache"`
	} `json:"device"`
	DigestValidate bool   `json:"digest_validate"`
	EnableXattr    bool   `json:"enable_xattr"`
	AmplifyIO      *int64 `json:"amplify_io"`
	accessConfig
	Prefetch prefetchConfig `json:"fs_prefetch"`
}

type configV2 struct {
	Version int    `json:"version"`
	ID      string `json:"id"`
	Backend struct {
		Type      string         `json:"type"`
		LocalFS   *backendConfig `json:"localfs"`
		LocalDisk *backendConfig `json:"localdisk"`
		OSS       *backendConfig `json:"oss"`
		S3        *backendConfig `json:"s3"`
		Registry  *backendConfig `json:"registry"`
		HTTPProxy *backendConfig `json:"http-proxy"`
	} `json:"backend"`
	Cache struct {
		Type      string `json:"type"`
		Validate  bool   `json:"validate"`
		FileCache struct {
			WorkDir string `json:"work_dir"`
		} `json:"filecache"`
		Prefetch prefetchConfig `json:"prefetch"`
	} `json:"cache"`
	RAFS struct {
		accessConfig
		BatchSize *int64         `json:"batch_size"`
		Validate  bool           `json:"validate"`
		Xattr     bool           `json:"enable_xattr"`
		Prefetch  prefetchConfig `json:"prefetch"`
	} `json:"rafs"`
}

// maxConfig bounds a configuration.
const maxConfig = 1 << 20

// parseNydusConfig reads a configuration: v1 is JSON; v2 says so, and is JSON
// or TOML. Its error is a configError.
func parseNydusConfig(b []byte) (*nydusConfig, error) {
	c, err := decodeNydusConfig(b)
	if err != nil {
		return nil, &configError{err}
	}
	return c, nil
}

// configError says what is wrong with a configuration.
type configError struct{ err error }

func (e *configError) Error() string { return "configuration: " + e.err.Error() }

func (e *configError) Unwrap() error { return e.err }

func decodeNydusConfig(b []byte) (*nydusConfig, error) {
	if len(b) > maxConfig {
		return nil, fmt.Errorf("%d bytes are more than %d", len(b), maxConfig)
	}
	b = bytes.TrimSpace(b)
	if len(b) == 0 {
		return nil, errors.New("is empty: a backend is needed")
	}
	var raw map[string]any
	if b[0] == '{' {
		if err := json.Unmarshal(b, &raw); err != nil {
			return nil, err
		}
	} else {
		if err := toml.Unmarshal(b, &raw); err != nil {
			return nil, fmt.Errorf("neither JSON nor TOML: %w", err)
		}
		var err error
		if b, err = json.Marshal(raw); err != nil {
			return nil, err
		}
	}
	c := &nydusConfig{raw: raw}
	var err error
	if _, two := raw["version"]; two {
		err = c.two(b)
	} else {
		err = c.one(b)
	}
	if err != nil {
		return nil, err
	}
	hideSecrets(c.raw)
	return c, nil
}

func (c *nydusConfig) one(b []byte) error {
	var v configV1
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	if v.Device == nil {
		return errors.New("no device section")
	}
	c.ID, c.Type, c.Backend = v.Device.ID, v.Device.Backend.Type, v.Device.Backend.Config
	c.CacheType, c.WorkDir = v.Device.Cache.Type, v.Device.Cache.Config.WorkDir
	c.Prefetch, c.Xattr = v.Prefetch, v.EnableXattr
	c.Amplify, c.Access = v.AmplifyIO, v.accessConfig
	c.Validate = v.DigestValidate || v.Device.Cache.Validate
	return nil
}

func (c *nydusConfig) two(b []byte) error {
	var v configV2
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	if v.Version != 2 {
		return fmt.Errorf("version %d is not known: 2 is", v.Version)
	}
	of := map[string]*backendConfig{
		"localfs": v.Backend.LocalFS, "localdisk": v.Backend.LocalDisk, "oss": v.Backend.OSS,
		"s3": v.Backend.S3, "registry": v.Backend.Registry, "http-proxy": v.Backend.HTTPProxy,
	}
	c.ID, c.Type = v.ID, v.Backend.Type
	if cfg := of[c.Type]; cfg != nil {
		c.Backend = *cfg
	} else {
		return fmt.Errorf("no section for backend type %q", c.Type)
	}
	c.CacheType, c.WorkDir = v.Cache.Type, v.Cache.FileCache.WorkDir
	c.Prefetch, c.Xattr = v.RAFS.Prefetch, v.RAFS.Xattr
	c.Amplify, c.Access = v.RAFS.BatchSize, v.RAFS.accessConfig
	if v.Cache.Prefetch.Enable {
		c.Prefetch = v.Cache.Prefetch
	}
	c.Validate = v.Cache.Validate || v.RAFS.Validate
	return nil
}

// secretKeys are never shown.
var secretKeys = map[string]bool{
	"auth": true, "registry_token": true, "access_key_id": true, "access_key_secret": true,
	"encryption_key": true, "session_token": true, "password": true,
}

// hideSecrets takes secrets out of v, wherever they are.
func hideSecrets(v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if s, ok := e.(string); ok && strings.Contains(s, "@") && strings.Contains(s, "://") {
				v[k] = withoutUser(s)
			}
			if secretKeys[strings.ToLower(k)] {
				delete(v, k)
			} else {
				hideSecrets(e)
			}
		}
	case []any:
		for _, e := range v {
			hideSecrets(e)
		}
	}
}

// withoutUser takes the user and the password out of a URL.
func withoutUser(s string) string {
	scheme, rest, _ := strings.Cut(s, "://")
	host, path, slash := strings.Cut(rest, "/")
	if i := strings.LastIndexByte(host, '@'); i >= 0 {
		host = host[i+1:]
	}
	if slash {
		path = "/" + path
	}
	return scheme + "://" + host + path
}

// cacheDir is where chunks are kept; "" keeps none.
func (c *nydusConfig) cacheDir() string {
	switch c.CacheType {
	case "", "dummycache":
		return ""
	}
	if c.WorkDir == "" {
		return "."
	}
	return c.WorkDir
}

// window is what package cache calls the wish for amplification: 0 is its own
// default, less turns it off.
func (c *nydusConfig) window() int64 {
	switch {
	case c.Amplify == nil:
		return 0
	case *c.Amplify <= 0:
		return -1
	}
	return min(*c.Amplify, maxAmplify)
}

// maxAmplify bounds what is fetched around a read.
const maxAmplify = 256 << 20

// prefetchMode is what package serve calls the wish.
func (c *nydusConfig) prefetchMode() string {
	switch {
	case !c.Prefetch.Enable:
		return "none"
	case c.Prefetch.All:
		return "all"
	}
	return "image"
}

// LocalConfig is the configuration of an image whose blobs are in a local
// directory, where the cache is too.
func LocalConfig(dir string) string {
	b, err := json.Marshal(map[string]any{
		"device": map[string]any{
			"backend": map[string]any{"type": "localfs", "config": map[string]any{"dir": dir}},
			"cache":   map[string]any{"type": "blobcache", "config": map[string]any{"work_dir": dir}},
		},
		"mode": "direct", "enable_xattr": true,
	})
	if err != nil {
		panic(err) // maps and strings are always JSON
	}
	return string(b)
}
