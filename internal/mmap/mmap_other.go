//go:build !unix

package mmap

import (
	"io"
	"os"
)

// Without mmap the bytes are read to the heap: right, but not small.
func mapFile(f *os.File, n int) ([]byte, func([]byte) error, error) {
	data := make([]byte, n)
	_, err := io.ReadFull(io.NewSectionReader(f, 0, int64(n)), data)
	return data, nil, err
}

func mapAnonymous(n int) ([]byte, func([]byte) error, error) {
	return make([]byte, n), nil, nil
}

func trim([]byte) {}
