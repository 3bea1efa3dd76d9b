// Package backend has what the places that keep blobs share: the error that
// says what went wrong and whether it is worth another try, and decorators
// that wrap any [storage.Backend]:
//
//	Retry    tries again, with pauses, and goes on where a body was cut
//	Mirror   asks several places in turn, by health, and hedges slow ranges
//	Limit    bounds bytes per second and reads under way
//	Outage   decides what a reader sees while the origin is away
//
// The packages below this one are the places themselves: localfs, registry,
// s3, httpdir, httpproxy, localdisk. Each passes package storagetest.
package backend

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// Error is a failed operation at a backend. Its text has no credentials and
// no query of a signed URL.
type Error struct {
	Op         string        // "read", "size", "manifest", "token"
	Where      string        // host and repository, bucket, or directory
	Blob       string        // name of the blob, "" if it is not about one
	Status     int           // status of the HTTP answer, 0 if there was none
	RetryAfter time.Duration // what the server asked for, 0 if nothing
	Done       int           // bytes at the start of p that are good, for ReadAt
	Final      bool          // another try cannot help
	Err        error
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Blob != "" {
		b.WriteString(" blob " + e.Blob)
	}
	if e.Where != "" {
		b.WriteString(" at " + e.Where)
	}
	if e.Status != 0 {
		fmt.Fprintf(&b, ": status %d", e.Status)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// Is maps statuses to the errors of package fs.
func (e *Error) Is(target error) bool {
	switch target {
	case fs.ErrNotExist:
		return e.Status == 404
	case fs.ErrPermission:
		return e.Status == 401 || e.Status == 403
	}
	return false
}

// Temporary reports whether the same read may succeed later: errors of
// networks, time-outs, statuses 408, 425, 429 and 5xx. That the caller's own
// context ended, a blob that is not there and a refusal are not.
func Temporary(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	var e *Error
	if !errors.As(err, &e) {
		return errors.Is(err, syscall.EIO) || errors.Is(err, syscall.ESTALE)
	}
	if e.Final {
		return false
	}
	switch {
	case e.Status == 408 || e.Status == 425 || e.Status == 429:
		return true
	case e.Status >= 500:
		return e.Status != 501 && e.Status != 505
	case e.Status >= 400:
		return false
	}
	return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission)
}

// done returns how many bytes of a failed read are good.
func done(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Done
	}
	return 0
}

// retryAfterOf returns how long the server wants to be left alone.
func retryAfterOf(err error) time.Duration {
	var e *Error
	if errors.As(err, &e) {
		return e.RetryAfter
	}
	return 0
}

// Redact takes the URL, which may be signed, out of an error of net/http.
func Redact(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// ValidID reports whether a blob's name can be part of a path or URL: 1 to
// 255 letters, digits, '.', '_', '-', ':' and '+', not beginning with a dot.
func ValidID(id string) bool {
	if len(id) == 0 || len(id) > 255 || id[0] == '.' {
		return false
	}
	for _, c := range []byte(id) {
		switch {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case strings.IndexByte("._-:+", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// CheckRead returns an error for a read that no blob can satisfy.
func CheckRead(where, blob string, off int64, n int) error {
	switch {
	case !ValidID(blob):
		return &Error{Op: "read", Where: where, Blob: fmt.Sprintf("%.80q", blob), Final: true, Err: errors.New("not a name of a blob")}
	case off < 0 || off+int64(n) < off:
		return &Error{Op: "read", Where: where, Blob: blob, Final: true, Err: fmt.Errorf("range of %d bytes at %d", n, off)}
	}
	return nil
}
