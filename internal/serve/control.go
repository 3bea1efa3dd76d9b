package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/sluicefs/sluice/internal/mounts"
)

// control is the HTTP server on a mount's socket.
type control struct {
	http *http.Server
	done chan struct{}
}

func listen(socket string, m *Mount) (*control, error) {
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", socket) // in a directory that only this user can enter
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) { answer(w, m.Stats(), nil) })
	mux.HandleFunc("GET /why", func(w http.ResponseWriter, r *http.Request) {
		if m.opts.Inspect == nil {
			answer(w, nil, errNoInspector)
			return
		}
		v, err := m.opts.Inspect.Why(r.Context(), r.URL.Query().Get("path"))
		answer(w, v, err)
	})
	mux.HandleFunc("POST /unmount", func(w http.ResponseWriter, r *http.Request) {
		answer(w, struct{}{}, m.Unmount(r.URL.Query().Get("lazy") == "1"))
	})
	c := &control{
		http: &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute, MaxHeaderBytes: 1 << 16},
		done: make(chan struct{}),
	}
	go func() {
		defer close(c.done)
		_ = c.http.Serve(l)
	}()
	return c, nil
}

// close ends the server when the answers under way have been given: the
// answer to the very request that ended the mount is one.
func (c *control) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if c.http.Shutdown(ctx) != nil {
		_ = c.http.Close()
	}
	<-c.done
}

// failure is an error on the wire.
type failure struct {
	Error string `json:"error"`
	Busy  bool   `json:"busy,omitempty"`
}

func answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusConflict)
		v = failure{Error: err.Error(), Busy: errors.Is(err, mounts.ErrBusy)}
	}
	_ = json.NewEncoder(w).Encode(v)
}

// Client asks a running mount, in this process or another.
type Client struct{ http *http.Client }

// Dial returns a client of the mount e. It connects when it is used.
func Dial(e mounts.Entry) *Client {
	var d net.Dialer
	return &Client{&http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", e.Socket)
		},
	}}}
}

// Stats asks for the mount's statistics.
func (c *Client) Stats(ctx context.Context) (*Stats, error) {
	var s Stats
	return &s, c.call(ctx, http.MethodGet, "/stats", &s)
}

// Why asks for what is known of a file, by its path in the mount.
func (c *Client) Why(ctx context.Context, path string) (*Why, error) {
	var w Why
	return &w, c.call(ctx, http.MethodGet, "/why?path="+url.QueryEscape(path), &w)
}

// Unmount ends the mount as Mount.Unmount does.
func (c *Client) Unmount(ctx context.Context, lazy bool) error {
	target := "/unmount"
	if lazy {
		target += "?lazy=1"
	}
	return c.call(ctx, http.MethodPost, target, &struct{}{})
}

// remoteError is an error that came over the socket.
type remoteError struct{ failure }

func (e remoteError) Error() string { return e.failure.Error }

func (e remoteError) Is(target error) bool { return e.Busy && target == mounts.ErrBusy }

func (c *Client) call(ctx context.Context, method, target string, v any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://mount"+target, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return fmt.Errorf("ask the mount: %w", err)
	}
	defer resp.Body.Close()
	body := json.NewDecoder(io.LimitReader(resp.Body, 64<<20))
	if resp.StatusCode != http.StatusOK {
		var f failure
		if err := body.Decode(&f); err != nil {
			return fmt.Errorf("ask the mount: status %d", resp.StatusCode)
		}
		return remoteError{f}
	}
	return body.Decode(v)
}
