//go:build !linux

package imagefs

import "github.com/sluicefs/sluice/fuse"

const statusCorrupt = fuse.EIO
