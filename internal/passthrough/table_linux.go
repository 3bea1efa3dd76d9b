package passthrough

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/internal/sys"
)

// A table is the file with the nodes. After a head of a page come segments of
// records, mapped as they are needed. Numbers are in the byte order of the
// machine: a table never leaves it.
type table struct {
	file *os.File
	name string // "" if it has none
	segs atomic.Pointer[[]*segment]

	head   []byte // mapped
	noteMu [noteCount]sync.Mutex

	mu   sync.Mutex
	free []uint32 // slots, first in, first out
}

const (
	tableMagic   = "SLUICEPT"
	tableVersion = 1
	headSize     = 4096

	slotBits    = 24 // at most 16 million nodes at a time
	turnBits    = 23 // ids have 47 bits, as many as a union leaves
	segRecords  = 8192
	maxSegments = 1 << slotBits / segRecords
	segSize     = segRecords * int(unsafe.Sizeof(record{}))
)

type segment [segRecords]record

// A record is a node of the kernel's, 128 bytes. id is set last and cleared
// first: 0 means that the rest does not count, but for turn.
type record struct {
	id      atomic.Uint64
	lookups atomic.Int64 // references that the kernel has
	opens   atomic.Int32 // open handles
	backing atomic.Int32 // id of the backing file of all opens, 0 = none
	pin     atomic.Int32 // id of a backing file that only keeps the file, 0 = none
	turn    uint32       // how often the slot was given
	mode    uint32       // file type
	_       uint32
	key     identity
	handle  sys.Handle
}

// identity tells files apart, also those that had one inode number one after
// the other.
type identity struct{ dev, ino, birth uint64 }

// createTable makes an empty table; name must not exist. One without a name
// ends with the process.
func createTable(name string, root identity) (*table, error) {
	t := &table{name: name}
	if name == "" {
		fd, err := unix.MemfdCreate("nodes", unix.MFD_CLOEXEC)
		if err != nil {
			return nil, fmt.Errorf("table of nodes: %w", err)
		}
		t.file = os.NewFile(uintptr(fd), "nodes")
	} else {
		file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return nil, fmt.Errorf("table of nodes: %w", err)
		}
		t.file = file
	}
	t.segs.Store(new([]*segment))
	_, err := t.file.WriteAt(tableHead(root), 0)
	if err == nil {
		err = t.mapHead()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("table of nodes: %w", err), t.close(true))
	}
	return t, nil
}

// tableHead is the head: magic, version, size of a record, the identity of the
// root, and a checksum.
func tableHead(root identity) []byte {
	ne := binary.NativeEndian
	b := append(make([]byte, 0, headSize), tableMagic...)
	b = ne.AppendUint32(b, tableVersion)
	b = ne.AppendUint32(b, uint32(unsafe.Sizeof(record{})))
	for _, v := range []uint64{root.dev, root.ino, root.birth} {
		b = ne.AppendUint64(b, v)
	}
	b = ne.AppendUint32(b, crc32.ChecksumIEEE(b))
	return b[:headSize]
}

