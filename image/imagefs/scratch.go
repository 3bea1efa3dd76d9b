package imagefs

import (
	"sync"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/storage"
)

// scratch is what one request needs beside its reply: values that pass
// through interface methods would else be allocated anew each time.
type scratch struct {
	inode   image.Inode
	extents []storage.Extent
	next    []storage.Extent // what a read that waits passes on
}

// keepExtents bounds what a pooled scratch holds on to: a 1 MiB read of an
// image with 4 KiB chunks.
const keepExtents = 256

var scratches = sync.Pool{New: func() any { return &scratch{extents: make([]storage.Extent, 0, 8)} }}

func getScratch() *scratch { return scratches.Get().(*scratch) }

// putScratch gives s back; nothing of it may be used after.
func putScratch(s *scratch) {
	s.inode = image.Inode{}
	clear(s.extents[:cap(s.extents)])
	s.extents = s.extents[:0]
	clear(s.next[:cap(s.next)])
	s.next = s.next[:0]
	if cap(s.extents)+cap(s.next) <= keepExtents {
		scratches.Put(s)
	}
}
