package vfs

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/fs/fstest"
	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/testenv"
)

// A file system that knows nothing of HANDLE_KILLPRIV_V2 loses set-id bits in a
// union as elsewhere, with and without backing files.
func TestIntegrationSetID(t *testing.T) {
	testenv.Root(t)
	testenv.MountFUSE(t)
	for name, pass := range map[string]bool{"passthrough": true, "ordinary": false} {
		t.Run(name, func(t *testing.T) {
			orig, mnt := t.TempDir(), t.TempDir()
			if err := errors.Join(os.Mkdir(orig+"/sub", 0o755), os.Mkdir(orig+"/native", 0o755)); err != nil {
				t.Fatal(err)
			}
			root, err := fs.NewLoopbackRoot(orig)
			if err != nil {
				t.Fatal(err)
			}
			root.(*fs.LoopbackNode).RootData.NoPassthrough = !pass
			hour := time.Hour
			u := New(nil)
			mustAttach(t, u, "/a", fs.NewNodeFS(root, &fs.Options{EntryTimeout: &hour, AttrTimeout: &hour}))
			mountOn(t, mnt, u, &fuse.MountOptions{
				Name: "sluice-test", AllowOther: true, Options: []string{"default_permissions"}, ExtraCapabilities: Capabilities,
			})
			fstest.SetID(t, mnt+"/a/sub", orig+"/sub", orig+"/native", pass)
		})
	}
}
