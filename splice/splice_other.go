//go:build !linux

package splice

import (
	"errors"
	"fmt"
)

// errUnsupported is what everything here fails with.
var errUnsupported = fmt.Errorf("splice: Linux only: %w", errors.ErrUnsupported)

// Resizable reports whether the capacity of a pipe can be changed.
func Resizable() bool { return false }

// MaxPipeSize returns the largest capacity of a pipe in bytes.
func MaxPipeSize() int { return DefaultPipeSize }

func newPair() (*Pair, error) { return nil, errUnsupported }

// MaxGrow does nothing on this system.
func (p *Pair) MaxGrow() {}

// Grow fails on this system.
func (p *Pair) Grow(n int) error { return errUnsupported }

// LoadFromAt fails on this system.
func (p *Pair) LoadFromAt(fd uintptr, sz int, off int64) (int, error) { return 0, errUnsupported }

// LoadFrom fails on this system.
func (p *Pair) LoadFrom(fd uintptr, sz int) (int, error) { return 0, errUnsupported }

// SpliceFrom fails on this system.
func (p *Pair) SpliceFrom(src *Pair, sz int) (int, error) { return 0, errUnsupported }

// WriteTo fails on this system.
func (p *Pair) WriteTo(fd uintptr, n int) (int, error) { return 0, errUnsupported }

// WriteToFlags fails on this system.
func (p *Pair) WriteToFlags(fd uintptr, n int, flags int) (int, error) { return 0, errUnsupported }

// Writev fails on this system.
func (p *Pair) Writev(bufs [][]byte) (int, error) { return 0, errUnsupported }

func (p *Pair) read(d []byte) (int, error)  { return 0, errUnsupported }
func (p *Pair) write(d []byte) (int, error) { return 0, errUnsupported }
