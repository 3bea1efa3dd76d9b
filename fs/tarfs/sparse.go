package tarfs

import (
	"archive/tar"
	"fmt"
	"io"
	"sync"
)

// sparse reads a sparse member through the tar reader, which alone knows
// where its pieces are: forward cheaply, backward from the start.
type sparse struct {
	contents io.ReaderAt
	m        *member

	mu sync.Mutex
	r  *tar.Reader
	at int64
}

func newSparse(contents io.ReaderAt, m *member) (*sparse, error) {
	s := &sparse{contents: contents, m: m}
	return s, s.rewind()
}

func (s *sparse) rewind() error {
	s.r = tar.NewReader(io.NewSectionReader(s.contents, s.m.Start, 1<<62-s.m.Start))
	s.at = 0
	for range s.m.Skip + 1 {
		h, err := s.r.Next()
		if err != nil {
			return err
		}
		if h.Size < 0 {
			return fmt.Errorf("size %d", h.Size)
		}
	}
	return nil
}

// ReadAt implements io.ReaderAt.
func (s *sparse) ReadAt(p []byte, off int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if off < s.at {
		if err := s.rewind(); err != nil {
			return 0, err
		}
	}
	n, err := io.CopyN(io.Discard, s.r, off-s.at)
	s.at += n
	if err != nil {
		return 0, err
	}
	got, err := io.ReadFull(s.r, p)
	s.at += int64(got)
	return got, err
}

// Close implements io.Closer.
func (s *sparse) Close() error { return nil }
