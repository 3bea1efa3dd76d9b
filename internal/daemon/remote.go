package daemon

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/sluicefs/sluice/api"
)

// RemoteConfig serves the API over TCP besides the unix socket. Callers show a
// token, or a certificate of theirs, or both; there is no way without either.
type RemoteConfig struct {
	Listen    string `toml:"listen"`     // host:port
	Cert      string `toml:"tls_cert"`   // files, PEM
	Key       string `toml:"tls_key"`    //
	ClientCA  string `toml:"client_ca"`  // who signs the certificates of callers
	TokenFile string `toml:"token_file"` // the token, on one line
}

// minToken is how long a token must be, bytes.
const minToken = 16

// check says what is wrong, without looking at the files.
func (c *RemoteConfig) check() error {
	host, _, err := net.SplitHostPort(c.Listen)
	ip := net.ParseIP(host)
	switch {
	case err != nil:
		return fmt.Errorf("api: listen %q: %w", c.Listen, err)
	case (c.Cert == "") != (c.Key == ""):
		return errors.New("api: tls_cert and tls_key go together")
	case c.Cert == "" && (ip == nil || !ip.IsLoopback()):
		return fmt.Errorf("api: listen %q: without tls_cert only addresses of this machine, such as 127.0.0.1, are served", c.Listen)
	case c.ClientCA != "" && c.Cert == "":
		return errors.New("api: client_ca needs tls_cert")
	case c.TokenFile == "" && c.ClientCA == "":
		return errors.New("api: token_file or client_ca is needed: a caller must show who it is")
	}
	return nil
}

// Open listens, and returns what h is to be served through.
func (c *RemoteConfig) Open(h http.Handler) (net.Listener, http.Handler, error) {
	if err := c.check(); err != nil {
		return nil, nil, err
	}
	var token string
	if c.TokenFile != "" {
		var err error
		if token, err = ReadToken(c.TokenFile); err != nil {
			return nil, nil, fmt.Errorf("api: %w", err)
		}
	}
	var conf *tls.Config
	if c.Cert != "" {
		var err error
		if conf, err = c.tls(); err != nil {
			return nil, nil, err
		}
	}
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return nil, nil, fmt.Errorf("api: %w", err)
	}
	if conf != nil {
		l = tls.NewListener(l, conf)
	}
	return l, withToken(token, h), nil
}

func (c *RemoteConfig) tls() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	if err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	conf := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	if c.ClientCA == "" {
		return conf, nil
	}
	b, err := os.ReadFile(c.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("api: client_ca: %w", err)
	}
	conf.ClientCAs, conf.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !conf.ClientCAs.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("api: client_ca %s: no certificate in it", c.ClientCA)
	}
	return conf, nil
}

// ReadToken reads the token of the API over TCP from a file that other users
// cannot read: one line.
func ReadToken(name string) (string, error) {
	fi, err := os.Stat(name)
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	if fi.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("token file %s is open to other users (mode %o)", name, fi.Mode().Perm())
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if len(token) < minToken || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("token file %s: one line of at least %d characters is needed", name, minToken)
	}
	return token, nil
}

// withToken serves h to those who show the token; "" wants none.
func withToken(token string, h http.Handler) http.Handler {
	if token == "" {
		return h
	}
	want := sha256.Sum256([]byte(token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		got := sha256.Sum256([]byte(shown))
		if !ok || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.Header().Set("WWW-Authenticate", `Bearer realm="sluice"`)
			writeJSON(w, http.StatusUnauthorized, &api.Error{Code: "Unauthorized", Message: "the token is missing or wrong"})
			return
		}
		h.ServeHTTP(w, r)
	})
}
