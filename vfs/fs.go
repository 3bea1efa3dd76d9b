package vfs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluicefs/sluice/fuse"
)

// Options of a union. The zero value is a good default.
type Options struct {
	// OpenLess promises that every file system that will be attached answers
	// ENOSYS to OPEN and OPENDIR, because its files never change. The kernel
	// then opens and closes without asking, for the whole union.
	OpenLess bool

	// Measure adds up the time that each file system takes (Stats.Busy), for
	// the price of reading the clock twice per operation.
	Measure bool

	// EntryTimeout is how long the kernel may keep the names of the union's
	// own directories and of what is attached. It is told of each change, so
	// this only bounds what a lost notification can do. 0 means a minute.
	EntryTimeout time.Duration

	// Now stands for time.Now.
	Now func() time.Time
}

// FS is a union of file systems. It is a [fuse.RawFileSystem]; its methods may
// be called concurrently.
type FS struct {
	opts  Options
	made  time.Time // zero if Options.Now was given
	slots [maxSlots >> 8]atomic.Pointer[[256]atomic.Pointer[Mount]]
	own   *Mount                // slot 0: the union's own directories
	root  atomic.Pointer[Mount] // what is attached at the root, or own

	mu      sync.RWMutex
	server  *fuse.Server // nil before Init
	tree    *dir         // the root
	dirs    map[uint64]*dir
	lastDir uint64 // last id given to a directory of the union's own
	next    uint64 // slot to try next
	gen     uint64 // generation of the last Mount
	mounts  map[*Mount]struct{}
	leaving map[uint64]*Mount // by slot, before RestoreState
	ending  bool

	roots rootHandles
	wg    sync.WaitGroup // goroutines that wait for the end of a Mount
}

// New returns an empty union. opts may be nil.
func New(opts *Options) *FS {
	f := &FS{dirs: map[uint64]*dir{}, mounts: map[*Mount]struct{}{}, lastDir: fuse.FUSE_ROOT_ID, next: 1}
	if opts != nil {
		f.opts = *opts
	}
	if f.opts.EntryTimeout == 0 {
		f.opts.EntryTimeout = time.Minute
	}
	if f.opts.Now == nil {
		f.opts.Now, f.made = time.Now, time.Now()
	}
	f.tree = &dir{id: fuse.FUSE_ROOT_ID, changed: f.opts.Now()}
	f.dirs[f.tree.id] = f.tree
	f.own = &Mount{fs: newOwnFS(f), path: "/", since: f.tree.changed, done: make(chan struct{}), entry: f.tree, root: true}
	f.setSlot(0, f.own)
	f.root.Store(f.own)
	return f
}

func (f *FS) slot(n uint64) *Mount {
	if page := f.slots[n>>8].Load(); page != nil {
		return page[n&255].Load()
	}
	return nil
}

// setSlot is called by New, or with mu held.
func (f *FS) setSlot(n uint64, m *Mount) {
	page := f.slots[n>>8].Load()
	if page == nil {
		page = new([256]atomic.Pointer[Mount])
		f.slots[n>>8].Store(page)
	}
	page[n&255].Store(m)
}

// An AttachError tells what was wrong with attaching or detaching.
type AttachError struct {
	Op   string // "attach", "replace", "detach"
	Path string
	Err  error
}

func (e *AttachError) Error() string { return e.Op + " " + e.Path + ": " + e.Err.Error() }

// Unwrap returns the cause: ErrAttached, ErrNotAttached, ErrFull, ErrPath, or
// a context's error.
func (e *AttachError) Unwrap() error { return e.Err }

// What attaching and detaching fail with.
var (
	ErrAttached    = errors.New("something is attached there already")
	ErrNotAttached = errors.New("nothing is attached there")
	ErrFull        = fmt.Errorf("all %d slots are in use", maxSlots-2)
	ErrPath        = errors.New("not an absolute path of names")
	ErrClosed      = errors.New("the union is unmounted")
)

// splitPath checks p and cuts it into its names; "/" has none.
func splitPath(p string) ([]string, error) {
	if !strings.HasPrefix(p, "/") || path.Clean(p) != p && path.Clean(p)+"/" != p || strings.ContainsRune(p, 0) {
		return nil, ErrPath
	}
	p = strings.Trim(p, "/")
	if p == "" {
		return nil, nil
	}
	names := strings.Split(p, "/")
	for _, n := range names {
		if len(n) > 255 {
			return nil, ErrPath
		}
	}
	return names, nil
}

