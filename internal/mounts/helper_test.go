//go:build linux

package mounts

import (
	"os"
	"strconv"
)

func fdName(f *os.File) string { return strconv.Itoa(int(f.Fd())) }

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return -1
	}
	return n
}
