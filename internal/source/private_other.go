//go:build !unix

package source

// CheckCacheDir allows every directory: this system has no modes.
func CheckCacheDir(string) error { return nil }
