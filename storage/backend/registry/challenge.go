package registry

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/sluicefs/sluice/storage/backend"
)

// challenge is what a 401 answer asks for: RFC 9110, section 11.6.1.
type challenge struct {
	scheme string // "basic" or "bearer"
	params map[string]string
}

// parseChallenge returns the first challenge of the header lines that can be
// met, bearer before basic.
func parseChallenge(lines []string) (c challenge, ok bool) {
	for _, line := range lines {
		scheme, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch scheme = strings.ToLower(scheme); scheme {
		case "bearer":
			return challenge{scheme, parseParams(rest)}, true
		case "basic":
			if !ok {
				c, ok = challenge{scheme, parseParams(rest)}, true
			}
		}
	}
	return c, ok
}

// maxParams bounds the parameters of a challenge.
const maxParams = 16

// parseParams parses key="value", key=value, …; it stops at what is neither.
func parseParams(s string) map[string]string {
	params := make(map[string]string)
	for len(params) < maxParams {
		s = strings.TrimLeft(s, " \t,")
		key, rest, ok := strings.Cut(s, "=")
		if !ok || key == "" {
			break
		}
		var value string
		if strings.HasPrefix(rest, `"`) {
			value, rest, ok = unquote(rest[1:])
			if !ok {
				break
			}
		} else {
			value, rest, _ = strings.Cut(rest, ",")
			value = strings.TrimSpace(value)
		}
		params[strings.ToLower(strings.TrimSpace(key))] = value
		s = rest
	}
	return params
}

// unquote reads a quoted string up to its end.
func unquote(s string) (value, rest string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			if i++; i == len(s) {
				return "", "", false
			}
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", "", false
}

// realmURL checks where a challenge wants credentials sent to: not out of
// TLS, and not to this machine or its link from a registry elsewhere.
func realmURL(realm string, registry *url.URL) (*url.URL, error) {
	u, err := url.Parse(realm)
	if err != nil || u.Host == "" || u.User != nil {
		return nil, errors.New("token server is not a URL")
	}
	if u.Scheme != "https" && (u.Scheme != "http" || registry.Scheme != "http") {
		return nil, fmt.Errorf("token server by %.20q for a registry by %s", u.Scheme, registry.Scheme)
	}
	if backend.IsLocal(u.Hostname()) && !backend.IsLocal(registry.Hostname()) {
		return nil, errors.New("token server on this machine for a registry elsewhere")
	}
	return u, nil
}

// unauthorized reports whether an answer asks for other credentials.
func unauthorized(res *http.Response) bool { return res.StatusCode == http.StatusUnauthorized }
