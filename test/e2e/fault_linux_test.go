package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluicefs/sluice/internal/registry"
	"github.com/sluicefs/sluice/internal/testenv"
	"github.com/sluicefs/sluice/storage"
)

// trouble is a registry whose answers for one blob can be spoilt.
type trouble struct {
	mu    sync.Mutex
	fault fault // nil: all is well
	hits  int   // requests for the blob since the fault was set
}

// fault answers the n-th request, from 0 on, that comes while it is set; ok
// answers it as it should be.
type fault func(w http.ResponseWriter, r *http.Request, n int, ok http.Handler)

func (p *trouble) set(f fault) {
	p.mu.Lock()
	p.fault, p.hits = f, 0
	p.mu.Unlock()
}

func (p *trouble) wrap(blob string) func(http.Handler) http.Handler {
	return func(ok http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, blob) {
				ok.ServeHTTP(w, r)
				return
			}
			p.mu.Lock()
			f, n := p.fault, p.hits
			p.hits++
			p.mu.Unlock()
			if f == nil {
				ok.ServeHTTP(w, r)
				return
			}
			f(w, r, n, ok)
		})
	}
}

// status answers with an error.
func status(code int, header ...string) fault {
	return func(w http.ResponseWriter, _ *http.Request, _ int, _ http.Handler) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		http.Error(w, `{"errors":[{"code":"DENIED","message":"`+secret+`"}]}`, code)
	}
}

// once spoils the first answer only.
func once(f fault) fault { return times(1, f) }

// times spoils the first answers.
func times(spoilt int, f fault) fault {
	return func(w http.ResponseWriter, r *http.Request, n int, ok http.Handler) {
		if n >= spoilt {
			ok.ServeHTTP(w, r)
			return
		}
		f(w, r, n, ok)
	}
}

// body gives the right answer with another body.
func body(change func([]byte) []byte) fault {
	return func(w http.ResponseWriter, r *http.Request, _ int, ok http.Handler) {
		rec := httptest.NewRecorder()
		ok.ServeHTTP(rec, r)
		b := change(bytes.Clone(rec.Body.Bytes()))
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.Header().Del("Content-Length")
		w.WriteHeader(rec.Code)
		w.Write(b)
	}
}

func reset(w http.ResponseWriter, _ *http.Request, _ int, _ http.Handler) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		conn.Close()
	}
}

// cutShort promises all and sends half.
func cutShort(w http.ResponseWriter, r *http.Request, _ int, ok http.Handler) {
	rec := httptest.NewRecorder()
	ok.ServeHTTP(rec, r)
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Length", strconv.Itoa(rec.Body.Len()))
	w.WriteHeader(rec.Code)
	w.Write(rec.Body.Bytes()[:rec.Body.Len()/2])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// ignoreRange sends the whole blob with status 200.
func ignoreRange(w http.ResponseWriter, r *http.Request, _ int, ok http.Handler) {
	r.Header.Del("Range")
	ok.ServeHTTP(w, r)
}

// secret is in all that must not be repeated.
const secret = "hunter2"

// faultBench is a mount of a registry in trouble.
type faultBench struct {
	*bench
	*trouble
	mnt  string
	want map[string][]byte
	left []string // files that nobody has read
	log  *lineWriter
	cmd  *exec.Cmd
}

const faultFile = 100 << 10

func newFaultBench(t *testing.T, args ...string) *faultBench {
	b := mountBench(t)
	f := &faultBench{bench: b, trouble: new(trouble), mnt: b.mkdir("mnt"), want: map[string][]byte{}}
	src := b.mkdir("faults")
	random := rand.New(rand.NewPCG(3, 4))
	for i := range 60 {
		name, p := fmt.Sprintf("f%02d", i), make([]byte, faultFile)
		for k := range p {
			p[k] = byte(random.Uint32())
		}
		f.want[name] = p
		f.left = append(f.left, name)
		if err := os.WriteFile(filepath.Join(src, name), p, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	boot, blob := b.image(src, "img", storage.None)
	r := b.registry(registry.Options{Wrap: f.wrap(filepath.Base(blob))})
	ref := b.push(r.Addr, boot, blob)
	args = append(append([]string{"--prefetch=none", "--retry=2s"}, args...), ref, f.mnt)
	f.cmd, f.log = b.foreground(args...)
	return f
}

// next is a file that nobody has read, and that no reader in sequence would
// come to.
func (f *faultBench) next() string {
	f.t.Helper()
	if len(f.left) == 0 {
		f.t.Fatal("all files have been read")
	}
	name := f.left[len(f.left)-1]
	f.left = f.left[:len(f.left)-1]
	return name
}

// read reads a file in a process of its own.
func (f *faultBench) read(name string) ([]byte, error) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), watchdog)
	defer cancel()
	return exec.CommandContext(ctx, "cat", filepath.Join(f.mnt, name)).Output()
}

