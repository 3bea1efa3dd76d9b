// Package ranged reads ranges of objects over HTTP, as all backends that
// speak it do: a GET with a Range header whose answer is believed in nothing
// but what was checked. Redirects are followed and remembered until they
// expire, a body that trickles is given up, and a server that ignores Range
// is read past, within bounds.
package ranged

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/backend"
)

// Options of a Client. Zero values are the defaults.
type Options struct {
	Where         string        // what errors call the place
	Header        http.Header   // sent with every request to the first URL, not to where that redirects
	HeaderTimeout time.Duration // until the answer begins; default 15 s
	Stall         time.Duration // in which a body brings StallBytes at least; default 10 s
	StallBytes    int64         // default 16 KiB
	MaxSkip       int64         // bytes read past when Range is ignored; default 64 MiB
}

// Client reads ranges. Its methods are safe for concurrent use.
type Client struct {
	o         Options
	rt        http.RoundTripper
	redirects redirects
	whole     atomic.Bool // a request for a range was answered with all
}

// New returns a client that sends requests through rt.
func New(rt http.RoundTripper, o Options) *Client {
	if o.HeaderTimeout <= 0 {
		o.HeaderTimeout = 15 * time.Second
	}
	if o.Stall <= 0 {
		o.Stall = 10 * time.Second
	}
	if o.StallBytes <= 0 {
		o.StallBytes = 16 << 10
	}
	if o.MaxSkip <= 0 {
		o.MaxSkip = 64 << 20
	}
	return &Client{o: o, rt: rt, redirects: redirects{known: make(map[string]target)}}
}

// IgnoresRange reports whether the server has answered with a whole object
// where a range was asked for.
func (c *Client) IgnoresRange() bool { return c.whole.Load() }

// ErrSlow says that a server took too long, or sent too little.
var ErrSlow = errors.New("too slow")

// ReadAt fills p with the bytes of the object at url, which errors call
// blob, from off on. Failures are of type [backend.Error].
func (c *Client) ReadAt(ctx context.Context, url, blob string, p []byte, off int64) error {
	if len(p) == 0 {
		return ctx.Err()
	}
	return c.Do(ctx, blob, p, off, func(ctx context.Context) (*http.Response, error) {
		return c.do(ctx, http.MethodGet, url, func(h http.Header) {
			h.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+int64(len(p))-1))
		})
	})
}

// Do fills p with the answer to a request for the bytes of blob from off on
// that get sends; what ReadAt says holds for it.
func (c *Client) Do(ctx context.Context, blob string, p []byte, off int64, get func(context.Context) (*http.Response, error)) error {
	ctx, w := c.watch(ctx)
	defer w.stop()
	res, err := get(ctx)
	if err != nil {
		return c.fail("read", blob, nil, 0, w.cause(err))
	}
	defer res.Body.Close()
	w.body()
	n, err := c.fill(res, w, p, off)
	if n == len(p) {
		w.finish(res.Body)
		return nil
	}
	return c.fail("read", blob, res, n, w.cause(err))
}

// fill reads the answer to a range request into p.
func (c *Client) fill(res *http.Response, w *watch, p []byte, off int64) (int, error) {
	switch res.StatusCode {
	case http.StatusPartialContent:
		from, to, _, ok := contentRange(res.Header.Get("Content-Range"))
		if !ok || from != off || to < from {
			return 0, fmt.Errorf("asked for bytes from %d, got Content-Range %.60q", off, res.Header.Get("Content-Range"))
		}
		p = p[:min(int64(len(p)), to-from+1)]
	case http.StatusOK:
		c.whole.Store(true)
		if off > c.o.MaxSkip {
			return 0, errNoRanges
		}
		if _, err := io.CopyN(io.Discard, w.reader(res.Body), off); err != nil {
			return 0, cut(err)
		}
	default:
		return 0, errors.New(statusText(res))
	}
	n, err := io.ReadFull(w.reader(res.Body), p)
	if err == nil {
		err = io.ErrUnexpectedEOF // only if the answer's range was shorter
	}
	return n, cut(err)
}

var errNoRanges = errors.New("server ignores Range, and the range is too far into the object")

// cut names the end of a body that came too early.
func cut(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errCut
	}
	return err
}

var errCut = errors.New("answer ended early")

