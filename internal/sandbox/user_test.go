//go:build linux

package sandbox

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

func TestLookupUser(t *testing.T) {
	dir := t.TempDir()
	passwd, group := filepath.Join(dir, "passwd"), filepath.Join(dir, "group")
	for path, text := range map[string]string{
		passwd: "root:x:0:0:root:/root:/bin/sh\nbroken\napp:x:1000:1001::/srv/app:/bin/sh\n",
		group:  "root:x:0:\napp:x:1001:\nvideo:x:44:other,app\nbad:x:y:app\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		spec     string
		uid, gid uint32
		groups   []uint32
		home     string
	}{
		{"", 0, 0, nil, "/root"},
		{"0", 0, 0, nil, "/root"},
		{"app", 1000, 1001, []uint32{44}, "/srv/app"},
		{"1000", 1000, 1001, []uint32{44}, "/srv/app"},
		{"app:video", 1000, 44, nil, "/srv/app"},
		{"7", 7, 0, nil, "/"},
		{"7:8", 7, 8, nil, "/"},
	} {
		a, err := lookupUser(c.spec, passwd, group)
		if err != nil || a.uid != c.uid || a.gid != c.gid || !slices.Equal(a.groups, c.groups) || a.home != c.home {
			t.Errorf("%q: got %+v, %v", c.spec, a, err)
		}
	}
	for _, spec := range []string{"nobody", "app:nogroup", "-1", "99999999999"} {
		if a, err := lookupUser(spec, passwd, group); err == nil {
			t.Errorf("%q: got %+v", spec, a)
		}
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if a, err := lookupUser("app", pipe, group); err == nil {
		t.Errorf("a pipe as /etc/passwd: got %+v", a)
	}
	if a, err := lookupUser("", filepath.Join(dir, "none"), group); err != nil || a.uid != 0 || a.home != "/root" {
		t.Errorf("without a passwd file: %+v, %v", a, err)
	}
}
