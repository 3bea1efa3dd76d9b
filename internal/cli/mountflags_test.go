package cli

import (
	"slices"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "12": 12, "1k": 1 << 10, "3M": 3 << 20, "2GiB": 2 << 30, "1TB": 1 << 40,
	} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "M", "-1", "x", "1.5G", "9999999999T", "12Q"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q was taken as %d", text, got)
		}
	}
}

func TestFstabOptionsAreFlags(t *testing.T) {
	f := mountFlags{uid: -1, options: []string{
		"rw", "ro", "nosuid", "x-systemd.automount", "uid=5", "io=classic", "cache_timeout=3s", "on-outage=error", "allow_other", "_netdev",
	}}
	if err := f.applyOptions(); err != nil {
		t.Fatal(err)
	}
	if !f.readOnly || f.uid != 5 || f.transport != "classic" || f.cacheTimeout != 3*time.Second || f.onOutage != "error" || !f.allowOther {
		t.Errorf("got %+v", f)
	}
	if want := []string{"nosuid"}; !slices.Equal(f.kernel, want) {
		t.Errorf("for the kernel: got %v, want %v", f.kernel, want)
	}
	for _, bad := range []string{"nonsense", "uid=x", "cache_timeout=soon", "io"} {
		g := mountFlags{options: []string{bad}}
		if err := g.applyOptions(); err == nil {
			t.Errorf("-o %s was accepted", bad)
		}
	}
}

func TestCommandOfImage(t *testing.T) {
	image := v1.Config{Env: []string{"PATH=/bin", "A=1"}, Entrypoint: []string{"/init"}, Cmd: []string{"-x"}, WorkingDir: "/w"}
	c, err := commandOf(image, nil, &runFlags{env: []string{"A=2"}})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.Args, []string{"/init", "-x"}) || c.Dir != "/w" || !slices.Contains(c.Env, "A=2") || slices.Contains(c.Env, "A=1") || !slices.Contains(c.Env, "PATH=/bin") {
		t.Errorf("got %+v", c)
	}
	if c, err = commandOf(image, []string{"sh"}, &runFlags{workdir: "/"}); err != nil || !slices.Equal(c.Args, []string{"sh"}) || c.Dir != "/" {
		t.Errorf("with a command: %+v, %v", c, err)
	}
	if _, err := commandOf(v1.Config{}, nil, &runFlags{}); err == nil {
		t.Error("an image that says nothing, and no command: accepted")
	}
	if _, err := commandOf(image, nil, &runFlags{env: []string{"A"}}); err == nil {
		t.Error("--env without a value was accepted")
	}
}
