//go:build !linux

package fuse

import "github.com/sluicefs/sluice/splice"

// ReadResultPipe returns a result that answers EIO: there are no such pipes
// on this system.
func ReadResultPipe(pipe *splice.Pair, size int) ReadResult { return brokenPipe{} }

// ReadResultPipeFlags is like ReadResultPipe.
func ReadResultPipeFlags(pipe *splice.Pair, size, flags int) ReadResult { return brokenPipe{} }

type brokenPipe struct{}

func (brokenPipe) Bytes([]byte) ([]byte, Status) { return nil, EIO }
func (brokenPipe) Size() int                     { return 0 }
func (brokenPipe) Done()                         {}
