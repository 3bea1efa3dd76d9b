//go:build !linux

package cli

// raiseFileLimit does nothing on this system.
func raiseFileLimit(uint64) {}
