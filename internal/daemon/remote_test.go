package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/sluicefs/sluice/api"
	"github.com/sluicefs/sluice/internal/testenv"
)

// The API over TCP answers those who show the token over TLS, and nobody else.
func TestRemoteAPI(t *testing.T) {
	dir := t.TempDir()
	cert, key := testenv.Certificate(t, dir, "server")
	const token = "0123456789abcdef-token"
	tokens := filepath.Join(dir, "token")
	if err := os.WriteFile(tokens, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	b, err := os.ReadFile(cert)
	if err != nil || !pool.AppendCertsFromPEM(b) {
		t.Fatal("certificate", err)
	}
	serve := func(c RemoteConfig) string {
		t.Helper()
		l, h, err := c.Open(New(Options{Mountpoint: dir}).Handler(HandlerOptions{Version: "test"}))
		if err != nil {
			t.Fatal(err)
		}
		a := ServeAPI(l, h)
		t.Cleanup(a.Close)
		return l.Addr().String()
	}
	ask := func(url, token string, conf *tls.Config) error {
		c, err := api.DialURL(url, token, conf)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, err = c.Daemon(t.Context())
		return err
	}
	unauthorized := func(err error) bool {
		var e *api.Error
		return errors.As(err, &e) && e.Code == "Unauthorized"
	}

	plain := "http://" + serve(RemoteConfig{Listen: "127.0.0.1:0", TokenFile: tokens})
	if err := ask(plain, token, nil); err != nil {
		t.Errorf("with the token: %v", err)
	}
	for _, wrong := range []string{"", "x", token + "x"} {
		if err := ask(plain, wrong, nil); !unauthorized(err) {
			t.Errorf("with the token %q: %v", wrong, err)
		}
	}
	secure := "https://" + serve(RemoteConfig{Listen: "127.0.0.1:0", Cert: cert, Key: key, TokenFile: tokens})
	if err := ask(secure, token, &tls.Config{RootCAs: pool}); err != nil {
		t.Errorf("over TLS: %v", err)
	}
	if err := ask(secure, token, nil); err == nil {
		t.Error("a certificate that nobody has signed was accepted")
	}
	mine, myKey := testenv.Certificate(t, dir, "client")
	mutual := "https://" + serve(RemoteConfig{Listen: "127.0.0.1:0", Cert: cert, Key: key, ClientCA: mine})
	pair, err := tls.LoadX509KeyPair(mine, myKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := ask(mutual, "", &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}); err != nil {
		t.Errorf("with a certificate: %v", err)
	}
	if err := ask(mutual, "", &tls.Config{RootCAs: pool}); err == nil {
		t.Error("a caller without a certificate was let in")
	}
}

func TestRemoteConfigRefused(t *testing.T) {
	dir := t.TempDir()
	open, short := filepath.Join(dir, "open"), filepath.Join(dir, "short")
	for name, mode := range map[string]os.FileMode{open: 0o644, short: 0o600} {
		if err := os.WriteFile(name, []byte("short"), mode); err != nil {
			t.Fatal(err)
		}
	}
	for why, c := range map[string]RemoteConfig{
		"no port":                 {Listen: "localhost", TokenFile: short},
		"other machines, no TLS":  {Listen: "0.0.0.0:0", TokenFile: short},
		"all machines, no TLS":    {Listen: ":0", TokenFile: short},
		"no credentials":          {Listen: "127.0.0.1:0"},
		"half a certificate":      {Listen: "127.0.0.1:0", Cert: "x", TokenFile: short},
		"client_ca without TLS":   {Listen: "127.0.0.1:0", ClientCA: "x"},
		"a token others can read": {Listen: "127.0.0.1:0", TokenFile: open},
		"a short token":           {Listen: "127.0.0.1:0", TokenFile: short},
		"a certificate not there": {Listen: "127.0.0.1:0", Cert: "/none", Key: "/none", TokenFile: short},
		"a token file not there":  {Listen: "127.0.0.1:0", TokenFile: "/none"},
		"a client_ca not a file":  {Listen: "127.0.0.1:0", Cert: "/none", Key: "/none", ClientCA: "/none"},
	} {
		if l, _, err := c.Open(nil); err == nil {
			l.Close()
			t.Errorf("%s: no error", why)
		}
	}
}