func (f *faultBench) good(name string) {
	f.t.Helper()
	if got, err := f.read(name); err != nil || !bytes.Equal(got, f.want[name]) {
		f.t.Errorf("%s: %d bytes, %v; want %d", name, len(got), err, len(f.want[name]))
	}
}

// fails reads a file, which must be an error and never wrong bytes.
func (f *faultBench) fails(name string) {
	f.t.Helper()
	got, err := f.read(name)
	if err == nil || !bytes.HasPrefix(f.want[name], got) {
		f.t.Errorf("%s: %d bytes, %v; want an error and nothing wrong", name, len(got), err)
	}
}

func (f *faultBench) resources() (fds, threads int) {
	f.t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", f.cmd.Process.Pid))
	if err != nil {
		f.t.Fatal(err)
	}
	list2, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", f.cmd.Process.Pid))
	if err != nil {
		f.t.Fatal(err)
	}
	return len(list), len(list2)
}

// Whatever a registry does, a read is right or an error, what is cached goes
// on, and all is well again by itself.
func TestIntegrationFaultsOfTheRegistry(t *testing.T) {
	testenv.Long(t)
	f := newFaultBench(t, "--on-outage=error")
	cached := f.next()
	f.good(cached)
	fdsBefore, threadsBefore := f.resources()
	flip := func(b []byte) []byte { b[len(b)/2] ^= 1; return b }
	for _, c := range []struct {
		name  string
		fault fault
		good  bool
	}{
		{"a reset", once(reset), true},
		{"nothing but resets", reset, false},
		{"status 401", status(401), false},
		{"status 401 with a token server that is away", status(401, "WWW-Authenticate", `Bearer realm="http://127.0.0.1:1/token"`), false},
		{"status 403", status(403), false},
		{"status 404", status(404), false},
		{"status 416", status(416), false},
		{"status 429 for a moment", once(status(429, "Retry-After", "0")), true},
		{"status 429 for an hour", status(429, "Retry-After", "3600"), false},
		{"one status 500", once(status(500)), true},
		{"status 500", status(500), false},
		{"status 503", status(503), false},
		{"a body that is cut short", once(cutShort), true},
		{"two bodies that are cut short, each further on", times(2, cutShort), true},
		{"a body that is too long", body(func(b []byte) []byte { return append(b, make([]byte, 1<<20)...) }), true},
		{"no body", body(func([]byte) []byte { return nil }), false},
		{"one wrong body", once(body(flip)), true},
		{"wrong bodies", body(flip), false},
		{"a server that knows no ranges", ignoreRange, true},
		{"a range that was not asked for", func(w http.ResponseWriter, r *http.Request, _ int, ok http.Handler) {
			r.Header.Set("Range", "bytes=0-102399")
			ok.ServeHTTP(w, r)
		}, false},
		{"redirects in a circle", func(w http.ResponseWriter, r *http.Request, _ int, _ http.Handler) {
			http.Redirect(w, r, r.URL.Path+"?X-Amz-Signature="+secret, http.StatusTemporaryRedirect)
		}, false},
		{"a redirect to a host that is not there", func(w http.ResponseWriter, r *http.Request, _ int, _ http.Handler) {
			http.Redirect(w, r, "http://127.0.0.1:1/x?sig="+secret, http.StatusTemporaryRedirect)
		}, false},
		{"a redirect to a name that is not known", func(w http.ResponseWriter, r *http.Request, _ int, _ http.Handler) {
			http.Redirect(w, r, "http://host.invalid/x?sig="+secret, http.StatusTemporaryRedirect)
		}, false},
		{"a redirect to another protocol", func(w http.ResponseWriter, r *http.Request, _ int, _ http.Handler) {
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusFound)
		}, false},
	} {
		name := f.next()
		f.set(c.fault)
		t.Run(c.name, func(t *testing.T) {
			if c.good {
				f.good(name)
			} else {
				f.fails(name)
			}
			f.good(cached)
			f.set(nil)
			f.good(name)
		})
	}
	f.until("descriptors and threads to be given back", func() bool {
		fds, threads := f.resources()
		return fds <= fdsBefore+16 && threads <= threadsBefore+24
	})
	s := f.ok("stats", "--json", f.mnt)
	f.ok("umount", f.mnt)
	if err := f.cmd.Wait(); err != nil {
		t.Error(err)
	}
	if said := f.log.buf.String(); strings.Contains(said+s, secret) || !strings.Contains(said, "blake3:") {
		t.Errorf("a secret was repeated, or a wrong body not named:\n%s\n%s", said, s)
	}
}

