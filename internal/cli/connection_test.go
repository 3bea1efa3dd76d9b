package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluicefs/sluice/api"
	"github.com/sluicefs/sluice/internal/daemon"
	"github.com/sluicefs/sluice/internal/testenv"
)

// A daemon is driven and watched over TCP with a token, a certificate, or both.
func TestCtlOverTCP(t *testing.T) {
	dir := t.TempDir()
	cert, key := testenv.Certificate(t, dir, "server")
	mine, myKey := testenv.Certificate(t, dir, "client")
	token, wrong := filepath.Join(dir, "token"), filepath.Join(dir, "wrong")
	for name, text := range map[string]string{token: "0123456789abcdef-token\n", wrong: "another-0123456789abcdef\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d := daemon.New(daemon.Options{ID: "far", Mountpoint: dir, CacheDir: dir})
	serve := func(c daemon.RemoteConfig) string {
		c.Listen = "127.0.0.1:0"
		l, h, err := c.Open(d.Handler(daemon.HandlerOptions{Version: "test"}))
		if err != nil {
			t.Fatal(err)
		}
		a := daemon.ServeAPI(l, h)
		t.Cleanup(a.Close)
		return l.Addr().String()
	}
	plain := "http://" + serve(daemon.RemoteConfig{TokenFile: token})
	secure := "https://" + serve(daemon.RemoteConfig{TokenFile: token, Cert: cert, Key: key})
	mutual := "https://" + serve(daemon.RemoteConfig{Cert: cert, Key: key, ClientCA: mine})
	for _, c := range []struct {
		options []string
		code    int
		say     string // on standard error
	}{
		{[]string{"-S", plain, "--token-file", token}, exitDone, ""},
		{[]string{"-S", plain}, exitFailed, "token is missing or wrong"},
		{[]string{"-S", plain, "--token-file", wrong}, exitFailed, "token is missing or wrong"},
		{[]string{"-S", plain, "--ca", cert}, exitUsage, "https"},
		{[]string{"-S", secure, "--token-file", token, "--ca", cert}, exitDone, ""},
		{[]string{"-S", secure, "--token-file", token}, exitFailed, "certificate"},
		{[]string{"-S", secure, "--ca", key}, exitFailed, "no certificate in it"},
		{[]string{"-S", mutual, "--ca", cert, "--cert", mine, "--key", myKey}, exitDone, ""},
		{[]string{"-S", mutual, "--ca", cert}, exitFailed, "daemon"},
		{[]string{"-S", mutual, "--cert", mine}, exitUsage, "go together"},
		{[]string{"-S", mutual, "--cert", mine, "--key", "/nonexistent"}, exitFailed, "--cert"},
		{[]string{"-S", "http://192.0.2.1:9010", "--token-file", token}, exitUsage, "without TLS"},
		{[]string{"-S", "https://127.0.0.1/api"}, exitUsage, "not the address of a daemon"},
		{[]string{"-S", "https://127.0.0.1:1", "--token-file", "/nonexistent"}, exitFailed, "token file"},
		{[]string{"-S", "/run/x", "--token-file", token}, exitUsage, "is a unix socket"},
	} {
		for _, args := range [][]string{{"ctl", "info", "--json"}, {"top", "--once"}} {
			code, out, said := command(t, "sluice", append(args, c.options...)...)
			if code != c.code || !strings.Contains(said, c.say) {
				t.Errorf("%v: exit %d, want %d; said %q, want %q in it", append(args, c.options...), code, c.code, said, c.say)
			}
			var info api.Daemon
			if code == exitDone && args[0] == "ctl" && (json.Unmarshal([]byte(out), &info) != nil || info.ID != "far") {
				t.Errorf("%v: %q", c.options, out)
			}
		}
	}
	// Paths are those of the daemon's machine.
	code, _, said := command(t, "sluice", "ctl", "mount", "-S", plain, "--token-file", token, "image.boot", "/x", "--upper", "u", "--work", "/w")
	if code != exitUsage || !strings.Contains(said, "absolute path") {
		t.Errorf("a relative directory: exit %d, %q", code, said)
	}
}
