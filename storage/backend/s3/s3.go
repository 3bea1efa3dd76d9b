// Package s3 has blobs in a bucket of an object store that speaks S3: AWS,
// MinIO, Ceph, Alibaba's OSS and others. A blob is the object of its name
// behind a prefix.
package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/sluicefs/sluice/storage/backend"
	"github.com/sluicefs/sluice/storage/backend/ranged"
)

// Options of New. Zero values are the defaults.
type Options struct {
	Endpoint string // host[:port] or URL; default s3.amazonaws.com
	Bucket   string // required
	Prefix   string // of object names, as it is
	Region   string // default us-east-1 where the store does not say

	AccessKey, SecretKey, SessionToken string // default: environment, ~/.aws/credentials, the machine's role; none means anonymous
	Anonymous                          bool

	Style     Style // how the bucket is addressed
	PlainHTTP bool
	TLS       backend.TLS
	Range     ranged.Options // time-outs

	// Wrap, if set, is put around the transport: a proxy.
	Wrap func(http.RoundTripper) http.RoundTripper
}

// Style is where a URL has the bucket.
type Style uint8

// Styles of addressing.
const (
	Auto        Style = iota // as the endpoint is known to want it
	Path                     // https://endpoint/bucket/object
	VirtualHost              // https://bucket.endpoint/object, which OSS wants
)

// Backend reads objects. Its methods are safe for concurrent use.
type Backend struct {
	o         Options
	client    *minio.Core
	where     string
	ranged    *ranged.Client
	transport *http.Transport
}

// New returns a backend for the objects of a bucket. It does no I/O.
func New(o Options) (*Backend, error) {
	if o.Bucket == "" {
		return nil, errors.New("s3: no bucket")
	}
	host, secure, err := endpoint(o.Endpoint, o.PlainHTTP)
	if err != nil {
		return nil, err
	}
	t, err := backend.Transport(o.TLS)
	if err != nil {
		return nil, fmt.Errorf("s3 %s: %w", host, err)
	}
	var rt http.RoundTripper = t
	if o.Wrap != nil {
		rt = o.Wrap(rt)
	}
	b := &Backend{o: o, where: host + "/" + o.Bucket, transport: t}
	lookup := map[Style]minio.BucketLookupType{Auto: minio.BucketLookupAuto, Path: minio.BucketLookupPath, VirtualHost: minio.BucketLookupDNS}[o.Style]
	if o.Region == "" {
		o.Region = regionOf(host)
	}
	b.client, err = minio.NewCore(host, &minio.Options{
		Creds: o.credentials(), Secure: secure, Transport: rt, Region: o.Region,
		BucketLookup: lookup, MaxRetries: 1, // Retry is a decorator
	})
	if err != nil {
		return nil, fmt.Errorf("s3 %s: %w", host, err)
	}
	ro := o.Range
	ro.Where = b.where
	b.ranged = ranged.New(rt, ro)
	return b, nil
}

func endpoint(s string, plain bool) (host string, secure bool, err error) {
	if s == "" {
		s = "s3.amazonaws.com"
	}
	if !strings.Contains(s, "://") {
		return s, !plain, nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", false, errors.New("s3: endpoint is not a URL by http or https")
	}
	return u.Host, u.Scheme == "https" && !plain, nil
}

// regionOf is the region that a host name of OSS has in it
// ("oss-cn-hangzhou.aliyuncs.com"). Without a region the client would ask the
// store first, which AWS alone answers.
func regionOf(host string) string {
	name, _, _ := strings.Cut(host, ".")
	if strings.HasPrefix(name, "oss-") && strings.HasSuffix(host, ".aliyuncs.com") {
		return strings.TrimSuffix(name, "-internal")
	}
	if strings.HasSuffix(host, "amazonaws.com") {
		return "" // the client finds it out
	}
	return "us-east-1"
}

func (o *Options) credentials() *credentials.Credentials {
	switch {
	case o.Anonymous:
		return credentials.NewStaticV4("", "", "")
	case o.AccessKey != "":
		return credentials.NewStaticV4(o.AccessKey, o.SecretKey, o.SessionToken)
	}
	return credentials.NewChainCredentials([]credentials.Provider{
		&credentials.EnvAWS{}, &credentials.EnvMinio{}, &credentials.FileAWSCredentials{}, &credentials.IAM{},
	})
}

// ReadAt fills p with the bytes of the object from off on.
func (b *Backend) ReadAt(ctx context.Context, blob string, p []byte, off int64) error {
	if err := backend.CheckRead(b.where, blob, off, len(p)); err != nil {
		return err
	}
	if len(p) == 0 {
		return ctx.Err()
	}
	var o minio.GetObjectOptions
	if err := o.SetRange(off, off+int64(len(p))-1); err != nil {
		return b.fail("read", blob, 0, err)
	}
	return b.ranged.Do(ctx, blob, p, off, func(ctx context.Context) (*http.Response, error) {
		body, info, header, err := b.client.GetObject(ctx, b.o.Bucket, b.o.Prefix+blob, o)
		if err != nil {
			return nil, b.fail("read", blob, 0, err)
		}
		status := http.StatusOK
		if header.Get("Content-Range") != "" {
			status = http.StatusPartialContent
		}
		return &http.Response{StatusCode: status, Header: header, Body: body, ContentLength: info.Size}, nil
	})
}

// Size returns the size of the object.
func (b *Backend) Size(ctx context.Context, blob string) (int64, error) {
	if err := backend.CheckRead(b.where, blob, 0, 0); err != nil {
		return 0, err
	}
	info, err := b.client.StatObject(ctx, b.o.Bucket, b.o.Prefix+blob, minio.StatObjectOptions{})
	if err != nil {
		return 0, b.fail("size", blob, 0, err)
	}
	return info.Size, nil
}

// Close closes connections that are not in use.
func (b *Backend) Close() error {
	b.transport.CloseIdleConnections()
	return nil
}

// fail makes an error without what the client's own has of the request.
func (b *Backend) fail(op, blob string, n int, err error) error {
	e := &backend.Error{Op: op, Where: b.where, Blob: blob, Done: n, Err: backend.Redact(err)}
	var r minio.ErrorResponse
	if errors.As(err, &r) && r.StatusCode != 0 {
		e.Status = r.StatusCode
		e.Err = errors.New(strings.ToLower(http.StatusText(r.StatusCode)) + " (" + r.Code + ")")
		switch {
		case r.Code == minio.NoSuchKey || r.Code == minio.NoSuchBucket:
			e.Err, e.Final = fs.ErrNotExist, true
		case r.StatusCode == http.StatusRequestedRangeNotSatisfiable:
			e.Err, e.Final = io.ErrUnexpectedEOF, true
		}
	}
	return e
}
