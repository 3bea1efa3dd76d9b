package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/rclone/gofakes3"
	"github.com/rclone/gofakes3/s3mem"

	"github.com/sluicefs/sluice/internal/registry"
	"github.com/sluicefs/sluice/storage"
)

// asServer makes the test binary a server of files: "s3" or "oss" of objects
// in memory, "token:" and a directory one of tokens, else of the directory that
// it names.
const asServer = "SLUICE_E2E_SERVER"

const (
	accessKey = "access"
	secretKey = "a-very-secret-key"
	bucket    = "images"
)

// runServer serves on the address that the environment has.
func runServer(kind, addr string) error {
	if dir, ok := strings.CutPrefix(kind, "token:"); ok {
		return runTokenServer(dir, addr)
	}
	h := http.FileServer(http.Dir(kind))
	if kind == "s3" || kind == "oss" {
		mem := s3mem.New()
		if err := mem.CreateBucket(context.Background(), bucket); err != nil {
			return err
		}
		h = gofakes3.New(mem, gofakes3.WithV4Auth(map[string]string{accessKey: secretKey}), gofakes3.WithHostBucket(kind == "oss")).Server()
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return http.Serve(l, h)
}

// server starts a server as a process of its own.
func (b *bench) server(kind string) (addr string) {
	b.t.Helper()
	addr = freeAddr(b.t)
	cmd := exec.CommandContext(b.t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), asServer+"="+kind, asServer+"_ADDR="+addr)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	b.listens("the server", addr)
	return addr
}

// listens waits until somebody does on addr.
func (b *bench) listens(who, addr string) {
	b.t.Helper()
	b.until(who+" to listen", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// mountAndCompare mounts a source in the foreground and compares it with src.
func (b *bench) mountAndCompare(src string, args ...string) {
	b.t.Helper()
	mnt := b.mkdir("mnt")
	cmd, log := b.foreground(append(args, mnt)...)
	b.compare(src, mnt)
	b.ok("umount", mnt)
	if err := cmd.Wait(); err != nil {
		b.t.Error(err)
	}
	if said := log.buf.String(); strings.Contains(said, secretKey) {
		b.t.Errorf("the key was repeated: %q", said)
	}
}

// An image in an object store and in a directory of a web server, each a
// process of its own.
func TestIntegrationMountFromStores(t *testing.T) {
	b := mountBench(t)
	src := b.source()
	boot, blob := b.image(src, "img", storage.Zstd)
	for _, c := range []struct{ kind, source string }{
		{"s3", "s3://" + bucket + "/some/where"},
		{"oss", "oss://" + bucket + "/some/where"},
		{filepath.Dir(boot), ""},
	} {
		t.Run(path.Base(c.kind), func(t *testing.T) {
			addr := b.server(c.kind)
			own := *b
			own.t = t
			own.env = append(own.env, "SLUICE_CACHE_DIR="+b.path("cache-"+path.Base(c.kind)),
				"AWS_ACCESS_KEY_ID="+accessKey, "AWS_SECRET_ACCESS_KEY="+secretKey)
			if c.source == "" {
				own.mountAndCompare(src, "http://"+addr+"/")
				return
			}
			// The name of the bucket is part of the host's name, which nobody
			// knows but the server: it is asked as a proxy.
			endpoint, lookup := "http://"+addr, minio.BucketLookupPath
			if c.kind == "oss" {
				endpoint, lookup = "http://oss.test", minio.BucketLookupDNS
				own.env = append(own.env, "HTTP_PROXY=http://"+addr, "http_proxy=http://"+addr, "NO_PROXY=", "no_proxy=")
			}
			put(t, addr, endpoint, lookup, map[string]string{"some/where/image.boot": boot, "some/where/" + filepath.Base(blob): blob})
			own.mountAndCompare(src, "--endpoint", endpoint, "--region=us-east-1", c.source)
			own.env = append(own.env, "AWS_SECRET_ACCESS_KEY=wrong", "SLUICE_CACHE_DIR="+b.path("cache-wrong"))
			if o := own.run("mount", "--endpoint", endpoint, "--region=us-east-1", "--retry=1s", c.source, own.mkdir("mnt")); o.code != 1 || strings.Count(o.errout, "\n") != 1 {
				t.Errorf("with a wrong key: exit code %d, said %q", o.code, o.errout)
			}
		})
	}
}

func put(t *testing.T, addr, endpoint string, lookup minio.BucketLookupType, files map[string]string) {
	t.Helper()
	c, err := minio.New(strings.TrimPrefix(endpoint, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(accessKey, secretKey, ""), Region: "us-east-1", BucketLookup: lookup,
		Transport: &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for object, file := range files {
		if _, err := c.FPutObject(t.Context(), bucket, object, file, minio.PutObjectOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// An image in an OCI layout, and in a tar file of one.
func TestIntegrationMountFromLayouts(t *testing.T) {
	b := mountBench(t)
	src := b.source()
	boot, blob := b.image(src, "img", storage.Zstd)
	r := b.registry(registry.Options{})
	ref, err := name.ParseReference(strings.TrimPrefix(b.push(r.Addr, boot, blob), "docker://"))
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(ref, remote.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	dir := b.path("layout")
	p, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = p.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "v1"}))
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("tar", "-C", dir, "-cf", b.path("layout.tar"), ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for i, source := range []string{dir, "oci:" + dir + ":v1", b.path("layout.tar"), "oci-archive:" + b.path("layout.tar") + ":v1"} {
		own := *b
		own.env = append(own.env, "SLUICE_CACHE_DIR="+b.path(fmt.Sprintf("cache%d", i)))
		own.mountAndCompare(src, source)
	}
}
