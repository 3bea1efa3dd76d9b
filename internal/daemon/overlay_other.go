//go:build !linux

package daemon

import "errors"

// mountOverlay gives an error: overlays are the kernel's, of Linux.
func mountOverlay(string, string, string) error { return errors.ErrUnsupported }
