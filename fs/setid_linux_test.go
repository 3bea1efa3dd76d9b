package fs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/fs/fstest"
	"github.com/sluicefs/sluice/internal/testenv"
)

// The kernel keeps attributes for long here: it must not show set-id bits for
// as long.
func TestIntegrationLoopbackSetID(t *testing.T) {
	testenv.Root(t)
	testenv.MountFUSE(t)
	for _, pass := range []bool{false, true} {
		t.Run(fmt.Sprintf("passthrough=%t", pass), func(t *testing.T) {
			mnt, orig := mountSetID(t, pass)
			fstest.SetID(t, filepath.Join(mnt, "sub"), filepath.Join(orig, "sub"), filepath.Join(orig, "native"), pass)
		})
	}
}

func mountSetID(t *testing.T, pass bool) (mnt, orig string) {
	hour := time.Hour
	opts := &fs.Options{EntryTimeout: &hour, AttrTimeout: &hour}
	opts.AllowOther = true
	opts.MountOptions.Options = []string{"default_permissions"}
	orig = t.TempDir()
	for _, dir := range []string{"sub", "native"} {
		if err := os.Mkdir(filepath.Join(orig, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	root, err := fs.NewLoopbackRoot(orig)
	if err != nil {
		t.Fatal(err)
	}
	root.(*fs.LoopbackNode).RootData.NoPassthrough = !pass
	mnt = t.TempDir()
	mount(t, mnt, root, opts)
	return mnt, orig
}