// Size returns the size of the object at url.
func (c *Client) Size(ctx context.Context, url, blob string) (int64, error) {
	ctx, w := c.watch(ctx)
	defer w.stop()
	res, err := c.do(ctx, http.MethodHead, url, nil)
	if err == nil {
		res.Body.Close()
		if res.StatusCode == http.StatusOK && res.ContentLength >= 0 {
			return res.ContentLength, nil
		}
		if res.StatusCode == http.StatusNotFound || res.StatusCode >= 500 || res.StatusCode == http.StatusTooManyRequests {
			return 0, c.fail("size", blob, res, 0, errors.New(statusText(res)))
		}
	}
	// URLs that are signed for GET refuse HEAD.
	res, err = c.do(ctx, http.MethodGet, url, func(h http.Header) { h.Set("Range", "bytes=0-0") })
	if err != nil {
		return 0, c.fail("size", blob, nil, 0, w.cause(err))
	}
	defer res.Body.Close()
	switch _, _, total, ok := contentRange(res.Header.Get("Content-Range")); {
	case res.StatusCode == http.StatusPartialContent && ok && total >= 0,
		res.StatusCode == http.StatusRequestedRangeNotSatisfiable && total == 0 && ok:
		return total, nil
	case res.StatusCode == http.StatusOK && res.ContentLength >= 0:
		return res.ContentLength, nil
	}
	return 0, c.fail("size", blob, res, 0, errors.New(statusText(res)))
}

// fail makes the error of an answer, or of none.
func (c *Client) fail(op, blob string, res *http.Response, n int, err error) error {
	e := &backend.Error{Op: op, Where: c.o.Where, Blob: blob, Done: n, Err: backend.Redact(err)}
	if res != nil && res.StatusCode != http.StatusOK && res.StatusCode != http.StatusPartialContent {
		e.Status = res.StatusCode
		e.RetryAfter = RetryAfter(res.Header.Get("Retry-After"), time.Now())
	}
	if e.Status == http.StatusRequestedRangeNotSatisfiable {
		e.Final, e.Err = true, io.ErrUnexpectedEOF
	}
	var own *backend.Error
	if errors.As(err, &own) { // of the transport: a token that could not be had
		return err
	}
	e.Final = e.Final || errors.Is(err, errNoRanges) || errors.Is(err, errRedirect)
	return e
}

// statusText is what is said of an answer: its status, and the code of a
// registry's error.
func statusText(res *http.Response) string {
	text := strings.ToLower(http.StatusText(res.StatusCode))
	if text == "" {
		text = "unexpected answer"
	}
	if res.Request != nil && res.Request.Method == http.MethodHead {
		return text
	}
	b, _ := io.ReadAll(io.LimitReader(res.Body, 4096))
	if code := errorCode(b); code != "" {
		text += " (" + code + ")"
	}
	return text
}

// errorCode finds the code in {"errors":[{"code":"DENIED"…, or in S3's
// <Code>AccessDenied</Code>. Nothing else of a body is repeated: it may say
// more than a log should have.
func errorCode(b []byte) string {
	s := string(b)
	for _, mark := range []string{`"code":`, "<Code>"} {
		_, rest, ok := strings.Cut(s, mark)
		if !ok {
			continue
		}
		rest = strings.TrimLeft(rest, ` "`)
		n := 0
		for n < len(rest) && n < 40 && (rest[n] == '_' || rest[n]|0x20 >= 'a' && rest[n]|0x20 <= 'z') {
			n++
		}
		return rest[:n]
	}
	return ""
}

// contentRange parses "bytes 0-9/100" and "bytes */100"; total is -1 for
// "*".
func contentRange(s string) (from, to, total int64, ok bool) {
	s, ok = strings.CutPrefix(s, "bytes ")
	if !ok {
		return
	}
	r, size, ok := strings.Cut(s, "/")
	if !ok {
		return
	}
	total = -1
	var err error
	if size != "*" {
		if total, err = strconv.ParseInt(size, 10, 64); err != nil || total < 0 {
			return 0, 0, 0, false
		}
	}
	if r == "*" {
		return 0, -1, total, true
	}
	a, b, ok := strings.Cut(r, "-")
	if !ok {
		return
	}
	from, err1 := strconv.ParseInt(a, 10, 64)
	to, err2 := strconv.ParseInt(b, 10, 64)
	return from, to, total, err1 == nil && err2 == nil && from >= 0 && to >= from
}

// RetryAfter parses the header of that name: seconds or a date.
func RetryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.Atoi(s); err == nil && n >= 0 {
		return time.Duration(min(n, 24*3600)) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return max(0, min(t.Sub(now), 24*time.Hour))
	}
	return 0
}

var _ storage.Backend = (*Bound)(nil)

// Bound is a Client with a way to make URLs of blobs: a [storage.Backend].
type Bound struct {
	*Client
	URL func(blob string) string
}

// ReadAt fills p with the bytes of blob from off on.
func (b *Bound) ReadAt(ctx context.Context, blob string, p []byte, off int64) error {
	if err := backend.CheckRead(b.o.Where, blob, off, len(p)); err != nil {
		return err
	}
	return b.Client.ReadAt(ctx, b.URL(blob), blob, p, off)
}

// Size returns the size of blob.
func (b *Bound) Size(ctx context.Context, blob string) (int64, error) {
	if err := backend.CheckRead(b.o.Where, blob, 0, 0); err != nil {
		return 0, err
	}
	return b.Client.Size(ctx, b.URL(blob), blob)
}
