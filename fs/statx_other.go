//go:build !linux

package fs

import "github.com/sluicefs/sluice/fuse"

// Statx is ENOSYS: only Linux asks.
func (b *rawBridge) Statx(cancel <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	return fuse.ENOSYS
}
