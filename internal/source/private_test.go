//go:build unix

package source

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluicefs/sluice/internal/testenv"
)

// What is kept in the cache directory is taken for good later, so that nobody
// else may be able to put it there.
func TestCheckCacheDir(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, mode := range map[string]os.FileMode{"own": 0o700, "group": 0o775, "open": 0o777, "sticky": 0o777 | os.ModeSticky} {
		if err := os.Mkdir(at(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(at(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("own", at("link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at("file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"own": "", "group": "", "new/one": "", "open": "every user", "sticky": "every user", "open/sub": "replaced by every user", "sticky/sub": "", "link": "symbolic link", "link/": "symbolic link", "file": "not a directory",
	} {
		err := CheckCacheDir(dir + "/" + name)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
	if fi, err := os.Stat(at("new/one")); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("a new one: %v, %v", fi, err)
	}
	ref, err := Parse("docker://registry.invalid/x", Auto)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenImage(t.Context(), ref, Options{CacheDir: at("open")}); err == nil || !strings.Contains(err.Error(), "every user") {
		t.Errorf("opened an image: %v", err)
	}
}

// Root is no exception: who owns a directory chooses what is in it.
func TestIntegrationCacheDirOfOthers(t *testing.T) {
	testenv.Root(t)
	dir := t.TempDir() + "/c"
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, 1234, 1234); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SUDO_UID", "")
	if err := CheckCacheDir(dir); err == nil || !strings.Contains(err.Error(), "another user (1234)") {
		t.Errorf("got %v", err)
	}
	t.Setenv("SUDO_UID", "1234")
	if err := CheckCacheDir(dir); err != nil {
		t.Errorf("of the user who called sudo: %v", err)
	}
}