// openTable opens the table of a predecessor, whose root must be the same.
func openTable(name string, root identity) (*table, error) {
	file, err := os.OpenFile(name, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	t := &table{file: file, name: name}
	t.segs.Store(new([]*segment))
	if err := t.load(root); err != nil {
		return nil, errors.Join(fmt.Errorf("table of nodes %s: %w", name, err), t.close(false))
	}
	return t, nil
}

func (t *table) load(root identity) error {
	head := make([]byte, headSize)
	if _, err := t.file.ReadAt(head, 0); err != nil {
		return fmt.Errorf("head: %w", err)
	}
	want := tableHead(root)
	ne := binary.NativeEndian
	switch {
	case string(head[:8]) != tableMagic:
		return errors.New("not a table of nodes")
	case ne.Uint32(head[8:]) != tableVersion:
		return fmt.Errorf("version %d, this program reads %d", ne.Uint32(head[8:]), tableVersion)
	case crc32.ChecksumIEEE(head[:40]) != ne.Uint32(head[40:]):
		return errors.New("checksum of the head is wrong")
	case string(head[:44]) != string(want[:44]):
		return errors.New("it is of another directory")
	}
	if err := t.mapHead(); err != nil {
		return err
	}
	fi, err := t.file.Stat()
	if err != nil {
		return err
	}
	n := (fi.Size() - headSize) / int64(segSize)
	if n > int64(maxSegments) || (fi.Size()-headSize)%int64(segSize) != 0 {
		return fmt.Errorf("size %d", fi.Size())
	}
	for range n {
		if err := t.mapNext(); err != nil {
			return err
		}
	}
	return t.check()
}

// check looks at all records, which a successor is to trust.
func (t *table) check() error {
	for slot := range uint32(len(*t.segs.Load()) * segRecords) {
		r := t.at(slot)
		id := r.id.Load()
		switch {
		case id == 0:
			if r.turn < 1<<turnBits-1 {
				t.free = append(t.free, slot)
			}
		case id != uint64(r.turn)<<slotBits|uint64(slot) || r.turn >= 1<<turnBits:
			return fmt.Errorf("record %d has the id %#x", slot, id)
		case r.handle.Size > sys.MaxHandle:
			return fmt.Errorf("record %d: handle of %d bytes", slot, r.handle.Size)
		}
	}
	return nil
}

func (t *table) mapHead() (err error) {
	if t.head, err = unix.Mmap(int(t.file.Fd()), 0, headSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("map: %w", err)
	}
	return nil
}

// mapNext maps one more segment, behind those that are. mu is held, or nobody
// else has t.
func (t *table) mapNext() error {
	old := *t.segs.Load()
	if len(old) >= maxSegments {
		return unix.ENFILE
	}
	off := int64(headSize) + int64(len(old))*int64(segSize)
	b, err := unix.Mmap(int(t.file.Fd()), off, segSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map: %w", err)
	}
	segs := append(old[:len(old):len(old)], (*segment)(unsafe.Pointer(unsafe.SliceData(b))))
	t.segs.Store(&segs)
	return nil
}

// at returns the record of a slot, which is mapped.
func (t *table) at(slot uint32) *record {
	return &(*t.segs.Load())[slot/segRecords][slot%segRecords]
}

// alloc returns a record for a new node and the id that it is to get. Setting
// the id is the caller's, once the record is complete.
func (t *table) alloc() (*record, uint64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.free) == 0 {
		if err := t.grow(); err != nil {
			return nil, 0, err
		}
	}
	slot := t.free[0]
	t.free = t.free[1:]
	r := t.at(slot)
	r.turn++
	return r, uint64(r.turn)<<slotBits | uint64(slot), nil
}

func (t *table) grow() error {
	n := len(*t.segs.Load())
	if n >= maxSegments {
		return unix.ENFILE
	}
	// allocated, so that a full disk is an error here and not a SIGBUS later
	if err := unix.Fallocate(int(t.file.Fd()), 0, int64(headSize+n*segSize), int64(segSize)); err != nil {
		return fmt.Errorf("table of nodes: %w", err)
	}
	if err := t.mapNext(); err != nil {
		return err
	}
	t.free = make([]uint32, segRecords)
	for i := range t.free {
		t.free[i] = uint32(n*segRecords + i)
	}
	return nil
}

// release takes a record back.
func (t *table) release(r *record) {
	slot := uint32(r.id.Load() & (1<<slotBits - 1))
	r.id.Store(0)
	r.lookups.Store(0)
	r.opens.Store(0)
	r.backing.Store(0)
	r.pin.Store(0)
	if r.turn >= 1<<turnBits-1 {
		return // used up: an id is never given twice
	}
	t.mu.Lock()
	t.free = append(t.free, slot)
	t.mu.Unlock()
}

// each calls f for the nodes that there are.
func (t *table) each(f func(id uint64, r *record)) {
	for slot := range uint32(len(*t.segs.Load()) * segRecords) {
		if r := t.at(slot); r.id.Load() != 0 {
			f(r.id.Load(), r)
		}
	}
}

// close unmaps the table, and removes it if it is needed no more.
func (t *table) close(remove bool) error {
	var errs []error
	for _, s := range *t.segs.Load() {
		errs = append(errs, unix.Munmap(unsafe.Slice((*byte)(unsafe.Pointer(s)), segSize)))
	}
	t.segs.Store(new([]*segment))
	if t.head != nil {
		errs = append(errs, unix.Munmap(t.head))
		t.head = nil
	}
	if remove && t.name != "" {
		errs = append(errs, os.Remove(t.name))
	}
	return errors.Join(append(errs, t.file.Close())...)
}
