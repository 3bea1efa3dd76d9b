package mmap_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluicefs/sluice/internal/mmap"
)

// read returns the byte at i, guarded.
func read(m *mmap.Map, b []byte, i int) (c byte, err error) {
	err = m.Guarded(func() error { c = b[i]; return nil })
	return c, err
}

func TestCutFileGivesAnError(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(strings.Repeat("x", 1<<16)), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := mmap.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if c, err := read(m, m.Bytes(), 1<<15); c != 'x' || err != nil {
		t.Fatalf("got %q, %v; want 'x'", c, err)
	}
	if err := os.Truncate(name, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := read(m, m.Bytes(), 1<<15); !errors.Is(err, mmap.ErrTruncated) {
		t.Errorf("got %v, want ErrTruncated", err)
	}
}

func TestOtherPanicsGoOn(t *testing.T) {
	m, err := mmap.Anonymous(10)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	defer func() {
		if r := recover(); r == nil {
			t.Error("the panic of an index out of range did not go on")
		}
	}()
	_, err = read(m, []byte{1}, 5)
	t.Errorf("got %v", err)
}

func TestCopyHasALimit(t *testing.T) {
	m, err := mmap.Copy(strings.NewReader("12345"), 5)
	if err != nil || string(m.Bytes()) != "12345" {
		t.Fatalf("got %v", err)
	}
	m.Close()
	if m, err := mmap.Copy(strings.NewReader("123456"), 5); err == nil {
		m.Close()
		t.Error("6 bytes with a limit of 5: got no error")
	}
	if m, err = mmap.Copy(strings.NewReader(""), 5); err != nil || len(m.Bytes()) != 0 {
		t.Errorf("nothing: got %v", err)
	}
}

func TestOnlyFilesAreMapped(t *testing.T) {
	if m, err := mmap.Open(t.TempDir()); err == nil {
		m.Close()
		t.Error("a directory: got no error")
	}
}

func TestTrimKeepsTheBytes(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<14)
	if err := os.WriteFile(name, want, 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := mmap.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for range 3 {
		if !bytes.Equal(m.Bytes(), want) {
			t.Fatal("the bytes changed")
		}
		m.Trim()
	}
	a, err := mmap.Anonymous(4096)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	copy(a.Bytes(), "kept")
	if a.Trim(); string(a.Bytes()[:4]) != "kept" {
		t.Error("memory without a file was trimmed")
	}
}
