//go:build linux

package cli

import (
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/pflag"
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
	for _, bad := range []string{"A", "=1"} {
		if err := (&runFlags{env: []string{bad}}).check(); err == nil {
			t.Errorf("--env %s was accepted", bad)
		}
	}
}

func TestFlagsBehindTheImage(t *testing.T) {
	for _, c := range []struct{ words, command, output string }{
		{"image", "", "p"},
		{"image ls -o x", "ls -o x", "p"},
		{"image -- ls -o x", "ls -o x", "p"},
		{"image -o y -- ls -o x", "ls -o x", "y"},
		{"-o y image ls", "ls", "y"},
		{"image --output=y ls --all", "ls --all", "y"},
		{"-- image -o y ls", "ls", "y"},
	} {
		flags := pflag.NewFlagSet("record", pflag.ContinueOnError)
		flags.SetInterspersed(false)
		output := flags.StringP("output", "o", "p", "")
		if err := flags.Parse(strings.Fields(c.words)); err != nil {
			t.Fatal(err)
		}
		command, err := commandLine(flags, flags.Args()[1:])
		if got := strings.Join(command, " "); err != nil || got != c.command || *output != c.output {
			t.Errorf("%s: got command %q, output %q, %v, want %q and %q", c.words, got, *output, err, c.command, c.output)
		}
	}
	flags := pflag.NewFlagSet("run", pflag.ContinueOnError)
	if _, err := commandLine(flags, []string{"--nonsense"}); !errors.As(err, new(usageError)) {
		t.Errorf("a flag that there is not: got %v, want wrong usage", err)
	}
}

// A background mount is given every flag that the foreground has.
func TestDaemonizeKeepsEveryFlag(t *testing.T) {
	var front, back mountFlags
	env := &Env{Stderr: io.Discard, Getenv: func(string) string { return "" }}
	flags := pflag.NewFlagSet("mount", pflag.ContinueOnError)
	front.add(flags, env)
	flags.VisitAll(func(f *pflag.Flag) {
		value := map[string]string{"bool": "true", "string": "x", "duration": "7s", "int64": "7", "stringSlice": "a,b"}[f.Value.Type()]
		if f.Name == "options" || f.Name == "daemonize" || value == "" {
			return
		}
		if err := f.Value.Set(value); err != nil {
			t.Fatal(err)
		}
	})
	args := foregroundArgs(flags, []string{"nosuid"}, "src", "/point", "x")
	again := pflag.NewFlagSet("mount", pflag.ContinueOnError)
	back.add(again, env)
	if err := again.Parse(args[1:]); err != nil {
		t.Fatal(err)
	}
	if want := []string{"src", "/point"}; args[0] != "mount" || !slices.Equal(again.Args(), want) {
		t.Errorf("arguments: got %q and %q, want mount and %q", args[0], again.Args(), want)
	}
	front.options = []string{"nosuid"}
	if !reflect.DeepEqual(front, back) {
		t.Errorf("the background gets\n%+v, the foreground has\n%+v", back, front)
	}
}

func TestLogName(t *testing.T) {
	if got := logName("/mnt/a b"); got != "mnt-a b.log" {
		t.Errorf("got %q", got)
	}
	long := "/" + strings.Repeat("ä/", 2000)
	if a, b := logName(long+"a"), logName(long+"b"); len(a) > 255 || a == b || !utf8.ValidString(a) {
		t.Errorf("of long paths: %q, %q", a, b)
	}
}
