// Package multifs shows several trees of nodes as directories of one mount:
// each has a name, and comes and goes while the mount is in use.
//
//	m, err := multifs.New(multifs.Options{})
//	server, err := m.Mount("/mnt")
//	err = m.Add("src", loopback)    // /mnt/src
//	err = m.Remove("src")
//
// If [Options.Open] is set, users may add and remove trees themselves, with
// nothing but file operations: `ln -s /some/archive.zip /mnt/config/name` adds
// one, `rm /mnt/config/name` removes it, and `ls -l /mnt/config` shows what
// there is.
//
// A tree that was removed is gone from the directory at once; what is open in
// it stays usable to its end, and then the [fs.NodeOnForgetter] of its root is
// told. Trees know nothing of each other: package vfs keeps their inode numbers
// apart.
package multifs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/vfs"
)

// Options are the settings of an FS.
type Options struct {
	// Open opens the tree that a user linked to, with the rights of this
	// process: it has to decide which targets are allowed. nil: users add
	// nothing, and there is no directory "config".
	Open func(ctx context.Context, target string) (fs.InodeEmbedder, error)

	// Nodes are the options of each tree: timeouts above all. nil means the
	// defaults of fs.NewNodeFS.
	Nodes *fs.Options

	// MountOptions are those of Mount.
	fuse.MountOptions
}

// configName is the directory in which users add and remove.
const configName = "config"

// FS is several file systems in one. Its methods are safe for concurrent use.
type FS struct {
	opts  Options
	union *vfs.FS

	mu      sync.Mutex // guards targets, and makes add and remove one step
	targets map[string]string
	config  *config
	server  atomic.Pointer[fuse.Server] // of Mount
}

// New returns a file system with no trees in it.
func New(opts Options) (*FS, error) {
	m := &FS{opts: opts, union: vfs.New(nil), targets: map[string]string{}}
	if opts.Open != nil {
		m.config = &config{m: m}
		if _, err := m.union.Attach("/"+configName, fs.NewNodeFS(m.config, nil)); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Raw returns the file system for fuse.NewServer.
func (m *FS) Raw() fuse.RawFileSystem { return m.union }

// Mount mounts the file system on dir and serves it in the background.
func (m *FS) Mount(dir string) (*fuse.Server, error) {
	server, err := fuse.NewServer(m.union, dir, &m.opts.MountOptions)
	if err != nil {
		return nil, err
	}
	m.server.Store(server)
	go server.Serve()
	if err := server.WaitMount(); err != nil {
		return nil, err
	}
	return server, nil
}

// Add makes the tree at root, which is part of no file system yet, appear
// under name. The error is EEXIST if the name is taken, EINVAL if it is no
// name.
func (m *FS) Add(name string, root fs.InodeEmbedder) error {
	m.mu.Lock()
	err := m.add(name, root, "")
	m.mu.Unlock()
	if err == nil {
		m.tellKernel()
	}
	return err
}

// tellKernel waits until the kernel has been told of changes. It must not be
// called by a method of a node.
func (m *FS) tellKernel() {
	if s := m.server.Load(); s != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		s.Notifier().Flush(ctx)
	}
}

func (m *FS) add(name string, root fs.InodeEmbedder, target string) error {
	if !valid(name) {
		return fmt.Errorf("multifs: add %q: %w", name, syscall.EINVAL)
	}
	if _, ok := m.targets[name]; ok {
		return fmt.Errorf("multifs: add %q: %w", name, syscall.EEXIST)
	}
	if _, err := m.union.Attach("/"+name, fs.NewNodeFS(root, m.opts.Nodes)); err != nil {
		return fmt.Errorf("multifs: add %q: %w", name, err)
	}
	m.targets[name] = target
	return nil
}

func valid(name string) bool {
	return name != "" && name != "." && name != ".." && name != configName && len(name) <= 255 && !strings.ContainsAny(name, "/\x00")
}

// Remove makes the tree under name disappear. The error is ENOENT if there is
// none.
func (m *FS) Remove(name string) error {
	err := m.remove(name)
	if err == nil {
		m.tellKernel()
	}
	return err
}

func (m *FS) remove(name string) error {
	m.mu.Lock()
	target, ok := m.targets[name]
	if !ok {
		m.mu.Unlock()
		return fmt.Errorf("multifs: remove %q: %w", name, syscall.ENOENT)
	}
	delete(m.targets, name)
	_, err := m.union.Detach(context.Background(), "/"+name, vfs.Lazy)
	m.mu.Unlock()
	if err != nil {
		return fmt.Errorf("multifs: remove %q: %w", name, err)
	}
	if target != "" {
		if link := m.config.GetChild(name); link != nil {
			m.config.RmChild(name)
			link.ForgetPersistent()
		}
	}
	return nil
}

// Names returns the names of the trees, sorted.
func (m *FS) Names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := make([]string, 0, len(m.targets))
	for name := range m.targets {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// config is the directory in which a symbolic link adds a tree.
type config struct {
	fs.Inode
	m *FS
}

// Symlink opens what the link leads to and adds it.
func (c *config) Symlink(ctx context.Context, target, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if target == "" || !valid(name) {
		return nil, syscall.EINVAL
	}
	root, err := c.m.opts.Open(ctx, target)
	if err != nil {
		return nil, errnoOf(err)
	}
	c.m.mu.Lock()
	err = c.m.add(name, root, target)
	c.m.mu.Unlock()
	if err != nil {
		if f, ok := root.(fs.NodeOnForgetter); ok {
			f.OnForget()
		}
		return nil, errnoOf(err)
	}
	link := &fs.MemSymlink{Data: []byte(target)}
	out.Size = uint64(len(target))
	return c.NewPersistentInode(ctx, link, fs.StableAttr{Mode: syscall.S_IFLNK}), 0
}

// Unlink removes a tree.
func (c *config) Unlink(ctx context.Context, name string) syscall.Errno {
	if err := c.m.remove(name); err != nil {
		return errnoOf(err)
	}
	return 0
}

// errnoOf is the errno in err, EIO if it has none.
func errnoOf(err error) syscall.Errno {
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		return errno
	}
	if errors.Is(err, vfs.ErrAttached) {
		return syscall.EEXIST
	}
	return syscall.EIO
}
