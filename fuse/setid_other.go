//go:build !linux

package fuse

// withoutFSETID calls f; only Linux has backing files.
func withoutFSETID(f func()) bool {
	f()
	return true
}

func keepsSetGID(int) bool { return false }
