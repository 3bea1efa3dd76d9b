package serve

import (
	"errors"
	"syscall"

	"github.com/sluicefs/sluice/internal/mounts"
)

// asBusy makes EBUSY the error that is known outside.
func asBusy(err error) error {
	if errors.Is(err, syscall.EBUSY) {
		return mounts.ErrBusy
	}
	return err
}
