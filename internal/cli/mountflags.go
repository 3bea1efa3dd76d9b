package cli

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/pflag"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/serve"
	"github.com/sluicefs/sluice/internal/source"
	"github.com/sluicefs/sluice/storage/backend"
	"github.com/sluicefs/sluice/storage/cache"
)

// sourceFlags say where an image comes from and how its data is kept: what
// mount, run and record have in common.
type sourceFlags struct {
	kind        string
	blobDir     string
	plainHTTP   bool
	certsDir    string
	platform    string
	cacheDir    string
	quota       string
	verify      bool
	onOutage    string
	retry       time.Duration
	timeout     time.Duration
	endpoint    string
	region      string
	prefetch    string
	rate        string
	preRate     string
	profile     string
	transport   string
	passthrough string
	shareLocks  bool
	debug       bool
}

func (f *sourceFlags) add(fs *pflag.FlagSet, env *Env) {
	fs.StringVar(&f.kind, "type", "auto", "kind of source: "+kindNames())
	fs.StringVar(&f.blobDir, "blob-dir", "", "directory, or disk with partitions, with the blobs of a bootstrap (default: beside it)")
	fs.BoolVar(&f.plainHTTP, "plain-http", false, "speak HTTP to the registry (loopback ones always are)")
	fs.StringVar(&f.certsDir, "certs-dir", "", "directories of hosts.toml files, separated by colons: mirrors and authorities of registries (default /etc/containerd/certs.d:/etc/docker/certs.d)")
	fs.StringVar(&f.platform, "platform", "linux/"+runtime.GOARCH, "platform, for images of several")
	fs.StringVar(&f.cacheDir, "cache-dir", defaultCacheDir(env), "directory for fetched data")
	fs.StringVar(&f.quota, "cache-size", "0", "bytes that the cache may take, with K, M, G or T; 0 is the limit of 'sluice cache limit', if any")
	fs.BoolVar(&f.verify, "verify", false, "verify cached data again at its first use (what is fetched always is)")
	fs.StringVar(&f.onOutage, "on-outage", "wait", "reads while the origin is away: wait or error")
	fs.DurationVar(&f.retry, "retry", 30*time.Second, "how long a failed fetch is tried again before that")
	fs.DurationVar(&f.timeout, "timeout", 0, "how long a server may take to begin an answer, or to send the next 16 KiB (default 15s and 10s)")
	fs.StringVar(&f.endpoint, "endpoint", env.Getenv("AWS_ENDPOINT_URL"), "host or URL of the object store (default: $AWS_ENDPOINT_URL, else the store's own)")
	fs.StringVar(&f.region, "region", "", "region of the object store")
	fs.StringVar(&f.prefetch, "prefetch", "image", "fetch ahead: image (what it asks for), all, none")
	fs.StringVar(&f.rate, "rate", "0", "bytes per second that are fetched at most, with K, M, G or T; 0 is no limit")
	fs.StringVar(&f.preRate, "prefetch-rate", "0", "bytes per second that are fetched ahead at most; 0 is no limit of its own")
	fs.StringVar(&f.profile, "profile", "", "fetch ahead by a profile that 'sluice record' wrote")
	fs.StringVar(&f.transport, "io", "auto", "way of requests: auto, classic, clone, uring")
	fs.StringVar(&f.passthrough, "passthrough", "auto", "let the kernel read files itself: auto (those of a directory), on (also those of an image of 1 MiB or more: once all of such a file is here it is copied in one piece, which takes disk space again, and each open of an image's file then costs a request), off")
	fs.BoolVar(&f.shareLocks, "share-locks", false, "locks on files of a directory count for those who use it directly, too (each close then costs a request)")
	fs.BoolVar(&f.debug, "debug", false, "log all requests")
}

// splitDirs splits a list of directories; the empty one is nil, the default.
func splitDirs(list string) []string {
	if list == "" {
		return nil
	}
	return filepath.SplitList(list)
}

func kindNames() string {
	names := make([]string, len(source.Kinds))
	for i, k := range source.Kinds {
		names[i] = string(k)
	}
	return strings.Join(names, ", ")
}

// defaultCacheDir is /var/cache/sluice for root and sluice in the user's
// cache directory for others.
func defaultCacheDir(env *Env) string {
	if d := env.Getenv("SLUICE_CACHE_DIR"); d != "" {
		return d
	}
	if os.Geteuid() == 0 && env.Getenv(inNamespace) == "" {
		return "/var/cache/sluice"
	}
	if d := env.Getenv("XDG_CACHE_HOME"); d != "" {
		return filepath.Join(d, "sluice")
	}
	if d := env.Getenv("HOME"); d != "" {
		return filepath.Join(d, ".cache", "sluice")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("sluice-cache-%d", os.Geteuid()))
}

// oneOf returns a usage error if v is none of the choices.
func oneOf(flag, v string, choices ...string) error {
	if slices.Contains(choices, v) {
		return nil
	}
	return usageError{fmt.Errorf("--%s is %q: want one of %s", flag, v, strings.Join(choices, ", "))}
}

// parseSize reads a number of bytes with an optional unit.
func parseSize(s string) (int64, error) {
	shift := 0
	num := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(s), "B"), "I")
	if i := strings.IndexAny("KMGT", lastByte(num)); i >= 0 && num != "" {
		shift = 10 * (i + 1)
		num = num[:len(num)-1]
	}
	n, err := strconv.ParseInt(num, 10, 64)
	if err != nil || n < 0 || n > (1<<62)>>shift {
		return 0, fmt.Errorf("%q is not a size", s)
	}
	return n << shift, nil
}

