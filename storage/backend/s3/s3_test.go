package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/rclone/gofakes3"
	"github.com/rclone/gofakes3/s3mem"

	"github.com/sluicefs/sluice/storage/storagetest"
)

const (
	accessKey = "access"
	secretKey = "a-very-secret-key"
)

// server starts an S3 server that wants signed requests and has the bucket
// "images"; hosts is whether it takes the bucket from the host's name.
func server(t *testing.T, hosts bool) *httptest.Server {
	t.Helper()
	mem := s3mem.New()
	if err := mem.CreateBucket(t.Context(), "images"); err != nil {
		t.Fatal(err)
	}
	s := gofakes3.New(mem, gofakes3.WithV4Auth(map[string]string{accessKey: secretKey}), gofakes3.WithHostBucket(hosts))
	srv := httptest.NewServer(s.Server())
	t.Cleanup(srv.Close)
	return srv
}

// to sends every request to srv, whatever host it is for.
func to(srv *httptest.Server) func(http.RoundTripper) http.RoundTripper {
	t := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, srv.Listener.Addr().String())
	}, DisableCompression: true}
	return func(http.RoundTripper) http.RoundTripper { return t }
}

// put makes a blob as somebody else's client would.
func put(o Options, srv *httptest.Server) func(t *testing.T, data []byte) string {
	return func(t *testing.T, data []byte) string {
		t.Helper()
		lookup := minio.BucketLookupPath
		if o.Style == VirtualHost {
			lookup = minio.BucketLookupDNS
		}
		u, _ := url.Parse(o.Endpoint)
		c, err := minio.New(u.Host, &minio.Options{
			Creds: credentials.NewStaticV4(accessKey, secretKey, ""), Region: "us-east-1",
			BucketLookup: lookup, Transport: to(srv)(nil),
		})
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(data)
		name := hex.EncodeToString(sum[:])
		if _, err := c.PutObject(t.Context(), o.Bucket, o.Prefix+name, bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{}); err != nil {
			t.Fatal(err)
		}
		return name
	}
}

func TestConformance(t *testing.T) {
	for name, style := range map[string]Style{"path": Path, "virtual host": VirtualHost} {
		t.Run(name, func(t *testing.T) {
			storagetest.Run(t, func(t *testing.T) storagetest.Place {
				srv := server(t, style == VirtualHost)
				o := Options{
					Endpoint: "http://s3.test:80", Bucket: "images", Prefix: "some/where/", Style: style,
					AccessKey: accessKey, SecretKey: secretKey, Wrap: to(srv),
				}
				b, err := New(o)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { b.Close() })
				return storagetest.Place{Backend: b, Put: put(o, srv)}
			})
		})
	}
}

func TestWrongKeyIsRefusedWithoutSayingIt(t *testing.T) {
	srv := server(t, false)
	b, err := New(Options{Endpoint: srv.URL, Bucket: "images", Style: Path, AccessKey: accessKey, SecretKey: "not-the-key"})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	err = b.ReadAt(t.Context(), strings.Repeat("0", 64), make([]byte, 1), 0)
	if !errors.Is(err, fs.ErrPermission) {
		t.Errorf("read with a wrong key: got %v, want fs.ErrPermission", err)
	}
	if err != nil && (strings.Contains(err.Error(), "not-the-key") || strings.Contains(err.Error(), "Signature=")) {
		t.Errorf("error has secrets: %v", err)
	}
}

func TestEndpoints(t *testing.T) {
	for _, c := range []struct {
		endpoint, host string
		plain, secure  bool
	}{
		{"", "s3.amazonaws.com", false, true},
		{"http://127.0.0.1:9000", "127.0.0.1:9000", false, false},
		{"oss-cn-hangzhou.aliyuncs.com", "oss-cn-hangzhou.aliyuncs.com", false, true},
		{"minio:9000", "minio:9000", true, false},
	} {
		host, secure, err := endpoint(c.endpoint, c.plain)
		if err != nil || host != c.host || secure != c.secure {
			t.Errorf("endpoint %q: got %s, %v, %v", c.endpoint, host, secure, err)
		}
	}
	if _, _, err := endpoint("ftp://x", false); err == nil {
		t.Error("endpoint by ftp: got no error")
	}
	if got := regionOf("oss-cn-hangzhou-internal.aliyuncs.com"); got != "oss-cn-hangzhou" {
		t.Errorf("region of an OSS endpoint: got %q", got)
	}
}
