package imagefs

import (
	"syscall"

	"github.com/sluicefs/sluice/fuse"
)

// statusCorrupt is the answer where an image is corrupt, as the kernel's own
// EROFS driver has it.
const statusCorrupt = fuse.Status(syscall.EUCLEAN)
