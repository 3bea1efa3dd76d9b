package backend

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// TLS says how servers are believed.
type TLS struct {
	SkipVerify bool        // believe anybody: for tests and closed networks
	CAFiles    []string    // PEM files with authorities beside the system's
	Clients    [][2]string // PEM files of client certificate and key
}

// Config returns t as crypto/tls has it.
func (t *TLS) Config() (*tls.Config, error) {
	c := &tls.Config{InsecureSkipVerify: t.SkipVerify} //nolint:gosec // on request
	if len(t.CAFiles) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		for _, f := range t.CAFiles {
			pem, err := os.ReadFile(f)
			if err != nil {
				return nil, fmt.Errorf("certificate authority: %w", err)
			}
			if !pool.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("certificate authority %s: no certificate in it", f)
			}
		}
		c.RootCAs = pool
	}
	for _, f := range t.Clients {
		pair, err := tls.LoadX509KeyPair(f[0], f[1])
		if err != nil {
			return nil, fmt.Errorf("client certificate %s: %w", f[0], err)
		}
		c.Certificates = append(c.Certificates, pair)
	}
	return c, nil
}

// Transport returns a transport for many ranges at once. It speaks HTTP/1.1
// on kept connections: ranges on streams of one HTTP/2 connection share one
// congestion window and wait for one another. The caller closes its idle
// connections in the end.
func Transport(t TLS) (*http.Transport, error) {
	c, err := t.Config()
	if err != nil {
		return nil, err
	}
	p := new(http.Protocols)
	p.SetHTTP1(true)
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:       c,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConns:          64,
		MaxIdleConnsPerHost:   32,
		ReadBufferSize:        64 << 10,
		DisableCompression:    true,
		Protocols:             p,
	}, nil
}

// IsLocal reports whether a host name means this machine or its link: what
// answers from elsewhere may not point to.
func IsLocal(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return ip != nil && (ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified())
}
