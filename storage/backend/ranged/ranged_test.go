package ranged

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestExpiryOfSignedURLs(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for u, want := range map[string]time.Duration{
		"https://s3.test/x": redirectLife,
		"https://s3.test/x?X-Amz-Date=20260102T030405Z&X-Amz-Expires=900":        15 * time.Minute,
		"https://gcs.test/x?X-Goog-Date=20260102T030305Z&X-Goog-Expires=120":     time.Minute,
		"https://oss.test/x?Expires=1767323105":                                  time.Minute,
		"https://azure.test/x?se=2026-01-02T03%3A14%3A05Z&sig=secret":            10 * time.Minute,
		"https://s3.test/x?X-Amz-Date=yesterday&X-Amz-Expires=many&Expires=soon": redirectLife,
	} {
		if got := expiry(u, now).Sub(now) + redirectSafe; got != want {
			t.Errorf("%s: got %v, want %v", u, got, want)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for s, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-1": 0, "soon": 0, "Fri, 02 Jan 2026 03:04:35 GMT": 30 * time.Second,
		"Fri, 02 Jan 2026 03:04:00 GMT": 0, "99999999": 24 * time.Hour,
	} {
		if got := RetryAfter(s, now); got != want {
			t.Errorf("%q: got %v, want %v", s, got, want)
		}
	}
}

func TestErrorCodeSaysNoMore(t *testing.T) {
	for body, want := range map[string]string{
		`{"errors":[{"code":"DENIED","message":"token sekret"}]}`:   "DENIED",
		`<Error><Code>AccessDenied</Code><Key>sekret</Key></Error>`: "AccessDenied",
		`{"code": "` + strings.Repeat("A", 100) + `"}`:              strings.Repeat("A", 40),
		`hello`: "", `{"code":17}`: "", `{"code":`: "",
	} {
		if got := errorCode([]byte(body)); got != want {
			t.Errorf("%s: got %q, want %q", body, got, want)
		}
	}
}

func TestRedirectsStayOutside(t *testing.T) {
	for _, c := range []struct {
		from, to string
		ok       bool
	}{
		{"https://a.test/x", "https://b.test/y", true},
		{"https://a.test/x", "/y", true},
		{"http://a.test/x", "https://b.test/y", true},
		{"https://a.test/x", "http://b.test/y", false},
		{"https://a.test/x", "ftp://b.test/y", false},
		{"https://a.test/x", "https://169.254.169.254/latest/meta-data", false},
		{"https://a.test/x", "https://localhost/y", false},
		{"http://127.0.0.1:5000/x", "http://127.0.0.1:9000/y", true},
		{"https://a.test/x", "", false},
	} {
		got, err := location(c.from, &http.Response{Header: http.Header{"Location": {c.to}}})
		if (err == nil) != c.ok {
			t.Errorf("from %s to %s: got %q, %v, want ok %v", c.from, c.to, got, err, c.ok)
		}
	}
}

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-9/100", "bytes */100", "bytes 5-9/*", "bytes 9-5/10", "bytes -1-5/9", "items 0-9/100"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		from, to, total, ok := contentRange(s)
		if ok && (from < 0 || to < -1 || total < -1 || to >= 0 && to < from) {
			t.Errorf("%q: %d-%d/%d", s, from, to, total)
		}
	})
}
