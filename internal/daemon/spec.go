package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/detect"
	"github.com/sluicefs/sluice/internal/passthrough"
	"github.com/sluicefs/sluice/internal/serve"
	"github.com/sluicefs/sluice/internal/source"
	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/backend"
	"github.com/sluicefs/sluice/storage/cache"
	"github.com/sluicefs/sluice/vfs"
)

// What a Spec's Type can be.
const (
	TypeRAFS        = "rafs"           // a bootstrap, with a nydus configuration
	TypePassthrough = "passthrough_fs" // a directory, read-write
	TypeAuto        = ""               // what "sluice mount" takes
)

// Spec says what is to be mounted where in the union.
type Spec struct {
	Path     string   `json:"path"` // in the union, absolute
	Type     string   `json:"type,omitempty"`
	Source   string   `json:"source"`
	Config   string   `json:"config,omitempty"`         // nydus configuration, JSON or TOML
	Prefetch []string `json:"prefetch_files,omitempty"` // to fetch ahead
	Record   bool     `json:"record,omitempty"`         // keep what is read, for a profile
	Overlay  *Overlay `json:"overlay,omitempty"`

	// For directories.
	Cache  passthrough.Cache `json:"cache_policy,omitempty"`
	UIDMap []string          `json:"uid_map,omitempty"` // "in the mount:below:how many"
	GIDMap []string          `json:"gid_map,omitempty"`
}

// Overlay makes an image writable: the kernel's overlay file system is mounted
// over it.
type Overlay struct {
	Upper string `json:"upper"`
	Work  string `json:"work"`
}

func (s *Spec) check() error {
	if _, err := s.wrong(); err != nil {
		return fmt.Errorf("mountpoint %s: %w", s.Path, err)
	}
	return nil
}

// wrong returns what is wrong with s, and what that is called in a
// configuration.
func (s *Spec) wrong() (key string, err error) {
	if !strings.HasPrefix(s.Path, "/") || path.Clean(s.Path) != s.Path {
		return "path", fmt.Errorf("%q is not a clean absolute path", s.Path)
	}
	if s.Source == "" {
		return "source", errors.New("no source")
	}
	switch s.Type {
	case TypeRAFS, TypePassthrough, TypeAuto:
	default:
		return "type", fmt.Errorf("file system type %q is unknown: rafs or passthrough_fs", s.Type)
	}
	if err := s.Cache.Check(); err != nil {
		return "cache", err
	}
	if _, err := passthrough.ParseIDMap(s.UIDMap); err != nil {
		return "uid_map", err
	}
	if _, err := passthrough.ParseIDMap(s.GIDMap); err != nil {
		return "gid_map", err
	}
	if s.Overlay != nil && (s.Overlay.Upper == "" || s.Overlay.Work == "") {
		return "overlay", errors.New("an overlay needs an upper and a work directory")
	}
	return "", nil
}

// same reports whether two specs mount the same in the same way.
func (s *Spec) same(other Spec) bool {
	return reflect.DeepEqual(*s, other)
}

// instance is something that is mounted.
type instance struct {
	spec    Spec
	config  *nydusConfig // nil without one
	target  *serve.Target
	dir     *passthrough.FS // nil if it is not a directory
	backend *measured       // nil if it is not an image
	access  *accessed       // nil if reads are not remembered
	mount   *vfs.Mount
	since   time.Time
	closers []io.Closer
}

func (i *instance) close() error {
	var errs []error
	if i.target != nil {
		errs = append(errs, i.target.Close())
	}
	for k := len(i.closers) - 1; k >= 0; k-- {
		errs = append(errs, i.closers[k].Close())
	}
	return errors.Join(errs...)
}

// kind is the type of i for those who look at it.
func (i *instance) kind() string {
	if i.spec.Type != TypeAuto {
		return i.spec.Type
	}
	return i.target.Type
}

// opener opens what specs name; images share the stores of their cache
// directories.
type opener struct {
	cacheDir    string // for sources that name none
	quota       int64
	nydusLayout bool
	log         *slog.Logger
	passthrough string
	pullAuth    string // of registries, before what configurations say
	stateDir    string // for the nodes of directories; "" keeps them in this process

	tables atomic.Int64 // files made there

	mu     sync.Mutex
	stores map[string]*sharedStore
}

type sharedStore struct {
	*cache.Cache
	o     *opener
	dir   string
	users int
}

// store opens the cache in dir, or shares it.
func (o *opener) store(dir string) (*sharedStore, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s := o.stores[dir]; s != nil {
		s.users++
		return s, nil
	}
	if dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("cache directory: %w", err)
		}
	}
	c, err := cache.Open(dir, cache.Options{Quota: o.quota, NydusLayout: o.nydusLayout, Log: o.log})
	if err != nil {
		return nil, err
	}
	s := &sharedStore{Cache: c, o: o, dir: dir, users: 1}
	if o.stores == nil {
		o.stores = map[string]*sharedStore{}
	}
	o.stores[dir] = s
	return s, nil
}

// Close closes the store with its last user.
func (s *sharedStore) Close() error {
	s.o.mu.Lock()
	defer s.o.mu.Unlock()
	if s.users--; s.users > 0 {
		return nil
	}
	delete(s.o.stores, s.dir)
	return s.Cache.Close()
}

// all returns the stores that are open, by directory.
func (o *opener) all() map[string]*cache.Cache {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := make(map[string]*cache.Cache, len(o.stores))
	for dir, s := range o.stores {
		all[dir] = s.Cache
	}
	return all
}

