package multifs_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/fs/memfs"
	"github.com/sluicefs/sluice/fs/multifs"
	"github.com/sluicefs/sluice/internal/testenv"
)

// file returns a tree with one file in it, whose inode has the same number in
// all trees.
func file(content string) fs.InodeEmbedder { return &tree{content: content} }

type tree struct {
	fs.Inode
	content string
}

func (t *tree) OnAdd(ctx context.Context) {
	f := &fs.MemRegularFile{Data: []byte(t.content)}
	t.AddChild("f", t.NewPersistentInode(ctx, f, fs.StableAttr{Ino: 7}), false)
}

func mount(t *testing.T, opts multifs.Options) (*multifs.FS, string) {
	t.Helper()
	testenv.MountFUSE(t)
	m, err := multifs.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	server, err := m.Mount(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Unmount(); err != nil {
			syscall.Unmount(dir, 2) // MNT_DETACH
			t.Errorf("unmount: %v", err)
		}
	})
	return m, dir
}

func TestIntegrationAddRemove(t *testing.T) {
	m, dir := mount(t, multifs.Options{})
	for _, name := range []string{"a", "b"} {
		if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s before it was added: %v", name, err)
		}
		if err := m.Add(name, file("of "+name)); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(dir, name, "f")); err != nil || string(b) != "of "+name {
			t.Errorf("%s: got %q, %v", name, b, err)
		}
	}
	if err := m.Add("a", file("")); !errors.Is(err, syscall.EEXIST) {
		t.Errorf("a second a: got %v, want EEXIST", err)
	}
	for _, name := range []string{"", ".", "..", "x/y", "config"} {
		if err := m.Add(name, file("")); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("the name %q: got %v, want EINVAL", name, err)
		}
	}
	if got := m.Names(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("names: got %v", got)
	}
	open, err := os.Open(filepath.Join(dir, "a", "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if err := m.Remove("a"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "a")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a after it was removed: %v", err)
	}
	b := make([]byte, 4)
	if _, err := open.ReadAt(b, 0); err != nil || string(b) != "of a" {
		t.Errorf("an open file of what was removed: %q, %v", b, err)
	}
	if err := m.Remove("a"); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("removed twice: got %v, want ENOENT", err)
	}
}

func TestIntegrationConfig(t *testing.T) {
	m, dir := mount(t, multifs.Options{Open: func(ctx context.Context, target string) (fs.InodeEmbedder, error) {
		if target != "memory" {
			return nil, syscall.ENOENT
		}
		return memfs.New(memfs.Options{}), nil
	}})
	link := filepath.Join(dir, "config", "x")
	if err := os.Symlink("elsewhere", link); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("a target that does not open: got %v, want ENOENT", err)
	}
	if err := os.Symlink("memory", link); err != nil {
		t.Fatal(err)
	}
	if got, err := os.Readlink(link); err != nil || got != "memory" {
		t.Errorf("link: got %q, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "x", "f"), []byte("data"), 0o644); err != nil {
		t.Error(err)
	}
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	if names := m.Names(); len(names) != 0 {
		t.Errorf("names after the removal: %v", names)
	}
	// a handler cannot wait until the kernel has been told
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		_, err := os.Stat(filepath.Join(dir, "x"))
		if errors.Is(err, os.ErrNotExist) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("x after its link was removed: %v", err)
		}
	}
}
