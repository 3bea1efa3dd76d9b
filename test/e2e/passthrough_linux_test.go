package e2e

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/storage"
)

// passState is what "stats --json" says of passthrough.
type passState struct {
	Reads int64  `json:"read_requests"`
	State string `json:"passthrough"`
	Opens int64  `json:"passthrough_opens"`
	Files int64  `json:"whole_files"`
}

func (b *bench) passState(mnt string) passState {
	b.t.Helper()
	var s struct{ Image passState }
	if err := json.Unmarshal([]byte(b.ok("stats", "--json", mnt)), &s); err != nil {
		b.t.Fatal(err)
	}
	return s.Image
}

// A large file of which all is here is read by the kernel itself: a later
// open of it brings no READ. A copy that is damaged is not used.
func TestIntegrationImagePassthrough(t *testing.T) {
	b := mountBench(t)
	src, mnt, cacheDir := b.mkdir("big"), b.mkdir("mnt"), b.mkdir("own-cache")
	want := make([]byte, 3<<20+123)
	rand.NewChaCha8([32]byte{5}).Read(want)
	for name, p := range map[string][]byte{"large": want, "small": want[:5000]} {
		if err := os.WriteFile(filepath.Join(src, name), p, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	boot, _ := b.image(src, "img", storage.Zstd)
	same := func() {
		t.Helper()
		if got, err := os.ReadFile(mnt + "/large"); err != nil || !bytes.Equal(got, want) {
			t.Errorf("large: %d bytes, %v", len(got), err)
		}
		if got, err := os.ReadFile(mnt + "/small"); err != nil || !bytes.Equal(got, want[:5000]) {
			t.Errorf("small: %d bytes, %v", len(got), err)
		}
	}
	mount := func() passState {
		t.Helper()
		b.ok("mount", "-d", "--prefetch=none", "--passthrough=on", "--cache-dir", cacheDir, boot, mnt)
		var s passState
		b.until("the kernel to be asked for passthrough", func() bool { s = b.passState(mnt); return s.State != "" })
		return s
	}
	// opened makes opens until one goes by passthrough: the copy is made in
	// the background, and the kernel ends opens some time after close.
	opened := func() {
		t.Helper()
		before := b.passState(mnt).Opens
		b.until("an open to go by passthrough", func() bool {
			f, err := os.Open(mnt + "/large")
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
			return b.passState(mnt).Opens > before
		})
	}
	if s := mount(); s.State != "on" {
		t.Logf("passthrough is %s", s.State)
		same()
		same()
		if s := b.passState(mnt); s.Opens != 0 || s.Files != 0 {
			t.Errorf("without passthrough: %+v", s)
		}
		b.ok("umount", mnt)
		return
	}
	same()
	opened()
	if s := b.passState(mnt); s.Files != 1 {
		t.Errorf("whole files: %+v, want 1", s)
	}
	f, err := os.Open(mnt + "/large")
	if err != nil {
		t.Fatal(err)
	}
	before := b.passState(mnt).Reads
	if got, err := os.ReadFile(mnt + "/large"); err != nil || !bytes.Equal(got, want) {
		t.Errorf("by passthrough: %d bytes, %v", len(got), err)
	}
	p, err := unix.Mmap(int(f.Fd()), 0, len(want), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(p, want) {
		t.Error("mmap: other bytes")
	}
	if err := unix.Munmap(p); err != nil {
		t.Error(err)
	}
	f.Close()
	if s := b.passState(mnt); s.Reads != before {
		t.Errorf("%d READs came for a file that the kernel reads", s.Reads-before)
	}
	b.ok("umount", mnt)

	names, err := filepath.Glob(filepath.Join(cacheDir, "chunks", "*.whole"))
	if err != nil || len(names) != 1 {
		t.Fatalf("whole files: %v, %v", names, err)
	}
	if ls := b.ok("cache", "ls", "--cache-dir", cacheDir); !strings.Contains(ls, filepath.Base(names[0])) {
		t.Errorf("cache ls does not list %s:\n%s", names[0], ls)
	}
	// The next mount has it at once, unless it is damaged.
	mount()
	same()
	if s := b.passState(mnt); s.Opens != 1 || s.Files != 0 {
		t.Errorf("second mount: %+v, want the copy of the first to be used", s)
	}
	b.ok("umount", mnt)
	for what, damage := range map[string]func() error{
		"too short":     func() error { return os.Truncate(names[0], 1<<20) },
		"writable":      func() error { return os.Chmod(names[0], 0o600) },
		"other's":       func() error { return os.Chown(names[0], 12345, -1) },
		"symbolic link": func() error { return replaceByLink(names[0], filepath.Join(src, "small")) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		mount()
		same()
		opened()
		same()
		if s := b.passState(mnt); s.Files != 1 {
			t.Errorf("%s: %+v, want it made again", what, s)
		}
		b.ok("umount", mnt)
	}
	b.ok("cache", "prune", "--cache-dir", cacheDir)
	if _, err := os.Lstat(names[0]); err == nil {
		t.Error("it is there after prune")
	}
}

func replaceByLink(path, target string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return os.Symlink(target, path)
}
