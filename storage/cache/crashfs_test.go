package cache

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
)

// crashDir is a directory in memory as a disk has it that loses its power:
// what was written and not synced is there after a crash or not, sector by
// sector, as the dice fall. Names of files are lost or kept in the same way.
type crashDir struct {
	mu     sync.Mutex
	boot   uint64
	files  map[string]*crashFile // as programs see it
	saved  map[string]*crashFile // as the disk has it
	ids    uint64
	ops    int   // writes of any kind so far
	failAs error // what it fails with, errPower unless set
	fail   int   // the op from which all fail, as if the machine stopped; 0 for never
}

// errPower is the error of everything after the machine has stopped.
var errPower = errors.New("power is gone")

const sector = 512

type crashFile struct {
	d     *crashDir
	id    uint64
	now   map[int64][]byte   // sectors as programs see them
	disk  map[int64][]byte   // as of the last sync
	later map[int64][][]byte // versions written since then, by sector
	size  int64
	saved int64                 // size on disk
	users map[*crashHandle]bool // who hold the lock, and whether for themselves
}

// crashHandle is an open file with its lock.
type crashHandle struct{ *crashFile }

func newCrashDir() *crashDir {
	return &crashDir{boot: 1, files: make(map[string]*crashFile), saved: make(map[string]*crashFile)}
}

// op counts a write; mu is held.
func (d *crashDir) op() error {
	d.ops++
	if d.fail > 0 && d.ops >= d.fail {
		if d.failAs != nil {
			return d.failAs
		}
		return errPower
	}
	return nil
}

// crash returns the directory as the next boot finds it.
func (d *crashDir) crash(rnd *rand.Rand) *crashDir {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := &crashDir{boot: d.boot + 1, ids: d.ids, files: make(map[string]*crashFile), saved: make(map[string]*crashFile)}
	names := slices.Sorted(maps.Keys(d.files))
	for name := range d.saved {
		if _, ok := d.files[name]; !ok {
			names = append(names, name)
		}
	}
	for _, name := range names {
		f, ok := d.files[name]
		if s, wasSaved := d.saved[name]; !ok || s != f && rnd.IntN(2) == 0 {
			if f = s; !wasSaved || rnd.IntN(2) == 0 {
				continue
			}
		}
		n.files[name] = f.crash(n, rnd)
	}
	n.saved = maps.Clone(n.files)
	return n
}

func (f *crashFile) crash(d *crashDir, rnd *rand.Rand) *crashFile {
	n := &crashFile{d: d, id: f.id, now: maps.Clone(f.disk), later: make(map[int64][][]byte), size: f.saved}
	if rnd.IntN(2) == 0 {
		n.size = max(n.size, f.size)
	}
	for at, versions := range f.later {
		if k := rnd.IntN(len(versions) + 1); k < len(versions) {
			n.now[at] = versions[k]
			n.size = max(n.size, min(f.size, (at+1)*sector))
		}
	}
	n.disk, n.saved = maps.Clone(n.now), n.size
	return n
}

func (d *crashDir) Open(name string, create bool) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[name]
	if f == nil {
		if !create {
			return nil, fs.ErrNotExist
		}
		if err := d.op(); err != nil {
			return nil, err
		}
		d.ids++
		f = &crashFile{d: d, id: d.ids, now: make(map[int64][]byte), disk: make(map[int64][]byte), later: make(map[int64][][]byte)}
		d.files[name] = f
	}
	return &crashHandle{crashFile: f}, nil
}

func (d *crashDir) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.op(); err != nil {
		return err
	}
	if d.files[name] == nil {
		return fs.ErrNotExist
	}
	delete(d.files, name)
	return nil
}

func (d *crashDir) Names() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.files)), nil
}

func (d *crashDir) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.op(); err != nil {
		return err
	}
	d.saved = maps.Clone(d.files)
	return nil
}

func (d *crashDir) Close() error { return nil }
func (d *crashDir) Boot() uint64 { return d.boot }

func (f *crashFile) ReadAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	n := int(max(0, min(int64(len(p)), f.size-off)))
	for i := 0; i < n; {
		at, skip := (off+int64(i))/sector, int((off+int64(i))%sector)
		k := min(sector-skip, n-i)
		if s := f.now[at]; s != nil {
			copy(p[i:i+k], s[skip:])
		} else {
			clear(p[i : i+k])
		}
		i += k
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *crashFile) WriteAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.op(); err != nil {
		return 0, err
	}
	f.write(p, off)
	return len(p), nil
}

func (f *crashFile) write(p []byte, off int64) {
	for i := 0; i < len(p); {
		at, skip := (off+int64(i))/sector, int((off+int64(i))%sector)
		s := make([]byte, sector)
		copy(s, f.now[at])
		k := copy(s[skip:], p[i:])
		f.now[at] = s
		f.later[at] = append(f.later[at], s)
		i += k
	}
	f.size = max(f.size, off+int64(len(p)))
}

func (f *crashFile) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.op(); err != nil {
		return err
	}
	f.disk, f.saved = maps.Clone(f.now), f.size
	f.later = make(map[int64][][]byte)
	return nil
}

func (f *crashFile) Punch(off, n int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.op(); err != nil {
		return err
	}
	if n = min(n, f.size-off); n > 0 {
		f.write(make([]byte, n), off)
	}
	return nil
}

func (f *crashFile) Truncate(size int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.op(); err != nil {
		return err
	}
	for at := range f.now {
		if at*sector >= size {
			delete(f.now, at)
			f.later[at] = append(f.later[at], make([]byte, sector))
		}
	}
	f.size = size
	return nil
}

func (f *crashFile) NextData(off int64) (int64, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	next := f.size
	for at := range f.now {
		if (at+1)*sector > off {
			next = min(next, max(off, at*sector))
		}
	}
	return next, nil
}

func (f *crashFile) Size() (int64, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return f.size, nil
}

func (f *crashFile) Blocks() (int64, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return int64(len(f.now)) * sector, nil
}

func (f *crashFile) Identity() uint64 { return f.id }

func (h *crashHandle) TryLock(exclusive bool) (bool, error) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	for o, alone := range h.users {
		if o != h && (alone || exclusive) {
			return false, nil
		}
	}
	if h.users == nil {
		h.users = make(map[*crashHandle]bool)
	}
	h.users[h] = exclusive
	return true, nil
}

func (h *crashHandle) Close() error {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	delete(h.users, h)
	return nil
}

func (f *crashFile) TryLockByte(int64) (bool, error) { return true, nil }
func (f *crashFile) UnlockByte(int64) error          { return nil }
