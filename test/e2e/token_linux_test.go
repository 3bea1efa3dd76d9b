package e2e

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluicefs/sluice/internal/testenv"
	"github.com/sluicefs/sluice/storage"
)

// What the token server knows its users by, and how long its tokens live.
const (
	tokenUser     = "app"
	tokenPassword = "canary-password"
	identityToken = "canary-identity"
	tokenSeconds  = 2
)

// runTokenServer serves tokens for a registry by TLS, as the distribution
// project's "Token Authentication Specification" has it, and as OAuth 2. The
// certificate in dir is its own and signs the tokens; each that it gives adds
// a line to the file "tokens" there.
func runTokenServer(dir, addr string) error {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(dir, "tokens"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	server := http.Server{Addr: addr, TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}}}
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		how := "password"
		if r.Method == http.MethodPost {
			how, user, password = "identity", tokenUser, strings.Replace(r.FormValue("refresh_token"), identityToken, tokenPassword, 1)
		}
		if user != tokenUser || password != tokenPassword {
			http.Error(w, "who are you, "+user+" with "+password+"?", http.StatusUnauthorized)
			return
		}
		token, err := signToken(pair, r.FormValue("service"), r.FormValue("scope"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(log, how)
		_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": tokenSeconds})
	})
	return server.ListenAndServeTLS("", "")
}

// signToken makes a JSON web token (RFC 7519) that a registry takes for
// tokenSeconds.
func signToken(pair tls.Certificate, service, scope string) (string, error) {
	part := func(v any) string {
		b, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	kind, rest, _ := strings.Cut(scope, ":")
	repo, actions, _ := strings.Cut(rest, ":")
	const leeway = 60 // seconds for which the registry takes a token that has expired
	now := time.Now().Unix()
	text := part(map[string]any{"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(pair.Certificate[0])}}) + "." + part(map[string]any{
		"iss": "e2e", "sub": tokenUser, "aud": service, "iat": now, "nbf": now - leeway, "exp": now + 1 + tokenSeconds - leeway, "jti": rand.Text(),
		"access": []any{map[string]any{"type": kind, "name": repo, "actions": strings.Split(actions, ",")}},
	})
	digest := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, pair.PrivateKey.(*ecdsa.PrivateKey), digest[:])
	if err != nil {
		return "", err
	}
	var sig [64]byte
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return text + "." + base64.RawURLEncoding.EncodeToString(sig[:]), nil
}

// write writes a file below the bench's directory.
func (b *bench) write(name, text string, mode os.FileMode) (path string) {
	b.t.Helper()
	path = b.path(name)
	b.mkdir(filepath.Dir(name))
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// read returns what a file below the bench's directory has.
func (b *bench) read(name string) string {
	b.t.Helper()
	text, err := os.ReadFile(b.path(name))
	if err != nil {
		b.t.Fatal(err)
	}
	return string(text)
}

// The registry of the distribution project by TLS with a certificate of its
// own, behind a mirror's name, with tokens that live for two seconds from a
// server which is a process of its own, for a user whom a credential helper
// knows; and at the same time another registry with another password.
func TestIntegrationTokenServer(t *testing.T) {
	testenv.Long(t)
	b := mountBench(t)
	b.env = append(b.env, "PATH="+b.mkdir("bin")+":"+os.Getenv("PATH"), "DOCKER_CONFIG="+b.mkdir("docker"))
	src, mnt := b.source(), b.mkdir("mnt")
	boot, blob := b.image(src, "img", storage.None)
	b.push(b.distribution(""), boot, blob)

	cert, key := testenv.Certificate(t, b.mkdir("token"), "tls")
	tokens := b.server("token:" + b.path("token"))
	accesses, err := os.Create(b.path("access.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer accesses.Close()
	addr := b.startDistribution(fmt.Sprintf("  tls: {certificate: %s, key: %s}\n", cert, key),
		fmt.Sprintf("auth:\n  token: {realm: %q, service: e2e, issuer: e2e, rootcertbundle: %s}\n", "https://"+tokens+"/token", cert), accesses)
	b.listens("the registry", addr)
	locked := b.distribution(htpasswd)

	b.write("certs.d/registry.invalid/hosts.toml", fmt.Sprintf("server = \"https://registry.invalid\"\n[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n  ca = %q\n", "https://"+addr, cert), 0o600)
	b.write("docker/config.json", fmt.Sprintf(`{"credHelpers":{%q:"e2e"},"auths":{%q:{"auth":"YXBwOmh1bnRlcjI="}}}`, addr, locked), 0o600)
	helper := func(user, secret string) {
		b.write("bin/docker-credential-e2e", fmt.Sprintf("#!/bin/sh\nread server\ncase \"$1 $server\" in\n\"get %s\") echo '{\"ServerURL\":\"'$server'\",\"Username\":\"%s\",\"Secret\":\"%s\"}';;\n*) echo no such server; exit 1;;\nesac\n", addr, user, secret), 0o755)
	}
	ref := "docker://registry.invalid/test/image:latest"
	args := []string{"--certs-dir", b.path("certs.d"), "--retry=5s", "--on-outage=error", "--prefetch=none"}
	given := func() string { return b.read("token/tokens") } // how tokens were asked for

	helper(tokenUser, tokenPassword)
	other := b.mkdir("other")
	b.ok("mount", "-d", "--cache-dir", b.path("cache-other"), "docker://"+locked+"/test/image:latest", other)
	// Slow enough that several tokens expire.
	cmd, said := b.foreground(append(args, "--rate=512K", ref, mnt)...)
	b.compare(src, mnt)
	b.compare(src, other)
	refused := strings.Count(b.read("access.log"), `HTTP/1.1" 401`)
	if n := strings.Count(given(), "password"); refused == 0 || n <= refused || n < 3 {
		t.Errorf("%d tokens, of which the registry asked for %d: want some that were replaced before they expired", n, refused)
	}
	b.ok("umount", mnt, other)
	if err := cmd.Wait(); err != nil || strings.Contains(said.buf.String(), "canary") {
		t.Errorf("exit: %v\n%s", err, said.buf.String())
	}

	helper("<token>", identityToken)
	b.mountAndCompare(src, append(args, "--cache-dir", b.path("cache-2"), ref)...)
	if !strings.Contains(given(), "identity") {
		t.Errorf("tokens were asked for by %q, want one by identity", given())
	}

	helper(tokenUser, "canary-wrong")
	o := b.run(append([]string{"mount", "--cache-dir", b.path("cache-3")}, append(args, ref, mnt)...)...)
	if o.code != 1 || !strings.Contains(o.errout, "log in") || strings.Contains(o.errout, "canary") {
		t.Errorf("with a wrong password: exit code %d, said %q", o.code, o.errout)
	}
	b.write("bin/docker-credential-e2e", "#!/bin/sh\necho canary-helper; exit 3\n", 0o755)
	o = b.run(append([]string{"mount", "--cache-dir", b.path("cache-4")}, append(args, ref, mnt)...)...)
	if o.code != 1 || !strings.Contains(o.errout, "credentials") || strings.Contains(o.errout, "canary") {
		t.Errorf("with a helper that fails: exit code %d, said %q", o.code, o.errout)
	}
}
