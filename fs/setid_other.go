//go:build !linux

package fs

// plainLoopback is false: there is no loopback.
func (b *rawBridge) plainLoopback() bool { return false }
