package fs_test

import (
	"context"
	"os"
	"syscall"
	"testing"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/testenv"
)

// linker is a directory of files that say nothing of themselves.
type linker struct{ fs.Inode }

func (d *linker) Mknod(ctx context.Context, name string, mode, dev uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return d.NewPersistentInode(ctx, &linker{}, fs.StableAttr{Mode: mode & syscall.S_IFMT}), 0
}

func (d *linker) Link(ctx context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return target.EmbeddedInode(), 0
}

// A node need not count its links to be linked to.
func TestIntegrationLinkCountByDefault(t *testing.T) {
	testenv.MountFUSE(t)
	mnt := t.TempDir()
	mount(t, mnt, &linker{}, &fs.Options{})
	if err := syscall.Mknod(mnt+"/a", syscall.S_IFIFO|0o600, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(mnt+"/a", mnt+"/b"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "/a", "/b"} {
		var st syscall.Stat_t
		if err := syscall.Stat(mnt+name, &st); err != nil || st.Nlink != 1 {
			t.Errorf("%q: %d links, %v, want 1", name, st.Nlink, err)
		}
	}
}
