package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/sluicefs/sluice/storage/backend"
)

// login adds to requests for one host what that host asks for, and to no
// others: redirects lead to stores that must not see it. Tokens are kept and
// replaced before they expire; a refused one is replaced once.
type login struct {
	rt    http.RoundTripper
	base  *url.URL // scheme and host
	scope string
	creds func(ctx context.Context) (authn.AuthConfig, error)
	now   func() time.Time
	limit time.Duration // of a request for a token

	fetching chan struct{} // holds one value while a token is fetched

	mu    sync.Mutex // leaf
	asked challenge  // of the last 401; its scheme is "" before
	value string     // of the Authorization header
	renew time.Time  // when a bearer token is to be replaced; zero for basic
	ends  time.Time  // when it expires
	pause time.Time  // until when a refusal is final
}

func newLogin(rt http.RoundTripper, base *url.URL, repo string, creds func(context.Context) (authn.AuthConfig, error)) *login {
	return &login{
		rt: rt, base: base, scope: "repository:" + repo + ":pull", creds: creds, now: time.Now,
		limit: 15 * time.Second, fetching: make(chan struct{}, 1),
	}
}

// RoundTrip sends req, with credentials if it is for the login's host.
func (l *login) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host != l.base.Host || req.URL.Scheme != l.base.Scheme {
		return l.rt.RoundTrip(req)
	}
	value, err := l.header(req.Context())
	if err != nil {
		return nil, err
	}
	res, err := l.rt.RoundTrip(with(req, value))
	if err != nil || !unauthorized(res) {
		return res, err
	}
	c, ok := parseChallenge(res.Header.Values("WWW-Authenticate"))
	if !ok {
		return res, nil
	}
	again, err := l.refused(req.Context(), c, value)
	if err != nil {
		res.Body.Close()
		return nil, err
	}
	if again == value {
		return res, nil // there is nothing better to offer
	}
	io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10)) // keeps the connection
	res.Body.Close()
	res, err = l.rt.RoundTrip(with(req, again))
	if err == nil && unauthorized(res) {
		l.mu.Lock()
		l.pause = l.now().Add(refusedPause)
		l.mu.Unlock()
	}
	return res, err
}

// refusedPause is how long no new token is asked for after a new one was
// refused.
const refusedPause = 5 * time.Second

// with returns req with an Authorization header. Only requests without a
// body are sent.
func with(req *http.Request, value string) *http.Request {
	if value == "" {
		return req
	}
	r := req.Clone(req.Context())
	r.Header.Set("Authorization", value)
	return r
}

// header returns what to send now, "" before the host has asked.
func (l *login) header(ctx context.Context) (string, error) {
	l.mu.Lock()
	value, renew, ends, asked := l.value, l.renew, l.ends, l.asked
	l.mu.Unlock()
	now := l.now()
	if renew.IsZero() || now.Before(renew) {
		return value, nil
	}
	if now.Before(ends) {
		// Still good: one request replaces it, the others go on.
		select {
		case l.fetching <- struct{}{}:
			defer func() { <-l.fetching }()
			if v, err := l.login(ctx, asked); err == nil {
				return v, nil
			}
		default:
		}
		return value, nil
	}
	return l.refused(ctx, asked, value)
}

// refused gets new credentials after the host refused old ones, or takes
// those that another request got meanwhile.
func (l *login) refused(ctx context.Context, c challenge, old string) (string, error) {
	select {
	case l.fetching <- struct{}{}:
		defer func() { <-l.fetching }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	l.mu.Lock()
	value, final := l.value, l.now().Before(l.pause)
	l.mu.Unlock()
	if value != old || final {
		return value, nil
	}
	return l.login(ctx, c)
}

// login gets credentials that meet the challenge. The caller holds fetching.
func (l *login) login(ctx context.Context, c challenge) (string, error) {
	conf, err := l.creds(ctx)
	if err != nil {
		return "", l.fail(fmt.Errorf("credentials: %w", err), nil)
	}
	value, life := "", time.Duration(0)
	switch {
	case c.scheme == "basic":
		value = basic(conf)
	case conf.RegistryToken != "":
		value = "Bearer " + conf.RegistryToken
	default:
		var token string
		if token, life, err = l.token(ctx, c, conf); err != nil {
			return "", err
		}
		value = "Bearer " + token
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked, l.value, l.renew, l.ends = c, value, time.Time{}, time.Time{}
	if life > 0 {
		now := l.now()
		l.ends, l.renew = now.Add(life), now.Add(life-max(life/5, min(life/2, 10*time.Second)))
	}
	return value, nil
}

// basic returns the header for a user and password, "" if there are none.
func basic(c authn.AuthConfig) string {
	if c.Username == "" && c.Password == "" {
		if c.Auth != "" {
			return "Basic " + c.Auth
		}
		return ""
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.Username+":"+c.Password))
}

// tokenAnswer is what a token server says: the distribution project's
// "Token Authentication Specification" and OAuth 2.
type tokenAnswer struct {
	Token       string `json:"token"`
	AccessToken string `json:"access_token"`
	ExpiresIn   int    `json:"expires_in"` // seconds
}

const (
	tokenLife    = 60 * time.Second // of one that does not say
	maxTokenSize = 1 << 20
)

// token asks the challenge's token server, by POST with an identity token
// and else by GET.
func (l *login) token(ctx context.Context, c challenge, conf authn.AuthConfig) (string, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, l.limit)
	defer cancel()
	req, err := l.tokenRequest(ctx, c, conf)
	if err != nil {
		return "", 0, l.fail(err, nil)
	}
	res, err := l.rt.RoundTrip(req)
	if err != nil {
		return "", 0, l.fail(backend.Redact(err), nil)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return "", 0, l.fail(errors.New("no token"), res)
	}
	var a tokenAnswer
	if err := json.NewDecoder(io.LimitReader(res.Body, maxTokenSize)).Decode(&a); err != nil {
		return "", 0, l.fail(errors.New("answer of the token server is not what it should be"), nil)
	}
	if a.Token == "" {
		a.Token = a.AccessToken
	}
	if a.Token == "" || strings.ContainsAny(a.Token, "\r\n") {
		return "", 0, l.fail(errors.New("answer of the token server has no token"), nil)
	}
	life := tokenLife
	if a.ExpiresIn > 0 {
		life = time.Duration(min(a.ExpiresIn, 365*24*3600)) * time.Second
	}
	return a.Token, life, nil
}

func (l *login) tokenRequest(ctx context.Context, c challenge, conf authn.AuthConfig) (*http.Request, error) {
	u, err := realmURL(c.params["realm"], l.base)
	if err != nil {
		return nil, err
	}
	q := url.Values{"scope": {l.scope}}
	if s := c.params["service"]; s != "" {
		q.Set("service", s)
	}
	if conf.IdentityToken != "" {
		q.Set("grant_type", "refresh_token")
		q.Set("refresh_token", conf.IdentityToken)
		q.Set("client_id", "sluice")
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(q.Encode()))
		if err == nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		return req, err
	}
	for k, v := range u.Query() {
		if !q.Has(k) {
			q[k] = v
		}
	}
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err == nil {
		if b := basic(conf); b != "" {
			req.Header.Set("Authorization", b)
		}
	}
	return req, err
}

// fail makes an error of a login, which never has what was sent in it.
func (l *login) fail(err error, res *http.Response) error {
	e := &backend.Error{Op: "log in", Where: l.base.Host, Err: err}
	if res != nil {
		e.Status = res.StatusCode
	}
	return e
}
