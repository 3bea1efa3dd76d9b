//go:build !linux

package build

import "os"

// openTemp creates a file with a temporary name in dir.
func openTemp(dir string) (f *os.File, temp string, err error) {
	if f, err = os.CreateTemp(dir, ".sluice-*"); err != nil {
		return nil, "", err
	}
	return f, f.Name(), f.Chmod(0o644)
}

// publish gives the file its final name, in place of a file that has it.
func (o *outFile) publish() error { return os.Rename(o.temp, o.name) }