// Attach puts fs at the absolute path p; directories on the way appear. It
// calls fs.Init if the union is mounted, otherwise that follows.
func (f *FS) Attach(p string, fs fuse.RawFileSystem) (*Mount, error) {
	m, _, err := f.attach("attach", p, fs, false)
	return m, err
}

// Replace puts fs where another file system is attached, in one step: each
// look-up finds the one or the other. The other is detached as how says; it is
// returned, so that its end can be awaited.
func (f *FS) Replace(ctx context.Context, p string, fs fuse.RawFileSystem, how How) (m, old *Mount, err error) {
	m, old, err = f.attach("replace", p, fs, true)
	if err == nil {
		err = f.finish(ctx, old, how)
	}
	return m, old, err
}

func (f *FS) attach(op, p string, fs fuse.RawFileSystem, replace bool) (m, old *Mount, err error) {
	names, err := splitPath(p)
	if err != nil {
		return nil, nil, &AttachError{op, p, err}
	}
	m = &Mount{
		fs: fs, path: "/" + strings.Join(names, "/"), root: len(names) == 0, since: f.opts.Now(),
		done: make(chan struct{}), idle: make(chan struct{}, 1),
	}
	m.ownSetID = m.clearsSetID()
	f.mu.Lock()
	server := f.server
	err = f.reserve(m)
	f.mu.Unlock()
	if err != nil {
		return nil, nil, &AttachError{op, p, err}
	}
	if server != nil {
		// Outside the lock, and before anybody can see the file system.
		fs.Init(server.View(m))
	}
	f.mu.Lock()
	top, old, err := f.insert(m, names, replace)
	if err != nil {
		f.free(m)
	} else if server == nil && f.server != nil {
		server = f.server // Init came meanwhile and has not seen m
	} else {
		server = nil
	}
	f.mu.Unlock()
	if server != nil {
		fs.Init(server.View(m))
	}
	if err != nil {
		return nil, nil, &AttachError{op, p, err}
	}
	f.announce(top, old)
	return m, old, nil
}

// reserve gives m a slot. mu is held.
func (f *FS) reserve(m *Mount) error {
	if f.ending {
		return ErrClosed
	}
	for range maxSlots - 2 {
		n := f.next
		f.next = max((f.next+1)%(maxSlots-1), 1) // the last is ownIno
		if f.slot(n) == nil {
			f.gen++
			m.slot, m.gen = n, f.gen
			f.setSlot(n, m)
			return nil
		}
	}
	return ErrFull
}

// free gives m's slot back. mu is held, and nothing of m is in use.
func (f *FS) free(m *Mount) {
	if f.slot(m.slot) == m {
		f.setSlot(m.slot, nil)
	}
	delete(f.mounts, m)
}

// insert makes m visible. It returns the topmost directory that has changed.
// mu is held.
func (f *FS) insert(m *Mount, names []string, replace bool) (top *dir, old *Mount, err error) {
	if d := f.find(names); d != nil {
		old = d.mount
	}
	switch {
	case f.ending:
		return nil, nil, ErrClosed
	case replace && old == nil:
		return nil, nil, ErrNotAttached
	case !replace && old != nil:
		return nil, nil, ErrAttached
	}
	d, top := f.grow(names)
	m.entry = d
	d.mount = m
	d.changed = f.opts.Now()
	f.mounts[m] = struct{}{}
	if m.root {
		f.root.Store(m)
	}
	return top, old, nil
}

// How says what becomes of files that are in use when a file system is
// detached.
type How bool

const (
	// Lazy lets those who use files go on with them.
	Lazy How = true
	// Strict ends all use: what comes after is answered with ESTALE.
	Strict How = false
)

// Detach takes away what is attached at p, and the directories that only led
// there. A lazy one returns at once. A strict one waits, as long as ctx
// allows, for operations that are under way; if ctx ends first the file system
// is out of the tree all the same, and finishes when they do.
func (f *FS) Detach(ctx context.Context, p string, how How) (*Mount, error) {
	names, err := splitPath(p)
	if err != nil {
		return nil, &AttachError{"detach", p, err}
	}
	f.mu.Lock()
	d := f.find(names)
	if d == nil || d.mount == nil {
		f.mu.Unlock()
		return nil, &AttachError{"detach", p, ErrNotAttached}
	}
	m := d.mount
	d.mount = nil
	if m.root {
		f.root.Store(f.own)
	}
	top := f.prune(d)
	f.mu.Unlock()
	f.announce(top, m)
	return m, f.finish(ctx, m, how)
}

