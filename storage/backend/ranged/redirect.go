package ranged

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/sluicefs/sluice/storage/backend"
)

const (
	maxRedirects = 5
	maxKnown     = 1024            // redirects remembered at once
	redirectLife = 5 * time.Minute // of one that does not say when it expires
	redirectSafe = 15 * time.Second
)

var errRedirect = errors.New("redirects lead nowhere")

// target is where an object is served from.
type target struct {
	url     string
	expires time.Time
}

// redirects are the targets of objects by their own URL.
type redirects struct {
	mu    sync.Mutex // leaf
	known map[string]target
}

func (r *redirects) lookup(u string, now time.Time) (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, ok := r.known[u]
	if ok && now.After(t.expires) {
		delete(r.known, u)
		ok = false
	}
	return t.url, ok
}

func (r *redirects) store(u, to string, expires time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := range r.known {
		if len(r.known) < maxKnown {
			break
		}
		delete(r.known, k)
	}
	r.known[u] = target{to, expires}
}

func (r *redirects) drop(u string) {
	r.mu.Lock()
	delete(r.known, u)
	r.mu.Unlock()
}

// do sends a request for the object at u to where it was served from the
// last time, or follows redirects from u.
func (c *Client) do(ctx context.Context, method, u string, prepare func(http.Header)) (*http.Response, error) {
	if to, ok := c.redirects.lookup(u, time.Now()); ok {
		res, err := c.send(ctx, method, to, nil, prepare)
		if err == nil && !refused(res.StatusCode) {
			return res, nil
		}
		if err == nil {
			res.Body.Close()
		}
		c.redirects.drop(u)
		if ctx.Err() != nil {
			return nil, err
		}
	}
	at := u
	header := c.o.Header
	for range maxRedirects {
		res, err := c.send(ctx, method, at, header, prepare)
		if err != nil || res.StatusCode < 300 || res.StatusCode > 399 || res.StatusCode == http.StatusNotModified {
			if err == nil && at != u && !refused(res.StatusCode) && res.StatusCode < 500 && method == http.MethodGet {
				c.redirects.store(u, at, expiry(at, time.Now()))
			}
			return res, err
		}
		next, err := location(at, res)
		res.Body.Close()
		if err != nil {
			return nil, err
		}
		if !sameHost(at, next) {
			header = nil // may hold credentials
		}
		at = next
	}
	return nil, fmt.Errorf("%w: more than %d", errRedirect, maxRedirects)
}

// refused are the answers of a store whose signed URL has expired.
func refused(status int) bool {
	return status == 400 || status == 401 || status == 403 || status == 404 || status == 410
}

func (c *Client) send(ctx context.Context, method, u string, header http.Header, prepare func(http.Header)) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, u, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: not a URL", errRedirect)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("Accept-Encoding", "identity") // ranges are of the stored bytes
	if prepare != nil {
		prepare(req.Header)
	}
	return c.rt.RoundTrip(req)
}

// location is where an answer redirects to. From TLS it does not lead out of
// it, and never to anything but HTTP.
func location(from string, res *http.Response) (string, error) {
	base, err := url.Parse(from)
	if err != nil {
		return "", errRedirect
	}
	to, err := base.Parse(res.Header.Get("Location"))
	if err != nil || res.Header.Get("Location") == "" {
		return "", fmt.Errorf("%w: no location", errRedirect)
	}
	if to.Scheme != "https" && (to.Scheme != "http" || base.Scheme == "https") {
		return "", fmt.Errorf("%w: from %s to %.20q", errRedirect, base.Scheme, to.Scheme)
	}
	if backend.IsLocal(to.Hostname()) && !backend.IsLocal(base.Hostname()) {
		return "", fmt.Errorf("%w: from another machine to this one", errRedirect)
	}
	return to.String(), nil
}

func sameHost(a, b string) bool {
	x, err1 := url.Parse(a)
	y, err2 := url.Parse(b)
	return err1 == nil && err2 == nil && x.Host == y.Host && x.Scheme == y.Scheme
}

// expiry reads from a signed URL when it expires: S3 and GCS
// (X-…-Date, X-…-Expires), CloudFront and OSS (Expires), Azure (se).
func expiry(u string, now time.Time) time.Time {
	end := now.Add(redirectLife)
	parsed, err := url.Parse(u)
	if err != nil {
		return now
	}
	q := parsed.Query()
	for _, vendor := range []string{"X-Amz-", "X-Goog-", "x-oss-"} {
		from, err := time.Parse("20060102T150405Z", firstOf(q, vendor+"Date", vendor+"date"))
		life, err2 := strconv.Atoi(firstOf(q, vendor+"Expires", vendor+"expires"))
		if err == nil && err2 == nil {
			end = from.Add(time.Duration(min(life, 7*24*3600)) * time.Second)
		}
	}
	if n, err := strconv.ParseInt(q.Get("Expires"), 10, 64); err == nil {
		end = time.Unix(n, 0)
	}
	if t, err := time.Parse(time.RFC3339, q.Get("se")); err == nil {
		end = t
	}
	return end.Add(-redirectSafe)
}

func firstOf(q url.Values, names ...string) string {
	for _, n := range names {
		if v := q.Get(n); v != "" {
			return v
		}
	}
	return ""
}
