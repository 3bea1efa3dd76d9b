package e2e

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/internal/testenv"
)

// plainImage is an image as any builder makes it: one layer, gzip.
func plainImage(t *testing.T, files map[string]string) v1.Image {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(text)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, text)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(out.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// distribution starts Debian's registry, with a password if one is given as
// a line of an htpasswd file.
func (b *bench) distribution(htpasswd string) (addr string) {
	b.t.Helper()
	auth := ""
	if htpasswd != "" {
		if err := os.WriteFile(b.path("htpasswd"), []byte(htpasswd+"\n"), 0o600); err != nil {
			b.t.Fatal(err)
		}
		auth = fmt.Sprintf("auth:\n  htpasswd: {realm: test, path: %s}\n", b.path("htpasswd"))
	}
	addr = b.startDistribution("", auth, io.Discard)
	b.until("the registry to answer", func() bool {
		resp, err := http.Get("http://" + addr + "/v2/")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
	return addr
}

// startDistribution starts Debian's registry over the one directory of images
// that a bench has. tls are lines below "http:", more further sections of its
// configuration; its access log goes to log.
func (b *bench) startDistribution(tls, more string, log io.Writer) (addr string) {
	b.t.Helper()
	program := testenv.Program(b.t, "docker-registry", "docker-registry")
	addr = freeAddr(b.t)
	config := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage:\n  filesystem: {rootdirectory: %s}\nhttp:\n  addr: %q\n%s%s", b.mkdir("distribution"), addr, tls, more)
	file := b.path("config-" + addr + ".yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		b.t.Fatal(err)
	}
	cmd := exec.CommandContext(b.t.Context(), program, "serve", file)
	cmd.Stdout = log
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return addr
}

// The password "hunter2" of the user "app", by bcrypt with the least cost.
const htpasswd = "app:$2b$04$8UJZSJdDU6ofOCeKPQmxvuCbwyMqKPJ1WLYuc8I17nFXUDETNAqAq"

// A plain image in a registry with a password, of which the tag is only known
// to a mirror: fetched whole once, then mounted with both away.
func TestIntegrationPlainImageBehindAMirror(t *testing.T) {
	b := mountBench(t)
	addr := b.distribution(htpasswd)
	files := map[string]string{"etc/motd": "hello\n", "bin/large": strings.Repeat("0123456789", 100000)}
	ref, err := name.ParseReference(addr + "/library/app:1")
	if err != nil {
		t.Fatal(err)
	}
	auth := &authn.Basic{Username: "app", Password: "hunter2"}
	if err := remote.Write(ref, plainImage(t, files), remote.WithAuth(auth), remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
	docker := b.mkdir("docker")
	login := fmt.Sprintf(`{"auths":{%q:{"auth":"YXBwOmh1bnRlcjI="}}}`, addr)
	hosts := fmt.Sprintf("server = \"https://registry.invalid\"\n\n[host.\"http://%s\"]\n  capabilities = [\"pull\", \"resolve\"]\n", addr)
	b.mkdir("certs.d/registry.invalid")
	for path, text := range map[string]string{filepath.Join(docker, "config.json"): login, b.path("certs.d/registry.invalid/hosts.toml"): hosts} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.env = append(b.env, "DOCKER_CONFIG="+docker)
	mnt := b.mkdir("mnt")
	args := []string{"--certs-dir", b.path("certs.d"), "--platform=linux/amd64", "--retry=1s", "registry.invalid/library/app:1", mnt}
	check := func() string {
		t.Helper()
		cmd, log := b.foreground(args...)
		for name, want := range files {
			if got, err := os.ReadFile(filepath.Join(mnt, name)); err != nil || string(got) != want {
				t.Errorf("%s: %d bytes, %v; want %d", name, len(got), err, len(want))
			}
		}
		b.ok("umount", mnt)
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		return log.buf.String()
	}
	if said := check(); !strings.Contains(said, "plain OCI image") || !strings.Contains(said, "sluice image create") || strings.Contains(said, "hunter2") {
		t.Errorf("the first mount said %q", said)
	}
	if said := check(); strings.Contains(said, "plain OCI image") {
		t.Errorf("the second mount said %q", said)
	}
	if err := os.WriteFile(filepath.Join(docker, "config.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if o := b.run(append([]string{"mount", "--cache-dir", b.path("other")}, args...)...); o.code != 1 || !strings.Contains(o.errout, "401") {
		t.Errorf("without a password: exit code %d, said %q", o.code, o.errout)
	}
	if out := b.ok("cache", "ls"); !strings.Contains(out, "sha256:") {
		t.Errorf("cache ls: %q", out)
	}
	b.ok("cache", "prune")
	if out := b.ok("cache", "ls"); strings.Contains(out, "sha256:") {
		t.Errorf("cache ls after prune: %q", out)
	}
}

// With a cache directory that can not be written, reads go on without one.
func TestIntegrationReadOnlyCache(t *testing.T) {
	b := mountBench(t)
	src, mnt, dir := b.source(), b.mkdir("mnt"), b.mkdir("cache")
	b.image(src, "img", 0)
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	cmd, log := b.foreground(b.path("img/image.boot"), mnt)
	b.compare(src, mnt)
	b.ok("umount", mnt)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.buf.String(), "nothing that is fetched can be kept") {
		t.Errorf("said %q", log.buf.String())
	}
}

// A plain image that has no room in the cache directory: one line says so and
// what to do, before or after the bytes were fetched, and nothing stays.
func TestIntegrationPlainImageOnAFullDisk(t *testing.T) {
	b := mountBench(t)
	random := rand.New(rand.NewPCG(1, 2))
	digits := make([]byte, 3<<20) // half as large by gzip, and no smaller by LZ4
	for i := range digits {
		digits[i] = "0123456789abcdef"[random.IntN(16)]
	}
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: plainImage(t, map[string]string{"digits": string(digits)})})
	if _, err := layout.Write(b.path("layout"), index); err != nil {
		t.Fatal(err)
	}
	for size, want := range map[string]string{"1m": "are needed, 1.0 MiB are free;", "2m": "2.0 MiB that are free did not suffice (no space left on device);"} {
		dir := b.mkdir("cache-" + size)
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=700,size="+size); err != nil {
			t.Fatal(err)
		}
		o := b.run("mount", "--cache-dir", dir, "oci:"+b.path("layout"), b.mkdir("mnt"))
		last := o.errout[strings.LastIndex("\n"+strings.TrimSpace(o.errout), "\n"):]
		if o.code != 1 || !strings.Contains(last, "not enough space in "+dir+": ") || !strings.Contains(last, want) || !strings.Contains(last, "--cache-dir") {
			t.Errorf("%s: exit code %d, said %q", size, o.code, o.errout)
		}
		if left := files(t, dir); len(left) != 2 || left["converted"] == "" { // itself, and one directory
			t.Errorf("%s: left behind: %q", size, left)
		}
	}
}
