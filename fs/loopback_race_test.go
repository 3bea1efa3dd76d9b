//go:build linux

package fs_test

import (
	"testing"

	"github.com/sluicefs/sluice/fs/fstest"
)

func TestIntegrationLoopbackStaysInside(t *testing.T) {
	mnt, orig := mountLoopback(t, nil)
	fstest.StaysInside(t, mnt, orig)
}
