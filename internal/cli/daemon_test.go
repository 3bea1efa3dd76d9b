package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluicefs/sluice/api"
)

// command runs a command line as the program called name.
func command(t *testing.T, name string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	env := &Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Getenv: func(string) string { return "" }}
	code = Main(context.Background(), env, append([]string{name}, args...))
	return code, out.String(), errs.String()
}

func TestNydusdUsage(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		say  string
	}{
		{"fuse", exitUsage, "--mountpoint is needed"},
		{"--mountpoint x --bootstrap b --shared-dir s", exitUsage, "exclude each other"},
		{"fuse --mountpoint x --bootstrap b", exitUsage, "--config or --localfs-dir"},
		{"fuse --mountpoint x --supervisor s", exitUsage, "--id"},
		{"fuse --mountpoint x --thread-num 0", exitUsage, "1 to 1024"},
		{"fuse --mountpoint x --failover-policy flush", exitUsage, "patched kernel"},
		{"fuse --mountpoint x --log-level loud", exitUsage, "log level"},
		{"virtiofs --sock s", exitFailed, "not supported"},
		{"singleton --fscache d --fscache-threads 2", exitFailed, "fscache is not supported"},
		{"fuse --nonsense", exitUsage, "unknown flag"},
	} {
		code, _, stderr := command(t, "nydusd", strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(stderr, c.say) {
			t.Errorf("nydusd %s: exit %d, want %d; said %q, want %q in it", c.args, code, c.code, stderr, c.say)
		}
	}
	if code, out, _ := command(t, "nydusd", "--version"); code != 0 || !strings.Contains(out, "sluice") {
		t.Errorf("version: exit %d, %q", code, out)
	}
}

func TestNydusctlUsage(t *testing.T) {
	for args, say := range map[string]string{
		"info": "--sock is needed", "metrics nothing --sock x": "backend, cache or fsstats",
		"set color blue --sock x": "cannot be set", "info --sock /nonexistent/socket": "no such file",
	} {
		if code, _, stderr := command(t, "nydusctl", strings.Fields(args)...); code == 0 || !strings.Contains(stderr, say) {
			t.Errorf("nydusctl %s: exit %d, said %q, want %q in it", args, code, stderr, say)
		}
	}
}

func TestConfigCheck(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	write("nydus.json", `{"device": {"backend": {"type": "localfs", "config": {"dir": "/b"}}}}`)
	good := write("good.toml", `
mountpoint = "/mnt/images"
cache_quota = "20GiB"
[[mount]]
path = "/python"
source = "docker.io/library/python:3"
[[mount]]
path = "app"
type = "rafs"
source = "app.boot"
config_file = "nydus.json"
`)
	code, out, stderr := command(t, "sluice", "config", "check", good)
	if code != 0 || !strings.Contains(out, "/python") || !strings.Contains(out, "/app") {
		t.Errorf("exit %d: %s%s", code, out, stderr)
	}
	for text, say := range map[string]string{
		"":                                      "mountpoint is missing",
		"mountpoint = 1":                        "line 1",
		"mountpoint = \"/m\"\ncolour = \"red\"": "line 2: colour is unknown",
		"mountpoint = \"/m\"\ncache_quota = \"many\"":                                                             "size",
		"mountpoint = \"/m\"\n[[mount]]\npath = \"/a\"":                                                           "no source",
		"mountpoint = \"/m\"\ntransport = \"pigeon\"":                                                             "transport",
		"mountpoint = \"/m\"\n[[mount]]\npath = \"/a\"\nsource = \"s\"\n[[mount]]\npath = \"/a\"\nsource = \"s\"": "line 6: mount.path: /a is there already",
		"mountpoint = 5": "line 1: mountpoint is of type integer, string is wanted",
		"mountpoint = \"/m\"\ntransport = \"tcp\"":                                                                "line 2: transport: \"tcp\" is unknown",
		"mountpoint = \"/m\"\n[[mount]]\npath = \"/a\"\nsource = \"s\"\n[[mount]]\npath = \"/b\"":                 "line 5: mount.source: no source",
		"mountpoint = \"/m\"\n[[mount]]\npath = \"/a\"\nsource = \"s\"\ntype = \"passthrough_fs\"\ncache = \"x\"": "line 6: mount.cache: cache policy \"x\" is unknown",
		"mountpoint = \"/m\"\n[api]\nlisten = \"0.0.0.0:1\"":                                                      "line 2: api: listen",
		"mountpoint = \"/m\"\n[[mount]]\npath = \"/a\"\ntype = \"rafs\"\nsource = \"s\"":                          "config_file",
	} {
		code, _, stderr := command(t, "sluice", "config", "check", write("bad.toml", text))
		if code != exitFailed || !strings.Contains(stderr, say) {
			t.Errorf("%q: exit %d, said %q, want %q in it", text, code, stderr, say)
		}
	}
}

func TestTopView(t *testing.T) {
	at := time.Unix(100, 0)
	before := topSample{at: at, mounts: []api.Mount{{Path: "/a", Operations: map[string]uint64{"READ": 10}}}}
	now := topSample{
		at:     at.Add(2 * time.Second),
		daemon: api.Daemon{Version: "1", State: "RUNNING", Mountpoint: "/mnt", Mounts: 2},
		mounts: []api.Mount{
			{Path: "/idle", Operations: map[string]uint64{}},
			{
				Path: "/a", Operations: map[string]uint64{"READ": 210}, ReadBytes: 4 << 20, Open: 3,
				Image: &api.Image{FetchedBytes: 2 << 20, HitRate: 0.5},
			},
		},
		latencies: []api.Latency{{Operation: "READ", Count: 200, P99NS: 1e6}},
		requests:  []api.Request{{Operation: "LOOKUP", AgeNS: 5e9, PID: 7}},
	}
	view := topView(before, now, 0)
	lines := strings.Split(view, "\n")
	if !strings.HasPrefix(lines[2], "/a ") || !strings.HasPrefix(lines[3], "/idle") {
		t.Errorf("the busiest is not first:\n%s", view)
	}
	for _, say := range []string{"100 ", "2.0 MiB", "1.0 MiB", "50 %", "LOOKUP", "5.00 s", "RUNNING"} {
		if !strings.Contains(view, say) {
			t.Errorf("%q is missing in:\n%s", say, view)
		}
	}
	if got := strings.Count(topView(before, now, 4), "\n"); got > 4 {
		t.Errorf("%d lines in a terminal of 4", got)
	}
}
