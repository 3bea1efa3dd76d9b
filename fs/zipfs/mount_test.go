package zipfs

import (
	"archive/zip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/fs/fstest"
	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/testenv"
)

func TestIntegrationMount(t *testing.T) {
	testenv.MountFUSE(t)
	want := map[string][]byte{"stored": []byte(text(5000)), "dir/deflated": []byte(text(400_000)), "dir/sub/empty": {}}
	data := build(t, func(w *zip.Writer) {
		for name, content := range want {
			method := zip.Deflate
			if name == "stored" {
				method = zip.Store
			}
			add(t, w, zip.FileHeader{Name: name, Method: method, Modified: mtime}, string(content))
		}
	})
	file := filepath.Join(t.TempDir(), "a.zip")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	a, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	dir := t.TempDir()
	minute := time.Minute
	server, err := fs.Mount(dir, a.Root(), &fs.Options{EntryTimeout: &minute, AttrTimeout: &minute})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Unmount()
	fstest.ReadOnly(t, dir, want)

	// the same without a tree of inodes
	raw := t.TempDir()
	plain, err := fuse.NewServer(a.Raw(), raw, &fuse.MountOptions{Options: []string{"ro"}})
	if err != nil {
		t.Fatal(err)
	}
	go plain.Serve()
	defer plain.Unmount()
	if err := plain.WaitMount(); err != nil {
		t.Fatal(err)
	}
	fstest.ReadOnly(t, raw, want)
}
