package cache

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"github.com/sluicefs/sluice/storage"
)

// chunkMap is "<id>.blob.data.chunk_map", the index that nydusd keeps: a
// header of 4096 bytes, then one bit for each chunk, the highest bit of a
// byte first. It has no digests and is not ordered after the data, so a bit
// that nydusd set is a hint where bytes may be, and they are verified before
// their first use. sluice sets a bit when the data has been synced.
type chunkMap struct {
	f     file
	count uint32

	mu sync.Mutex // one writer of a byte at a time in this process
}

const (
	chunkMapHeader = 4096
	chunkMapMagic  = 0x424D4150
	chunkMapMagic2 = 0x434D4150
	chunkMapAll    = 0x4D4D4150
)

// openChunkMap opens or makes the map for count chunks. A map of another
// size or form is refused.
func openChunkMap(dir directory, name string, count uint32) (*chunkMap, error) {
	f, err := dir.Open(name+endChunkMap, true)
	if err != nil {
		return nil, err
	}
	m := &chunkMap{f: f, count: count}
	if err := m.check(); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s%s: %w", name, endChunkMap, err)
	}
	return m, nil
}

func (m *chunkMap) check() error {
	want := chunkMapHeader + (int64(m.count)+7)/8
	size, err := m.f.Size()
	if err != nil {
		return err
	}
	var b [16]byte
	le := binary.LittleEndian
	if size == want {
		if _, err := m.f.ReadAt(b[:], 0); err != nil {
			return err
		}
		if le.Uint32(b[:]) == chunkMapMagic && le.Uint32(b[4:]) == 1 && le.Uint32(b[8:]) == chunkMapMagic2 {
			return nil
		}
	}
	if size != 0 && (size != want || b != [16]byte{}) {
		return fmt.Errorf("not a chunk map of %d chunks", m.count)
	}
	if err := m.f.Truncate(want); err != nil {
		return err
	}
	le.PutUint32(b[:], chunkMapMagic)
	le.PutUint32(b[4:], 1)
	le.PutUint32(b[8:], chunkMapMagic2)
	_, err = m.f.WriteAt(b[:], 0)
	return err
}

// has reports whether chunk i is said to be there.
func (m *chunkMap) has(i uint32) bool {
	if i >= m.count {
		return false
	}
	var b [4]byte
	if _, err := m.f.ReadAt(b[:], 12); err == nil && binary.LittleEndian.Uint32(b[:]) == chunkMapAll {
		return true
	}
	if _, err := m.f.ReadAt(b[:1], chunkMapHeader+int64(i>>3)); err != nil && err != io.EOF {
		return false
	}
	return b[0]&(0x80>>(i&7)) != 0
}

// set says that chunk i is there.
func (m *chunkMap) set(i uint32) error { return m.change(i, func(b, bit byte) byte { return b | bit }) }

// drop says that chunk i is not there.
func (m *chunkMap) drop(i uint32) error {
	return m.change(i, func(b, bit byte) byte { return b &^ bit })
}

// clearAll turns the mark "everything is there" into bits.
func (m *chunkMap) clearAll() error {
	var b [4]byte
	if _, err := m.f.ReadAt(b[:], 12); err != nil || binary.LittleEndian.Uint32(b[:]) != chunkMapAll {
		return err
	}
	ones := bytes.Repeat([]byte{0xff}, int(m.count+7)/8)
	if _, err := m.f.WriteAt(ones, chunkMapHeader); err != nil {
		return err
	}
	if err := m.f.Sync(); err != nil {
		return err
	}
	_, err := m.f.WriteAt(make([]byte, 4), 12)
	return err
}

// change rewrites the byte with chunk i's bit under a lock that sluice's
// processes share. nydusd changes bits in a mapping without that lock: a bit
// of its that is lost is fetched again.
func (m *chunkMap) change(i uint32, f func(b, bit byte) byte) error {
	if i >= m.count {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	at := chunkMapHeader + int64(i>>3)
	if ok, err := m.f.TryLockByte(at); err != nil || !ok {
		return err // another process is there; a bit less is no harm
	}
	defer m.f.UnlockByte(at)
	var b [1]byte
	if _, err := m.f.ReadAt(b[:], at); err != nil {
		return err
	}
	if n := f(b[0], 0x80>>(i&7)); n != b[0] {
		_, err := m.f.WriteAt([]byte{n}, at)
		return err
	}
	return nil
}

func (m *chunkMap) close() error { return m.f.Close() }

// adopt takes over a chunk that nydusd has put into the data file, if its
// bytes are what the image says.
func (s *store) adopt(ch *storage.Chunk, seal uint64) bool {
	if s.bits == nil || !s.bits.has(ch.Index) || ch.Flags&storage.HasDigest == 0 {
		return false
	}
	if s.record(ch.Index).state != absent {
		return false
	}
	r := record{state: written, boot: s.c.boot, offset: ch.UncompressedOffset, size: ch.UncompressedSize, digest: ch.Digest, access: s.c.minutes()}
	if !s.sound(ch, &r) {
		return false
	}
	if extra, err := s.claim(ch); err != nil || extra || s.writeRecord(ch.Index, &r) != nil {
		return false
	}
	sl := s.slots.at(ch.Index)
	sl.access.Store(r.access)
	sl.flags.And(^uint32(slotExtra))
	sl.seal.Store(seal)
	s.noteDirty(ch.Index)
	return true
}
