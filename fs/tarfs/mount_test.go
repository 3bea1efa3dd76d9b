package tarfs

import (
	"archive/tar"
	"bytes"
	"testing"
	"time"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/fs/fstest"
	"github.com/sluicefs/sluice/internal/testenv"
)

func TestIntegrationMount(t *testing.T) {
	testenv.MountFUSE(t)
	want := map[string][]byte{"file": []byte(text(5000)), "dir/large": []byte(text(400_000)), "dir/sub/empty": {}}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for name, content := range want {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), ModTime: mtime}); err != nil {
			t.Fatal(err)
		}
		w.Write(content)
	}
	w.Close()
	for name, data := range compressed(t, out.Bytes()) {
		t.Run(name, func(t *testing.T) {
			a, err := Open(write(t, name, data), Options{})
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
		})
	}
}
