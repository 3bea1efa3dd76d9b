package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Client speaks to a daemon. Its methods may be called concurrently; they
// return an [*Error] if the daemon refuses.
type Client struct {
	http  *http.Client
	base  string // URL of the daemon
	token string // shown with each request, if not ""
}

// Dial returns a client for the daemon that listens on a unix socket. It
// connects when it is used.
func Dial(socket string) *Client {
	var d net.Dialer
	return &Client{base: "http://daemon", http: &http.Client{Transport: &http.Transport{
		MaxIdleConns: 4,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", socket)
		},
	}}}
}

// DialURL returns a client for a daemon that serves its API over TCP, such as
// "https://host:9010". token is what it wants to see, "" for none; conf may be
// nil.
func DialURL(base, token string, conf *tls.Config) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("%s: not the address of a daemon, such as https://host:9010", u.Redacted())
	}
	tr := &http.Transport{MaxIdleConns: 4, TLSClientConfig: conf, TLSHandshakeTimeout: 10 * time.Second}
	// A token goes to the daemon and nowhere else.
	never := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{base: u.Scheme + "://" + u.Host, token: token, http: &http.Client{Transport: tr, CheckRedirect: never}}, nil
}

// Close closes connections that are idle.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 20

// Do sends a request with in as JSON, if that is not nil, and decodes the
// answer into out, if that is not nil and there is one. path may have a query.
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return err
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return fmt.Errorf("daemon: %w", err)
	}
	defer resp.Body.Close()
	answer := io.LimitReader(resp.Body, maxAnswer)
	if resp.StatusCode >= 300 {
		e := &Error{Status: resp.StatusCode}
		if json.NewDecoder(answer).Decode(e) != nil || e.Message == "" {
			e.Message = "daemon: " + resp.Status
		}
		return e
	}
	if raw, ok := out.(*[]byte); ok {
		*raw, err = io.ReadAll(answer)
		return err
	}
	if out == nil || resp.StatusCode == http.StatusNoContent {
		return nil
	}
	if err := json.NewDecoder(answer).Decode(out); err != nil {
		return fmt.Errorf("daemon: answer: %w", err)
	}
	return nil
}

func get[T any](ctx context.Context, c *Client, path string) (T, error) {
	var v T
	err := c.Do(ctx, http.MethodGet, path, nil, &v)
	return v, err
}

// mountPath is the resource of a mount.
func mountPath(path string) string {
	return "/v1/mounts/" + (&url.URL{Path: strings.TrimPrefix(path, "/")}).EscapedPath()
}

// Daemon asks the daemon about itself.
func (c *Client) Daemon(ctx context.Context) (Daemon, error) {
	return get[Daemon](ctx, c, "/v1/daemon")
}

// Mounts lists what is mounted.
func (c *Client) Mounts(ctx context.Context) ([]Mount, error) {
	return get[[]Mount](ctx, c, "/v1/mounts")
}

// Mount asks about one mount.
func (c *Client) Mount(ctx context.Context, path string) (Mount, error) {
	return get[Mount](ctx, c, mountPath(path))
}

// PutMount mounts something at path, in place of what is there if replace.
func (c *Client) PutMount(ctx context.Context, path string, r MountRequest, replace bool) error {
	p := mountPath(path)
	if replace {
		p += "?replace=1"
	}
	return c.Do(ctx, http.MethodPut, p, r, nil)
}

// DeleteMount unmounts what is at path; lazily, files that are open go on.
func (c *Client) DeleteMount(ctx context.Context, path string, lazy bool) error {
	p := mountPath(path)
	if lazy {
		p += "?lazy=1"
	}
	return c.Do(ctx, http.MethodDelete, p, nil, nil)
}

// Profile returns what was read of a mount with Record, as a profile file.
func (c *Client) Profile(ctx context.Context, path string) ([]byte, error) {
	var b []byte
	err := c.Do(ctx, http.MethodGet, "/v1/profile?path="+url.QueryEscape(path), nil, &b)
	return b, err
}

// Requests lists what waits for an answer, the oldest first.
func (c *Client) Requests(ctx context.Context) ([]Request, error) {
	return get[[]Request](ctx, c, "/v1/requests")
}

// Latencies lists how long requests took.
func (c *Client) Latencies(ctx context.Context) ([]Latency, error) {
	return get[[]Latency](ctx, c, "/v1/latencies")
}

// Caches lists the directories of chunks that are in use.
func (c *Client) Caches(ctx context.Context) ([]Cache, error) {
	return get[[]Cache](ctx, c, "/v1/caches")
}

// Trim makes caches smaller.
func (c *Client) Trim(ctx context.Context, t Trim) (Trimmed, error) {
	var v Trimmed
	err := c.Do(ctx, http.MethodPost, "/v1/caches/trim", t, &v)
	return v, err
}

// SetLog sets the log level.
func (c *Client) SetLog(ctx context.Context, level string) error {
	return c.Do(ctx, http.MethodPut, "/v1/log", Log{Level: level}, nil)
}

// Stop unmounts and ends the daemon.
func (c *Client) Stop(ctx context.Context) error {
	return c.Do(ctx, http.MethodPost, "/v1/daemon/stop", nil, nil)
}

// HandOver has the daemon send a successor what it needs.
func (c *Client) HandOver(ctx context.Context, h HandOver) error {
	return c.Do(ctx, http.MethodPost, "/v1/daemon/handover", h, nil)
}
