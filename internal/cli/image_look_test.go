package cli

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluicefs/sluice/image/check"
)

const smallImage = "../../image/rafs/testdata/rafs-v6-2.2.boot"

// runCLI runs a command line without a process.
func runCLI(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, words bytes.Buffer
	env := &Env{Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &words, Getenv: func(string) string { return "" }}
	code = Main(t.Context(), env, append([]string{"sluice"}, args...))
	return code, out.String(), words.String()
}

func TestImageCheck(t *testing.T) {
	code, out, words := runCLI(t, "", "image", "check", smallImage)
	if code != exitDone || !strings.Contains(out, "2 verified") || !strings.Contains(out, "nothing is wrong") {
		t.Errorf("got %d\n%s%s", code, out, words)
	}
	code, out, _ = runCLI(t, "", "image", "check", "--json", "--metadata-only", smallImage)
	var r check.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != exitDone || r.Entries != 3 || r.Verified != 0 {
		t.Errorf("got %d, %v, %+v", code, err, r)
	}
	b, err := os.ReadFile(smallImage)
	if err != nil {
		t.Fatal(err)
	}
	b[16384] ^= 1 // a digest
	dir := t.TempDir()
	blob, err := filepath.Abs("../../image/rafs/testdata")
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(dir, "image.boot")
	if err := os.WriteFile(bad, b, 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, words = runCLI(t, "", "image", "check", bad, "--blob-dir", blob)
	if code != exitFailed || !strings.Contains(words, "content is wrong") {
		t.Errorf("got %d\n%s%s", code, out, words)
	}
	if code, _, words = runCLI(t, "", "image", "check", filepath.Join(dir, "none")); code != exitFailed || !strings.Contains(words, "none") {
		t.Errorf("no such file: got %d, %s", code, words)
	}
	if code, _, _ = runCLI(t, "", "image", "check"); code != exitUsage {
		t.Errorf("no argument: got %d, want %d", code, exitUsage)
	}
}

func TestImageInspect(t *testing.T) {
	code, out, words := runCLI(t, "", "image", "inspect", smallImage, "-R", "cd /", "-R", "stat lib.rs")
	if code != exitDone || !strings.Contains(out, "16931") {
		t.Errorf("got %d\n%s%s", code, out, words)
	}
	code, out, words = runCLI(t, "ls\nfly\nblobs\nexit\nls\n", "image", "inspect", smallImage)
	if code != exitDone || strings.Count(out, "lib.rs") != 1 || !strings.Contains(words, `"fly" is not a command`) {
		t.Errorf("got %d\n%s%s", code, out, words)
	}
	code, out, _ = runCLI(t, "", "image", "inspect", "--json", smallImage, "-R", "blobs")
	var blobs []struct{ ID string }
	if err := json.Unmarshal([]byte(out), &blobs); err != nil || code != exitDone || len(blobs) != 1 {
		t.Errorf("got %d, %v, %s", code, err, out)
	}
}

func TestImageStatAndDiff(t *testing.T) {
	code, out, words := runCLI(t, "", "image", "stat", smallImage, "--base", smallImage)
	if code != exitDone || !strings.Contains(out, "shared") || !strings.Contains(out, "2 of 2 chunks used") {
		t.Errorf("stat: got %d\n%s%s", code, out, words)
	}
	if code, out, words = runCLI(t, "", "image", "diff", smallImage, smallImage); code != exitDone || out != "" {
		t.Errorf("diff: got %d\n%s%s", code, out, words)
	}
	code, out, words = runCLI(t, "", "image", "diff", smallImage, "../../image/erofs/testdata/plain.erofs")
	if code != exitFailed || !strings.Contains(out, "- /lib.rs") || !strings.Contains(out, "+ /numbers") {
		t.Errorf("diff: got %d\n%s%s", code, out, words)
	}
}

func TestImageUnpack(t *testing.T) {
	code, out, words := runCLI(t, "", "image", "unpack", smallImage, "--tar", "-")
	r := tar.NewReader(strings.NewReader(out))
	h, err := r.Next()
	if err != nil || code != exitDone || h.Name != "lib.rs" {
		t.Fatalf("tar: got %d, %v, %s", code, err, words)
	}
	if n, err := io.Copy(io.Discard, r); n != 16931 {
		t.Errorf("tar: got %d bytes, %v", n, err)
	}
	dir := filepath.Join(t.TempDir(), "out")
	if code, _, words = runCLI(t, "", "image", "unpack", smallImage, "--dir", dir, "--no-owner"); code != exitDone {
		t.Errorf("dir: got %d, %s", code, words)
	}
	if st, err := os.Stat(filepath.Join(dir, "sync_io.rs")); err != nil || st.Size() != 13400 {
		t.Errorf("dir: got %v, %v", st, err)
	}
	if code, _, _ = runCLI(t, "", "image", "unpack", smallImage); code != exitUsage {
		t.Errorf("no target: got %d, want %d", code, exitUsage)
	}
}
