package serve

import (
	"errors"
	"log/slog"
	"syscall"

	"github.com/sluicefs/sluice/storage/cache"
)

// openStore opens the cache in dir. Where the disk is full or can not be
// written, reads go on without one.
func openStore(dir string, o cache.Options) (*cache.Cache, error) {
	store, err := cache.Open(dir, o)
	for _, errno := range []syscall.Errno{syscall.EROFS, syscall.ENOSPC, syscall.EDQUOT} {
		if !errors.Is(err, errno) {
			continue
		}
		log := o.Log
		if log == nil {
			log = slog.Default()
		}
		log.Warn("nothing that is fetched can be kept", "error", err)
		return cache.Open("", o)
	}
	return store, err
}
