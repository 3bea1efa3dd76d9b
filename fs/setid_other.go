//go:build !linux

package fs

// withoutFSETID calls f; only Linux has backing files.
func withoutFSETID(f func()) bool {
	f()
	return true
}

// plainLoopback is false: there is no loopback.
func (b *rawBridge) plainLoopback() bool { return false }
