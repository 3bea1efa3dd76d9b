package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// proxyBlobs is a backend of type http-proxy: it asks a server for ranges of
// blobs. Servers of this kind answer with the range alone, some of them with
// status 200, so the length of the answer is what is checked.
type proxyBlobs struct {
	client *http.Client
	base   string // URL that ends in "/"
}

// newProxyBlobs reads the backend's configuration: addr is the path of a Unix
// socket or a URL, path the directory of the blobs.
func newProxyBlobs(config string) (*proxyBlobs, error) {
	var c struct{ Addr, Path string }
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		return nil, usageError{fmt.Errorf("--backend-config: %w", err)}
	}
	if c.Addr == "" {
		return nil, usageError{errors.New("--backend-config: there is no addr")}
	}
	t := &http.Transport{}
	base := strings.TrimSuffix(c.Addr, "/")
	if strings.HasPrefix(c.Addr, "/") {
		base = "http://unix"
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", c.Addr)
		}
	}
	if p := strings.Trim(c.Path, "/"); p != "" {
		base += "/" + p
	}
	return &proxyBlobs{&http.Client{Transport: t}, base + "/"}, nil
}

func (b *proxyBlobs) Close() error {
	b.client.CloseIdleConnections()
	return nil
}

func (b *proxyBlobs) do(ctx context.Context, method, blob, ranged string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, b.base+url.PathEscape(blob), nil)
	if err != nil {
		return nil, err
	}
	if ranged != "" {
		req.Header.Set("Range", ranged)
	}
	res, err := b.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", blob, err)
	}
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusPartialContent {
		res.Body.Close()
		return nil, fmt.Errorf("blob %s: the server answers %s", blob, res.Status)
	}
	return res, nil
}

func (b *proxyBlobs) ReadAt(ctx context.Context, blob string, p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	res, err := b.do(ctx, http.MethodGet, blob, fmt.Sprintf("bytes=%d-%d", off, off+int64(len(p))-1))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err = io.ReadFull(res.Body, p); err == nil {
		var more [1]byte
		if n, _ := res.Body.Read(more[:]); n > 0 {
			err = errors.New("the answer is longer than the range")
		}
	}
	if err != nil {
		return fmt.Errorf("blob %s: %d bytes at %d: %w", blob, len(p), off, err)
	}
	return nil
}

func (b *proxyBlobs) Size(ctx context.Context, blob string) (int64, error) {
	res, err := b.do(ctx, http.MethodHead, blob, "")
	if err != nil {
		return 0, err
	}
	return res.ContentLength, res.Body.Close()
}
