package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sluicefs/sluice/storage"
)

// A stream holds at most streamAhead+2 parts of at most streamPart bytes.
// The first ones are small, so that what is read is unpacked while the rest
// comes, and connections are there for what comes next.
const (
	streamFirst = 256 << 10
	streamPart  = 4 << 20
	streamAhead = 3
)

// partAt returns how long the part is that begins at off: at least a 16th and
// at most an eighth of what lies before it, within the bounds.
func partAt(off int64) int64 {
	n := int64(streamFirst)
	for n < streamPart && off >= 16*n {
		n *= 2
	}
	return n
}

// stream reads a blob from its start to its end in ranges, some of which are
// under way ahead of the reader: from a server far away that is several times
// as fast as one after another, and what is cut off goes on where it was cut.
// The blob's digest is compared at its end, before io.EOF is returned.
type stream struct {
	parts  chan chan part // in order
	now    []byte         // of the part that is being read
	hash   hash.Hash
	want   v1.Hash
	err    error
	ended  func() error // of the context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

type part struct {
	b   []byte
	err error
}

// newStream begins to read the blob d at b. Close ends it.
func newStream(ctx context.Context, b storage.Backend, d v1.Descriptor) (*stream, error) {
	if d.Digest.Algorithm != "sha256" || d.Size < 0 {
		return nil, fmt.Errorf("blob %s of %d bytes: not a size, or not a digest that is supported", d.Digest, d.Size)
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &stream{parts: make(chan chan part, streamAhead), hash: sha256.New(), want: d.Digest, ended: ctx.Err, cancel: cancel}
	s.wg.Go(func() {
		defer close(s.parts)
		for off := int64(0); off < d.Size; off += partAt(off) {
			c := make(chan part, 1)
			select {
			case s.parts <- c:
			case <-ctx.Done():
				return
			}
			s.wg.Go(func() {
				p := part{b: make([]byte, min(partAt(off), d.Size-off))}
				p.err = b.ReadAt(ctx, d.Digest.Hex, p.b, off)
				c <- p
			})
		}
	})
	return s, nil
}

// Read is that of io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	for len(s.now) == 0 && s.err == nil {
		c, ok := <-s.parts
		if !ok {
			s.err = s.end()
			break
		}
		next := <-c
		s.now, s.err = next.b, next.err
		if s.err != nil {
			s.now = nil
		}
		s.hash.Write(s.now)
	}
	if len(s.now) == 0 {
		return 0, s.err
	}
	n := copy(p, s.now)
	s.now = s.now[n:]
	return n, nil
}

func (s *stream) end() error {
	if err := s.ended(); err != nil {
		return err
	}
	if got := hex.EncodeToString(s.hash.Sum(nil)); got != s.want.Hex {
		return fmt.Errorf("digest is sha256:%s, want %s", got, s.want)
	}
	return io.EOF
}

// Close ends what is under way and waits for it.
func (s *stream) Close() error {
	s.cancel()
	s.wg.Wait()
	return nil
}
