package fstest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/fstest"
)

// ReadOnly tests a file system that cannot be changed, mounted on dir: that
// walking, reading in whole and in parts, and listing agree with each other
// and with want, the contents of regular files by path, and that every attempt
// to change it fails.
func ReadOnly(t *testing.T, dir string, want map[string][]byte) {
	t.Helper()
	var names []string
	for name := range want {
		names = append(names, name)
	}
	if err := fstest.TestFS(os.DirFS(dir), names...); err != nil {
		t.Error(err)
	}
	for name, data := range want {
		readParts(t, filepath.Join(dir, name), data)
	}
	mustFail(t, "create", os.WriteFile(filepath.Join(dir, "new"), nil, 0o644))
	mustFail(t, "mkdir", os.Mkdir(filepath.Join(dir, "new"), 0o755))
	for name := range want {
		path := filepath.Join(dir, name)
		mustFail(t, "unlink", os.Remove(path))
		mustFail(t, "rename", os.Rename(path, path+"2"))
		_, err := os.OpenFile(path, os.O_RDWR, 0)
		mustFail(t, "open for writing", err)
		break
	}
}

func mustFail(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error on a read-only file system", what)
	}
	if errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: %v", what, err)
	}
}

// readParts reads a file in odd places and sizes.
func readParts(t *testing.T, path string, want []byte) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	size := int64(len(want))
	for _, off := range []int64{0, 1, size / 3, size / 2, size - 1, size, size + 1} {
		for _, n := range []int{1, 511, 4096, 70000} {
			if off < 0 {
				continue
			}
			got := make([]byte, n)
			m, err := f.ReadAt(got, off)
			if err != nil && err != io.EOF {
				t.Errorf("%s: read %d bytes at %d: %v", path, n, off, err)
				return
			}
			if w := want[min(off, size):min(off+int64(n), size)]; !bytes.Equal(got[:m], w) {
				t.Errorf("%s: read %d bytes at %d: got %d bytes, want %d, or they differ", path, n, off, m, len(w))
				return
			}
		}
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil || st.Size != size {
		t.Errorf("%s: fstat: size %d, %v, want %d", path, st.Size, err, size)
	}
}
