package vfs

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/sluicefs/sluice/fuse"
)

// savedState is what another process needs to give the same node ids to the
// same file systems, as JSON.
type savedState struct {
	Mounts  []savedMount  `json:"mounts"`
	Dirs    []savedDir    `json:"dirs"`
	Handles []savedHandle `json:"handles,omitempty"` // open directories of node 1
	LastDir uint64        `json:"last_dir"`
	Next    uint64        `json:"next"`
	Gen     uint64        `json:"gen"`
	LastFh  uint64        `json:"last_fh"`
}

type savedMount struct {
	Path     string              `json:"path"`
	Slot     uint64              `json:"slot"`
	Gen      uint64              `json:"gen"`
	Detached bool                `json:"detached,omitempty"`
	Numbers  map[uint64]savedNum `json:"numbers,omitempty"` // ids that are too large, by number
	LastNum  uint64              `json:"last_number,omitempty"`
	NoOpen   bool                `json:"no_open,omitempty"`
	NoDir    bool                `json:"no_opendir,omitempty"`
	Refs     int64               `json:"refs,omitempty"`
	Opens    int64               `json:"opens,omitempty"`
	FS       []byte              `json:"fs,omitempty"` // of a file system that is fuse.Stateful
}

type savedNum struct {
	ID   uint64 `json:"id"`
	Refs uint64 `json:"refs"`
}

type savedDir struct {
	Path string `json:"path"`
	ID   uint64 `json:"id"`
	Seq  uint64 `json:"seq"`
}

type savedHandle struct {
	Fh   uint64 `json:"fh"`
	Slot uint64 `json:"slot"`
	Own  uint64 `json:"own"` // handle of the file system
}

// heldElsewhere is added to the counts of a restored Mount: what the kernel
// got from its predecessor after the state was saved is not known, so its slot
// is not used again. See [FS.Exact].
const heldElsewhere = 1 << 40

// afterState is how many ids of each kind are left out by a successor: the
// predecessor may have given some after it saved its state.
const afterState = 16

// SaveState tells which file system has which node ids, so that a union in
// another process can go on with them. It implements [fuse.Stateful].
func (f *FS) SaveState() ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := savedState{LastDir: f.lastDir, Next: f.next, Gen: f.gen}
	for m := range f.mounts {
		sm, err := m.save()
		if err != nil {
			return nil, fmt.Errorf("save %s: %w", m.path, err)
		}
		s.Mounts = append(s.Mounts, sm)
	}
	slices.SortFunc(s.Mounts, func(a, b savedMount) int { return int(a.Slot) - int(b.Slot) })
	f.tree.each("", func(p string, d *dir) { s.Dirs = append(s.Dirs, savedDir{p, d.id, d.seq}) })
	f.roots.mu.RLock()
	defer f.roots.mu.RUnlock()
	s.LastFh = f.roots.last
	for fh, h := range f.roots.open {
		s.Handles = append(s.Handles, savedHandle{fh, h.m.slot, h.fh})
	}
	return json.Marshal(s)
}

func (m *Mount) save() (savedMount, error) {
	s := savedMount{
		Path: m.path, Slot: m.slot, Gen: m.gen, Detached: m.state.Load() != attached,
		NoOpen: m.noOpen.Load(), NoDir: m.noOpendir.Load(),
	}
	s.Opens, s.Refs = m.InUse()
	if m.restored {
		s.Refs, s.Opens = heldElsewhere, heldElsewhere
	}
	m.ids.mu.Lock()
	s.LastNum = m.ids.last
	for _, n := range m.ids.to {
		if s.Numbers == nil {
			s.Numbers = map[uint64]savedNum{}
		}
		s.Numbers[n.number] = savedNum{n.id, n.refs}
	}
	m.ids.mu.Unlock()
	if st, ok := m.fs.(fuse.Stateful); ok && m.state.Load() < strictly {
		var err error
		s.FS, err = st.SaveState()
		return s, err
	}
	return s, nil
}

// each calls do for d's kids and all below, with their paths.
func (d *dir) each(path string, do func(path string, d *dir)) {
	for _, k := range d.order {
		do(path+"/"+k.name, k)
		k.each(path+"/"+k.name, do)
	}
}

// Leave makes m a file system that was detached lazily in the predecessor,
// where it had a slot, and is still in use. It is called before RestoreState.
func (f *FS) Leave(slot uint64, p string, fs fuse.RawFileSystem) *Mount {
	m := &Mount{fs: fs, path: p, since: f.opts.Now(), done: make(chan struct{}), idle: make(chan struct{}, 1)}
	m.ownSetID = m.clearsSetID()
	f.mu.Lock()
	defer f.mu.Unlock()
	m.entry = &dir{parent: f.tree}
	if f.leaving == nil {
		f.leaving = map[uint64]*Mount{}
	}
	f.leaving[slot] = m
	return m
}

// Exact says that the state that was restored was the last: its predecessor
// had stopped, so all counts are right. Otherwise a file system from before is
// served for ever once it is detached lazily, for who uses it is not known.
func (f *FS) Exact() {
	for _, m := range f.Mounts() {
		if m.restored && m.saved[0] < heldElsewhere {
			m.refs.Add(m.saved[0] - heldElsewhere)
			m.opens.Add(m.saved[1] - heldElsewhere)
			m.restored = false
			m.wake()
		}
	}
}

