//go:build linux

package sandbox

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestSubIDs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "subuid")
	text := "# comment\nother:1:2\nann:100000:65536\n\nann:x:1\nann:1:0\nann:4294967295:9\n1000:300000:10\nann:1\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := subIDs(path, "ann", "1000")
	want := []idRange{{100000, 65536}, {300000, 10}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	if got, err := subIDs(path, "bob", "1001"); err == nil || !strings.Contains(err.Error(), "no line for bob") {
		t.Errorf("somebody else: %v, %v", got, err)
	}
	if _, err := subIDs(path+"-none", "ann", "1000"); err == nil {
		t.Error("no file: no error")
	}
}

func TestMapArgs(t *testing.T) {
	got := strings.Join(mapArgs(7, 1000, []idRange{{100000, 65536}, {300000, 10}, {0, 1<<32 - 2}}), " ")
	if want := "7 0 1000 1 1 100000 65536 65537 300000 10"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