func lastByte(s string) string {
	if s == "" {
		return " "
	}
	return s[len(s)-1:]
}

// transports are what --io takes.
var transports = map[string]struct {
	transport fuse.Transport
	clone     bool
}{
	"auto": {fuse.TransportAuto, false}, "classic": {fuse.TransportDevice, false},
	"clone": {fuse.TransportDevice, true}, "uring": {fuse.TransportURing, false},
}

// config checks the flags and puts them into the form that serve has them.
func (f *sourceFlags) config(env *Env) (serve.Config, error) {
	var c serve.Config
	quota, err := parseSize(f.quota)
	if err != nil {
		return c, usageError{fmt.Errorf("--cache-size: %w", err)}
	}
	rate, err := parseSize(f.rate)
	if err != nil {
		return c, usageError{fmt.Errorf("--rate: %w", err)}
	}
	preRate, err := parseSize(f.preRate)
	if err != nil {
		return c, usageError{fmt.Errorf("--prefetch-rate: %w", err)}
	}
	platform, err := v1.ParsePlatform(f.platform)
	if err != nil {
		return c, usageError{fmt.Errorf("--platform: %w", err)}
	}
	err = errors.Join(
		oneOf("on-outage", f.onOutage, "wait", "error"),
		oneOf("prefetch", f.prefetch, "image", "all", "none"),
		oneOf("io", f.transport, "auto", "classic", "clone", "uring"),
		oneOf("passthrough", f.passthrough, "auto", "on", "off"),
		oneOf("type", f.kind, strings.Split(kindNames(), ", ")...),
	)
	if err != nil {
		return c, usageError{err}
	}
	logger := slog.New(slog.NewTextHandler(env.Stderr, nil))
	outage, err := backend.ParsePolicy(f.onOutage)
	if err != nil {
		return c, usageError{err}
	}
	c = serve.Config{
		Source: source.Options{
			CacheDir: f.cacheDir, BlobDir: f.blobDir, PlainHTTP: f.plainHTTP, CertsDirs: splitDirs(f.certsDir), Platform: platform,
			Endpoint: f.endpoint, Region: f.region, Outage: outage, RetryDeadline: f.retry, Timeout: f.timeout, Log: logger,
			Warn:     func(format string, args ...any) { fmt.Fprintf(env.Stderr, "sluice: "+format+"\n", args...) },
			Fetching: fetchProgress(env),
		},
		Cache:       cache.Options{Quota: quota},
		Fetch:       cache.ReaderOptions{Rate: backend.NewRate(rate), PrefetchRate: backend.NewRate(preRate)},
		Transport:   transports[f.transport].transport,
		CloneFd:     transports[f.transport].clone,
		Passthrough: f.passthrough,
		ShareLocks:  f.shareLocks,
		Prefetch:    f.prefetch,
		Profile:     f.profile,
		Debug:       f.debug,
		Log:         logger,
	}
	if f.verify {
		c.Cache.Verify = cache.VerifyFirst
	}
	return c, nil
}

// mountFlags are what mount has beside.
type mountFlags struct {
	sourceFlags
	readOnly     bool
	allowOther   bool
	uid, gid     int64
	cacheTimeout time.Duration
	daemonize    bool
	log          string
	trace        string
	options      []string // of -o
	kernel       []string // of these, those for the kernel
}

func (f *mountFlags) add(fs *pflag.FlagSet, env *Env) {
	f.sourceFlags.add(fs, env)
	fs.BoolVarP(&f.readOnly, "read-only", "r", false, "refuse writes (images and archives always do)")
	fs.BoolVar(&f.allowOther, "allow-other", os.Geteuid() == 0, "let other users in")
	fs.Int64Var(&f.uid, "uid", -1, "show this user as the owner of everything")
	fs.Int64Var(&f.gid, "gid", -1, "show this group as the owner of everything")
	fs.DurationVar(&f.cacheTimeout, "cache-timeout", 0, "how long the kernel may keep names and attributes (default: for ever for images and archives, 1s for directories)")
	fs.BoolVarP(&f.daemonize, "daemonize", "d", false, "return when the mount is ready and serve it in the background")
	fs.StringVar(&f.log, "log", "", "log file of the background process (default: beside the list of mounts)")
	fs.StringVar(&f.trace, "trace", "", "write all requests to this file, as lines of JSON")
	fs.StringSliceVarP(&f.options, "options", "o", nil, "options as in /etc/fstab, separated by commas")
}

func (f *mountFlags) config(env *Env) (serve.Config, error) {
	if err := f.applyOptions(); err != nil {
		return serve.Config{}, err
	}
	c, err := f.sourceFlags.config(env)
	if err != nil {
		return c, err
	}
	if f.cacheTimeout < 0 {
		return c, usageError{errors.New("--cache-timeout is negative")}
	}
	c.ReadOnly, c.AllowOther, c.CacheTimeout = f.readOnly, f.allowOther, f.cacheTimeout
	if c.UID, err = ownerID("uid", f.uid); err != nil {
		return c, err
	}
	c.GID, err = ownerID("gid", f.gid)
	return c, err
}

// ownerID returns nil for -1, which is "as it is".
func ownerID(flag string, id int64) (*uint32, error) {
	if id == -1 {
		return nil, nil
	}
	if id < 0 || id >= 1<<32-1 {
		return nil, usageError{fmt.Errorf("--%s is %d: want 0 to 4294967294", flag, id)}
	}
	v := uint32(id)
	return &v, nil
}

// inNamespace is the environment variable that is set in the user namespace
// in which sluice has started itself again.
const inNamespace = "SLUICE_IN_NAMESPACE"
