package unpack_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sluicefs/sluice/image/imagetest"
	"github.com/sluicefs/sluice/image/unpack"
	"github.com/sluicefs/sluice/internal/testenv"
)

func TestIntegrationUnpackedEqualsTheSource(t *testing.T) {
	testenv.Root(t)
	mkfs := testenv.Program(t, "mkfs.erofs", "erofs-utils")
	untar := testenv.Program(t, "tar", "tar")
	source := imagetest.Source(t)
	file := filepath.Join(t.TempDir(), "image")
	if out, err := exec.CommandContext(t.Context(), mkfs, file, source).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.erofs: %v\n%s", err, out)
	}
	tree, _ := open(t, file)
	want := imagetest.HostLines(t, source)

	t.Run("directory", func(t *testing.T) {
		target := filepath.Join(t.TempDir(), "out")
		r, err := unpack.Dir(t.Context(), tree, target, unpack.Options{})
		if err != nil {
			t.Fatal(err)
		}
		imagetest.SameLines(t, imagetest.HostLines(t, target), want)
		if int(r.Entries) != len(want)-1 {
			t.Errorf("entries: got %d, want %d", r.Entries, len(want)-1)
		}
	})
	t.Run("tar", func(t *testing.T) {
		name := filepath.Join(t.TempDir(), "out.tar")
		r, err := unpack.TarFile(t.Context(), tree, name, unpack.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Skipped) != 1 {
			t.Errorf("skipped: got %v, want the socket", r.Skipped)
		}
		target := t.TempDir()
		out, err := exec.CommandContext(t.Context(), untar, "-C", target, "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", name).CombinedOutput()
		if err != nil {
			t.Fatalf("tar: %v\n%s", err, out)
		}
		got := imagetest.HostLines(t, target)
		for _, path := range [...]string{"/", "/special", "/special/socket"} { // the root is not in it, and a socket is missing
			delete(got, path)
			delete(want, path)
		}
		imagetest.SameLines(t, got, want)
	})
	if _, err := os.Stat(source); err != nil {
		t.Error(err)
	}
}
