package vfs

import (
	"strconv"
	"testing"
)

// Who walks on in a file system that is detached does not fill the queue of
// notices, which would cost all others their cached names.
func TestTraceIsBounded(t *testing.T) {
	const queue = 1 << 16 // notices, of package fuse
	var tr trace
	for i := range queue {
		tr.looked(1, strconv.Itoa(i))
	}
	if len(tr.after) == 0 || len(tr.after) > queue/2 {
		t.Errorf("%d names are remembered", len(tr.after))
	}
}
