package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/fs/tarfs"
	"github.com/sluicefs/sluice/fs/zipfs"
	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/source"
	"github.com/sluicefs/sluice/storage/cache"
)

// Config says how a source is to be shown. The zero value is the default but
// for CacheDir, which is needed.
type Config struct {
	Source       source.Options
	Cache        cache.Options
	Fetch        cache.ReaderOptions // read-ahead and rates
	CacheTimeout time.Duration       // 0: what suits the source
	UID, GID     *uint32             // shown as owner of everything, nil: as it is
	AllowOther   bool
	ReadOnly     bool // for sources that can be written
	Transport    fuse.Transport
	CloneFd      bool
	Passthrough  string // "auto", "on", "off"
	ShareLocks   bool   // of a directory: locks count for those who use it directly as well
	Prefetch     string // "image", "all", "none"
	Profile      string // path of a profile to fetch ahead by
	// PrefetchPaths are files and directories to fetch ahead, if there is no
	// profile.
	PrefetchPaths []string
	Record        bool // keep what is read, see Target.Record
	Debug         bool // trace all requests
	// Portable wants a file system of an archive that another process can go
	// on with.
	Portable bool
	Log      *slog.Logger
}

// Target is a source that is open and can be mounted.
type Target struct {
	FS      fuse.RawFileSystem
	Fuse    fuse.MountOptions
	Type    string   // for the list of mounts
	Image   *ImageFS // nil if it is not an image
	Warning []string // what an archive has that cannot be shown

	closers []io.Closer
}

// Close closes the source; the file system must be unmounted.
func (t *Target) Close() error {
	var errs []error
	for i := len(t.closers) - 1; i >= 0; i-- {
		errs = append(errs, t.closers[i].Close())
	}
	return errors.Join(errs...)
}

// Inspector returns who answers questions about the target, or nil.
func (t *Target) Inspector() Inspector {
	if t.Image == nil {
		return nil
	}
	return t.Image
}

// Open opens what ref names, and prepares a file system of it.
func Open(ctx context.Context, ref source.Ref, c Config) (*Target, error) {
	t := &Target{Type: string(ref.Kind)}
	t.Fuse = fuse.MountOptions{
		FsName:     ref.Text,
		Name:       "sluice",
		AllowOther: c.AllowOther,
		Transport:  c.Transport,
		CloneFd:    c.CloneFd,
		Debug:      c.Debug,
		MaxWrite:   1 << 20,
	}
	var err error
	switch {
	case ref.Kind.Image():
		err = t.openImage(ctx, ref, c)
	case ref.Kind == source.Directory:
		err = t.openDirectory(ref, c)
	default:
		err = t.openArchive(ref, c)
	}
	if err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// Entries and attributes of an archive never change; those of a directory
// may behind our back.
const (
	archiveTimeout   = 365 * 24 * time.Hour
	directoryTimeout = time.Second
)

// archive is what zipfs and tarfs open.
type archive interface {
	io.Closer
	Root() fs.InodeEmbedder
	Raw() fuse.RawFileSystem
}

func (t *Target) openArchive(ref source.Ref, c Config) error {
	var a archive
	var warnings []string
	switch ref.Kind {
	case source.Zip:
		z, err := zipfs.Open(ref.Name)
		if err != nil {
			return err
		}
		a = z
		warnings, _ = z.Tree().Warnings()
	case source.Tar:
		if err := source.CheckCacheDir(c.Source.CacheDir); err != nil {
			return err
		}
		z, err := tarfs.Open(ref.Name, tarfs.Options{CacheDir: filepath.Join(c.Source.CacheDir, "archives")})
		if err != nil {
			return err
		}
		a = z
		warnings, _ = z.Tree().Warnings()
	default:
		return fmt.Errorf("%s: type %s cannot be mounted", ref, ref.Kind)
	}
	t.closers = append(t.closers, a)
	t.Warning = warnings
	t.Fuse.Options = append(t.Fuse.Options, "ro")
	t.Fuse.EnableSymlinkCaching = true
	if c.Portable {
		t.FS = a.Raw()
		return nil
	}
	t.nodeFS(a.Root(), c, fs.Options{}, archiveTimeout)
	return nil
}

// nodeFS makes a raw file system of a tree of nodes, with options that come
// from c but for those that are given.
func (t *Target) nodeFS(root fs.InodeEmbedder, c Config, o fs.Options, timeout time.Duration) {
	if c.CacheTimeout > 0 {
		timeout = c.CacheTimeout
	}
	o.EntryTimeout, o.AttrTimeout, o.MountOptions = &timeout, &timeout, t.Fuse
	o.AllUID, o.AllGID = c.UID, c.GID
	raw, mount := fs.Prepare(root, &o)
	t.FS, t.Fuse = raw, *mount
}

func (t *Target) openDirectory(ref source.Ref, c Config) error {
	root, err := fs.NewLoopbackRoot(ref.Name)
	if err != nil {
		return fmt.Errorf("%s: %w", ref, err)
	}
	if cl, ok := root.(io.Closer); ok {
		t.closers = append(t.closers, cl)
	}
	if c.ReadOnly {
		t.Fuse.Options = append(t.Fuse.Options, "ro")
	}
	if c.Passthrough == "off" {
		t.Fuse.MaxStackDepth = -1
	}
	// With locks that count below, each close of a file is a request.
	t.Fuse.EnableLocks = c.ShareLocks
	t.Fuse.EnableAcl = true
	t.Fuse.Options = append(t.Fuse.Options, "default_permissions")
	t.nodeFS(root, c, fs.Options{NullPermissions: true}, directoryTimeout) // 0000 keeps others out
	return nil
}