// With --on-outage=wait a read waits for as long as it takes, can be given
// up, and goes on when the registry is back.
func TestIntegrationReadsWaitForTheRegistry(t *testing.T) {
	f := newFaultBench(t, "--on-outage=wait")
	cached, waiting, given := f.next(), f.next(), f.next()
	f.good(cached)
	tries := make(chan struct{}, 1000)
	f.set(func(w http.ResponseWriter, r *http.Request, n int, ok http.Handler) {
		select {
		case tries <- struct{}{}:
		default:
		}
		reset(w, r, n, ok)
	})
	start := func(name string) (*exec.Cmd, *bytes.Buffer) {
		var out bytes.Buffer
		cmd := exec.Command("cat", filepath.Join(f.mnt, name))
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		return cmd, &out
	}
	ended := func(cmd *exec.Cmd) error {
		t.Helper()
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		select {
		case err := <-done:
			return err
		case <-time.After(watchdog):
			t.Fatal("the reader hangs")
			return nil
		}
	}
	patient, got := start(waiting)
	hasty, _ := start(given)
	for range 6 { // both are well under way
		<-tries
	}
	if err := hasty.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := ended(hasty); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGINT {
		t.Errorf("an interrupted reader: %v", err)
	}
	f.good(cached)
	f.set(nil)
	if err := ended(patient); err != nil || !bytes.Equal(got.Bytes(), f.want[waiting]) {
		t.Errorf("the one that waited: %d bytes, %v", got.Len(), err)
	}
	f.good(given)
	f.ok("umount", f.mnt)
	if err := f.cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// A server that lets bytes drip is given up, not waited for.
func TestIntegrationSlowTrickle(t *testing.T) {
	f := newFaultBench(t, "--on-outage=error", "--timeout=2s", "--retry=1m")
	end := make(chan struct{})
	f.set(once(func(w http.ResponseWriter, r *http.Request, _ int, ok http.Handler) {
		rec := httptest.NewRecorder()
		ok.ServeHTTP(rec, r)
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		for _, c := range rec.Body.Bytes() {
			if _, err := w.Write([]byte{c}); err != nil {
				break
			}
			_ = http.NewResponseController(w).Flush()
			select {
			case <-time.After(50 * time.Millisecond):
			case <-r.Context().Done():
				return
			case <-end:
				return
			}
		}
	}))
	defer close(end)
	f.good(f.next())
	f.ok("umount", f.mnt)
	_ = f.cmd.Wait()
}