// open opens what spec names.
func (o *opener) open(ctx context.Context, spec Spec) (*instance, error) {
	if err := spec.check(); err != nil {
		return nil, err
	}
	i := &instance{spec: spec, since: time.Now()}
	var err error
	switch spec.Type {
	case TypeRAFS:
		err = o.rafs(ctx, i)
	case TypePassthrough:
		err = o.directory(i, spec.Source)
	default:
		err = o.auto(ctx, i)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", spec.Source, err), i.close())
	}
	return i, nil
}

// config is what package serve is told.
func (o *opener) config(i *instance, prefetch string) serve.Config {
	return serve.Config{
		Source:        source.Options{CacheDir: o.cacheDir},
		Cache:         cache.Options{Quota: o.quota, NydusLayout: o.nydusLayout},
		AllowOther:    true,
		Passthrough:   o.passthrough,
		Prefetch:      prefetch,
		PrefetchPaths: i.spec.Prefetch,
		Record:        i.spec.Record,
		Log:           o.log,
	}
}

// auto opens whatever "sluice mount" would.
func (o *opener) auto(ctx context.Context, i *instance) error {
	ref, err := source.Parse(i.spec.Source, source.Auto)
	if err != nil {
		return err
	}
	c := o.config(i, "image")
	switch {
	case ref.Kind == source.Directory:
		return o.directory(i, ref.Name)
	case !ref.Kind.Image():
		c.Portable = true
		i.target, err = serve.Open(ctx, ref, c)
		return err
	}
	img, err := source.OpenImage(ctx, ref, c.Source)
	if err != nil {
		return err
	}
	i.closers = append(i.closers, img)
	if img.Backend != nil {
		i.backend = measure(img.Backend)
		img.Backend = i.backend
	}
	return o.show(i, img, filepath.Join(o.cacheDir, "chunks"), c)
}

// directory opens a directory, read-write.
func (o *opener) directory(i *instance, name string) (err error) {
	opts := passthrough.Options{Cache: i.spec.Cache, NoPassthrough: o.passthrough == "off", Log: o.log}
	if opts.UIDs, err = passthrough.ParseIDMap(i.spec.UIDMap); err != nil {
		return err
	}
	if opts.GIDs, err = passthrough.ParseIDMap(i.spec.GIDMap); err != nil {
		return err
	}
	if o.stateDir != "" {
		if err := os.MkdirAll(o.stateDir, 0o700); err != nil {
			return fmt.Errorf("state directory: %w", err)
		}
		opts.Table = filepath.Join(o.stateDir, fmt.Sprintf("nodes-%d-%d-%d", os.Getpid(), i.since.UnixNano(), o.tables.Add(1)))
	}
	f, err := passthrough.New(name, opts)
	if err != nil {
		return err
	}
	i.dir = f
	i.target = &serve.Target{FS: f, Type: string(source.Directory)}
	return nil
}

// rafs opens a bootstrap with a nydus configuration.
func (o *opener) rafs(ctx context.Context, i *instance) error {
	cfg, err := parseNydusConfig([]byte(i.spec.Config))
	if err != nil {
		return err
	}
	i.config = cfg
	if o.pullAuth != "" {
		if err := cfg.setAuth(o.pullAuth); err != nil {
			return err
		}
	}
	b, err := cfg.backend(o.log)
	if err != nil {
		return err
	}
	if c, ok := b.(io.Closer); ok {
		i.closers = append(i.closers, c)
	}
	i.backend = measure(b)
	b = i.backend
	tree, err := openTree(ctx, i.spec.Source, b)
	if err != nil {
		return err
	}
	i.closers = append(i.closers, tree)
	img := &source.Image{
		Ref:  source.Ref{Kind: source.Bootstrap, Text: i.spec.Source, Name: i.spec.Source},
		Tree: tree, Backend: b,
	}
	c := o.config(i, cfg.prefetchMode())
	c.Fetch.Window = cfg.window()
	c.Fetch.PrefetchRate = backend.NewRate(int64(max(cfg.Prefetch.Limit, cfg.Prefetch.LimitV1, 0)))
	return o.show(i, img, cfg.cacheDir(), c)
}

func openTree(ctx context.Context, bootstrap string, b storage.Backend) (image.Tree, error) {
	tree, err := detect.Open(bootstrap, nil)
	if err != nil {
		return nil, err
	}
	if m, ok := tree.(image.MetaLoader); ok {
		if err := m.LoadMeta(ctx, b); err != nil {
			return nil, errors.Join(err, tree.Close())
		}
	}
	return tree, nil
}

// show makes the file system of an image.
func (o *opener) show(i *instance, img *source.Image, cacheDir string, c serve.Config) error {
	store, err := o.store(cacheDir)
	if err != nil {
		return err
	}
	i.closers = append(i.closers, store)
	if i.target, err = serve.NewImage(img, store.Cache, c); err != nil {
		return err
	}
	var want accessConfig
	if i.config != nil {
		want = i.config.Access
	}
	if i.spec.Record {
		want = accessConfig{IOStats: true, Pattern: true, Latest: true}
	}
	if want.any() {
		i.access = recordAccess(i.target.FS, want)
	}
	return nil
}

// openLess reports whether the files of i need no opening: all that are never
// written.
func (i *instance) openLess() bool { return i.dir == nil }

// fuseFS is the file system of i.
func (i *instance) fuseFS() fuse.RawFileSystem {
	if i.access != nil {
		return i.access
	}
	return i.target.FS
}