// finish ends m, which is out of the tree.
func (f *FS) finish(ctx context.Context, m *Mount, how How) error {
	names := f.names(m)
	if how == Lazy {
		m.state.Store(lazily)
	} else {
		m.state.Store(strictly)
	}
	f.mu.Lock()
	if !f.ending {
		f.wg.Add(1)
		go f.reap(m, names)
	}
	f.mu.Unlock()
	m.wake()
	if how == Lazy {
		return nil
	}
	select {
	case <-m.done:
		return nil
	case <-ctx.Done():
		return &AttachError{"detach", m.path, fmt.Errorf("operations are still under way: %w", ctx.Err())}
	}
}

// reap waits until m is used no more, and frees what it holds. The kernel
// keeps nodes that nobody uses for as long as it has memory, although their
// names lead nowhere now; so it is told to drop those below m's root, again
// and again, as they get out of use.
func (f *FS) reap(m *Mount, names []string) {
	defer f.wg.Done()
	wait := 10 * time.Millisecond
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		if m.active.Load() == 0 && (m.state.Load() == strictly || m.unused()) {
			m.release()
		}
		if m.state.Load() == released && m.restored {
			f.mu.Lock()
			delete(f.mounts, m) // its slot stays taken
			f.mu.Unlock()
			return
		}
		if m.state.Load() == released && m.unused() {
			break
		}
		select {
		case <-m.idle:
			wait = 10 * time.Millisecond
			timer.Reset(wait)
		case <-timer.C:
			f.drop(m, names)
			wait = min(2*wait, time.Minute)
			timer.Reset(wait)
		}
		if f.over() {
			return
		}
	}
	f.mu.Lock()
	f.free(m)
	f.mu.Unlock()
}

// drop has the kernel drop names below m's root, if nothing of m is open, the
// root's own name in a directory that went with m (that was in use when the
// directory was dropped, and nobody else asks for it again), and what walkers
// have brought back.
func (f *FS) drop(m *Mount, names []string) {
	f.mu.RLock()
	server := f.server
	var up uint64
	if d := m.entry; d.parent != nil && d.parent != f.tree && f.dirs[d.parent.id] != d.parent {
		up = d.parent.node()
	}
	f.mu.RUnlock()
	if server == nil || m.opens.Load() > 0 {
		return
	}
	if up != 0 {
		server.Notifier().Entry(up, m.entry.name)
	}
	root := m.Node(fuse.FUSE_ROOT_ID)
	for _, n := range names {
		server.Notifier().Entry(root, n)
	}
	m.trace.drop(server)
}

func (f *FS) over() bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.ending
}

// Mounts returns what is attached and what was detached and is still used.
func (f *FS) Mounts() []*Mount {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return slices.Collect(maps.Keys(f.mounts))
}

// At returns what is attached at p, or nil.
func (f *FS) At(p string) *Mount {
	names, err := splitPath(p)
	if err != nil {
		return nil
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	if d := f.find(names); d != nil {
		return d.mount
	}
	return nil
}

// Init is called by the server.
func (f *FS) Init(server *fuse.Server) {
	f.mu.Lock()
	f.server = server
	ms := slices.Collect(maps.Keys(f.mounts))
	f.mu.Unlock()
	for _, m := range ms {
		m.fs.Init(server.View(m))
	}
}

// OnUnmount ends all that is attached.
func (f *FS) OnUnmount() {
	f.mu.Lock()
	f.ending = true
	ms := slices.Collect(maps.Keys(f.mounts))
	f.mu.Unlock()
	for _, m := range ms {
		m.state.CompareAndSwap(attached, strictly)
		m.wake()
		m.release()
	}
	f.wg.Wait()
}

// String names the union in logs.
func (f *FS) String() string { return "sluice" }

// SetDebug passes the switch on.
func (f *FS) SetDebug(debug bool) {
	for _, m := range f.Mounts() {
		m.fs.SetDebug(debug)
	}
}

// estale is the answer for nodes that are gone.
const estale = fuse.Status(syscall.ESTALE)

// SetOpenLess sets Options.OpenLess, before the union is mounted or resumed.
func (f *FS) SetOpenLess(on bool) { f.opts.OpenLess = on }

// Of returns whose node the kernel's id is, or nil.
func (f *FS) Of(node uint64) *Mount {
	m, _, ok := f.resolve(node)
	if !ok || m == f.own {
		return nil
	}
	return m
}
