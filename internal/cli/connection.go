package cli

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/sluicefs/sluice/api"
	"github.com/sluicefs/sluice/internal/daemon"
)

// connection says how a daemon is reached: by its unix socket, or by TCP.
type connection struct {
	socket    string // a path, or a URL
	tokenFile string
	ca        string // files, PEM
	cert, key string
}

func (c *connection) add(fs *pflag.FlagSet, env *Env) {
	fs.StringVarP(&c.socket, "socket", "S", defaultSocket(env), "the daemon's API socket, or https://host:port of its API over TCP")
	fs.StringVar(&c.tokenFile, "token-file", "", "file with the token of the API over TCP, mode 0600")
	fs.StringVar(&c.ca, "ca", "", "certificates that the daemon's is signed by (default those of the system)")
	fs.StringVar(&c.cert, "cert", "", "certificate to show the daemon")
	fs.StringVar(&c.key, "key", "", "key of --cert")
}

// remote reports whether the daemon may run on another machine.
func (c *connection) remote() bool {
	return strings.HasPrefix(c.socket, "https://") || strings.HasPrefix(c.socket, "http://")
}

// dial returns a client, which connects when it is used.
func (c *connection) dial() (*api.Client, error) {
	if (c.cert == "") != (c.key == "") {
		return nil, usageError{errors.New("--cert and --key go together")}
	}
	if !c.remote() {
		if c.tokenFile != "" || c.ca != "" || c.cert != "" {
			return nil, usageError{fmt.Errorf("--token-file, --ca, --cert and --key need --socket https://host:port: %s is a unix socket", c.socket)}
		}
		return api.Dial(c.socket), nil
	}
	if err := c.confidential(); err != nil {
		return nil, usageError{err}
	}
	var token string
	var err error
	if c.tokenFile != "" {
		if token, err = daemon.ReadToken(c.tokenFile); err != nil {
			return nil, err
		}
	}
	conf, err := c.tls()
	if err != nil {
		return nil, err
	}
	client, err := api.DialURL(c.socket, token, conf)
	if err != nil {
		return nil, usageError{err}
	}
	return client, nil
}

// confidential refuses to show a token, or anything else, in plain text to
// other machines.
func (c *connection) confidential() error {
	u, err := url.Parse(c.socket)
	if err != nil {
		return err
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme == "http" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("--socket %s: without TLS only addresses of this machine, such as 127.0.0.1, are used: want https", u.Redacted())
	}
	if u.Scheme == "http" && (c.ca != "" || c.cert != "") {
		return errors.New("--ca and --cert need an https URL")
	}
	return nil
}

func (c *connection) tls() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.ca != "" {
		b, err := os.ReadFile(c.ca)
		if err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("--ca %s: no certificate in it", c.ca)
		}
	}
	if c.cert != "" {
		pair, err := tls.LoadX509KeyPair(c.cert, c.key)
		if err != nil {
			return nil, fmt.Errorf("--cert: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}
