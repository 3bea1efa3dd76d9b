package localfs

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/sluicefs/sluice/storage/storagetest"
)

func TestConformance(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storagetest.Place {
		first, dir := t.TempDir(), t.TempDir()
		b, err := New(first, dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		return storagetest.Place{Backend: b, Put: storagetest.PutFile(dir)}
	})
}

func TestNoWayOutOfTheDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	b, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.ReadAt(t.Context(), "link", make([]byte, 1), 0); err == nil {
		t.Error("read through a symbolic link out of the directory: got no error")
	}
}

func TestManyBlobsStayWithinTheBound(t *testing.T) {
	dir := t.TempDir()
	b, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for i := range 3 * maxOpen {
		name := "b" + hex.EncodeToString([]byte{byte(i), byte(i >> 8)})
		if err := os.WriteFile(filepath.Join(dir, name), []byte{byte(i)}, 0o600); err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 1)
		if err := b.ReadAt(t.Context(), name, p, 0); err != nil || p[0] != byte(i) {
			t.Fatalf("blob %d: got %v, %v", i, p, err)
		}
	}
	if len(b.open) > maxOpen {
		t.Errorf("open files: got %d, want at most %d", len(b.open), maxOpen)
	}
}