// RestoreState gives node ids as the union that saved the state did. All that
// was attached there must be attached here, and nothing else; of what was
// detached there and still in use those go on that Leave was called for.
func (f *FS) RestoreState(state []byte) error {
	var s savedState
	if err := json.Unmarshal(state, &s); err != nil {
		return fmt.Errorf("state of the union: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for m := range f.mounts {
		f.setSlot(m.slot, nil)
	}
	seen := map[uint64]bool{0: true}
	left := len(f.mounts)
	for _, sm := range s.Mounts {
		if sm.Slot >= maxSlots-1 || seen[sm.Slot] {
			return fmt.Errorf("state of the union: slot %d of %s", sm.Slot, sm.Path)
		}
		seen[sm.Slot] = true
		if sm.Detached {
			m := f.leaving[sm.Slot]
			if m == nil {
				f.setSlot(sm.Slot, goneMount(sm))
				continue
			}
			if err := m.restore(sm); err != nil {
				return err
			}
			m.state.Store(lazily)
			f.setSlot(sm.Slot, m)
			f.mounts[m] = struct{}{}
			if f.server != nil {
				m.fs.Init(f.server.View(m))
			}
			f.wg.Add(1)
			go func() { f.reap(m, f.names(m)) }()
			continue
		}
		m, err := f.attachedAt(sm.Path)
		if err != nil {
			return err
		}
		if err := m.restore(sm); err != nil {
			return err
		}
		f.setSlot(sm.Slot, m)
		left--
	}
	if left != 0 {
		return fmt.Errorf("state of the union: %d file systems are attached that are not in it", left)
	}
	f.leaving = nil
	f.lastDir, f.gen = max(s.LastDir, f.lastDir)+afterState, max(s.Gen, f.gen)+afterState
	f.next = max((s.Next+afterState)%(maxSlots-1), 1)
	f.restoreDirs(s.Dirs)
	return f.restoreHandles(&s)
}

// goneMount stands for a file system that was detached in the predecessor.
func goneMount(sm savedMount) *Mount {
	m := &Mount{
		fs: fuse.NewDefaultRawFileSystem(), path: sm.Path, slot: sm.Slot, gen: sm.Gen,
		done: make(chan struct{}), idle: make(chan struct{}, 1),
	}
	m.refs.Store(heldElsewhere)
	m.state.Store(released)
	close(m.done)
	return m
}

// attachedAt returns what is attached at p. mu is held.
func (f *FS) attachedAt(p string) (*Mount, error) {
	names, err := splitPath(p)
	if err != nil {
		return nil, fmt.Errorf("state of the union: %q: %w", p, err)
	}
	d := f.find(names)
	if d == nil || d.mount == nil {
		return nil, fmt.Errorf("state of the union: nothing is attached at %s", p)
	}
	return d.mount, nil
}

// restore gives m its former ids. mu is held.
func (m *Mount) restore(sm savedMount) error {
	m.slot, m.gen = sm.Slot, sm.Gen
	m.restored = true
	m.refs.Store(heldElsewhere)
	m.opens.Store(heldElsewhere)
	m.saved = [2]int64{max(sm.Refs, 0), max(sm.Opens, 0)}
	m.noOpen.Store(sm.NoOpen)
	m.noOpendir.Store(sm.NoDir)
	m.ids.mu.Lock()
	defer m.ids.mu.Unlock()
	m.ids.last = sm.LastNum
	for number, n := range sm.Numbers {
		if m.ids.to == nil {
			m.ids.to, m.ids.from = map[uint64]*numberedID{}, map[uint64]*numberedID{}
		}
		id := &numberedID{id: n.ID, number: number, refs: n.Refs}
		m.ids.to[n.ID], m.ids.from[number] = id, id
	}
	if sm.FS != nil {
		st, ok := m.fs.(fuse.Stateful)
		if !ok {
			return fmt.Errorf("state of the union: %s cannot restore what was saved", sm.Path)
		}
		return st.RestoreState(sm.FS)
	}
	return nil
}

// restoreDirs gives the union's own directories their former ids. mu is held.
func (f *FS) restoreDirs(dirs []savedDir) {
	ids := map[string]savedDir{}
	for _, d := range dirs {
		ids[d.Path] = d
	}
	clear(f.dirs)
	f.dirs[f.tree.id] = f.tree
	f.tree.each("", func(p string, d *dir) {
		if s, ok := ids[p]; ok {
			d.id, d.seq = s.ID, s.Seq
			d.parent.lastSeq = max(d.parent.lastSeq, s.Seq)
		}
		f.dirs[d.id] = d
	})
	var sortKids func(d *dir)
	sortKids = func(d *dir) {
		slices.SortFunc(d.order, func(a, b *dir) int { return int(a.seq) - int(b.seq) })
		for _, k := range d.order {
			sortKids(k)
		}
	}
	sortKids(f.tree)
}

func (f *FS) restoreHandles(s *savedState) error {
	f.roots.mu.Lock()
	defer f.roots.mu.Unlock()
	f.roots.last = s.LastFh
	f.roots.open = map[uint64]rootHandle{}
	for _, h := range s.Handles {
		m := f.own
		if h.Slot != 0 {
			if h.Slot >= maxSlots {
				return fmt.Errorf("state of the union: slot %d of a handle", h.Slot)
			}
			m = f.slot(h.Slot)
		}
		if m != nil {
			f.roots.open[h.Fh] = rootHandle{m, h.Own}
		}
	}
	return nil
}
