package fuse

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestReadResults(t *testing.T) {
	content := []byte("0123456789abcdef")
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, c := range []struct {
		name string
		r    ReadResult
		size int
		want string
	}{
		{"data", ReadResultData(content[:4]), 4, "0123"},
		{"vector", ReadResultVector([][]byte{content[:3], nil, content[8:10]}), 5, "01289"},
		{"fd", ReadResultFd(f.Fd(), 2, 4), 4, "2345"},
		{"fd past the end", ReadResultFd(f.Fd(), 14, 100), 100, "ef"},
		{"fd at the end", ReadResultFd(f.Fd(), 16, 100), 100, ""},
		{"empty", ReadResultData(nil), 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.r.Size(); got != c.size {
				t.Errorf("size: got %d, want %d", got, c.size)
			}
			got, st := c.r.Bytes(make([]byte, 128))
			if !st.Ok() || !bytes.Equal(got, []byte(c.want)) {
				t.Errorf("bytes: got %q, %v, want %q", got, st, c.want)
			}
			c.r.Done()
		})
	}
	if _, st := ReadResultFd(^uintptr(0), 0, 4).Bytes(make([]byte, 4)); st != EBADF {
		t.Errorf("a descriptor that is none: got %v, want %v", st, EBADF)
	}
	small := make([]byte, 2)
	if got, _ := ReadResultFd(f.Fd(), 0, 10).Bytes(small); string(got) != "01" {
		t.Errorf("a buffer smaller than the result: got %q", got)
	}
}

func TestReadResultsNoAllocs(t *testing.T) {
	data, buf := []byte("data"), make([]byte, 8)
	if n := testing.AllocsPerRun(200, func() {
		for _, r := range []ReadResult{ReadResultData(data), ReadResultFd(0, 0, 0)} {
			r.Bytes(buf)
			r.Done()
		}
	}); n != 0 && !raceEnabled {
		t.Errorf("allocations: got %v, want 0", n)
	}
}

func TestReadResultDoneTwice(t *testing.T) {
	r := ReadResultData([]byte("a"))
	r.Done()
	r.Done()
	if b, st := r.Bytes(nil); st.Ok() || len(b) != 0 {
		t.Errorf("after Done: got %q, %v", b, st)
	}
	x, y := ReadResultData([]byte("x")), ReadResultData([]byte("y"))
	if x == y {
		t.Error("one result serves two requests")
	}
	x.Done()
	y.Done()
}
