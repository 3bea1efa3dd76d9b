package registry

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluicefs/sluice/storage/backend"
)

// wantsPassword answers only who is "me" with the password "pass".
func wantsPassword(_ *fake, w http.ResponseWriter, r *http.Request, _ int64) bool {
	if u, p, _ := r.BasicAuth(); u == "me" && p == "pass" {
		return false
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="here"`)
	w.WriteHeader(http.StatusUnauthorized)
	return true
}

func TestCredentialsOfDockersConfiguration(t *testing.T) {
	f := newFake(t, wantsPassword)
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	helper := "#!/bin/sh\nread host\necho '{\"ServerURL\":\"x\",\"Username\":\"me\",\"Secret\":\"pass\"}'\n"
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-sluicetest"), []byte(helper), 0o700); err != nil {
		t.Fatal(err)
	}
	at := host(f.Server)
	for name, c := range map[string]struct {
		config string
		ok     bool
	}{
		"auth":                     {fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, at, base64.StdEncoding.EncodeToString([]byte("me:pass"))), true},
		"wrong password":           {fmt.Sprintf(`{"auths":{%q:{"username":"me","password":"hush"}}}`, at), false},
		"helper":                   {fmt.Sprintf(`{"credHelpers":{%q:"sluicetest"}}`, at), true},
		"helper that is not there": {fmt.Sprintf(`{"credHelpers":{%q:"nowhere"}}`, at), false},
		"another host's":           {`{"auths":{"other.example.com":{"username":"me","password":"pass"}}}`, false},
		"nothing":                  {`{}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(c.config), 0o600); err != nil {
				t.Fatal(err)
			}
			b, _ := f.open(t, func(o *Options) { o.Keychain = nil })
			err := b.ReadAt(t.Context(), f.blob, make([]byte, 10), 0)
			if (err == nil) != c.ok {
				t.Errorf("read: got %v, want success %v", err, c.ok)
			}
			if err != nil && (strings.Contains(err.Error(), "hush") || !errors.Is(err, fs.ErrPermission) && name != "helper that is not there") {
				t.Errorf("read: got %v, want fs.ErrPermission without a password", err)
			}
		})
	}
}

func TestAuthorityOfItsOwn(t *testing.T) {
	f := newFake(t, nil)
	srv := httptest.NewTLSServer(f.Config.Handler)
	defer srv.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	read := func(o Options) error {
		o.Repository, o.CertsDirs, o.Mirrors = host(srv)+"/some/repo", noFiles, nil
		b, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		p := make([]byte, 100)
		err = b.ReadAt(t.Context(), f.blob, p, 0)
		if err == nil && !bytes.Equal(p, f.data[:100]) {
			t.Error("read: other bytes than the blob's")
		}
		return err
	}
	if err := read(Options{TLS: backend.TLS{CAFiles: []string{ca}}}); err != nil {
		t.Errorf("with the authority: %v", err)
	}
	if err := read(Options{}); err == nil {
		t.Error("plain HTTP to a server by TLS: got no error")
	}
	if _, err := New(Options{Repository: "a/b", CertsDirs: noFiles, TLS: backend.TLS{CAFiles: []string{"/nonexistent"}}}); err == nil {
		t.Error("authority that is not there: got no error")
	}
}
