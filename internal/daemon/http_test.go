package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/sluicefs/sluice/image"
)

func TestAPIRefusesWhatIsNoMountPoint(t *testing.T) {
	d := New(Options{Mountpoint: t.TempDir(), CacheDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	h := d.Handler(HandlerOptions{})
	for _, c := range []struct{ method, target, body string }{
		{"PUT", "/v1/mounts/%2e%2e/x", `{"source":"/etc"}`},
		{"PUT", "/v1/mounts/a/%2e%2e/%2e%2e/x", `{"source":"/etc"}`},
		{"POST", "/api/v1/mount?mountpoint=/../x", `{"source":"/etc","fs_type":"passthrough_fs","config":""}`},
		{"POST", "/api/v1/mount?mountpoint=/x", `{"source":"/etc","fs_type":"passthrough_fs","config":""`},
		{"PUT", "/v1/mounts/x", strings.Repeat("a", 1<<20)},
		{"PUT", "/v1/mounts/x", strings.Repeat("a", 64<<20)},
		{"PUT", "/v1/mounts/x", `{"source":""}`},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(c.method, c.target, strings.NewReader(c.body)))
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), `"BadRequest"`) {
			t.Errorf("%s %s: got %d and %q, want 400", c.method, c.target, w.Code, w.Body)
		}
	}
	if all := d.list(); len(all) != 0 {
		t.Errorf("mounted: %d", len(all))
	}
}

// A path that was left out must not put an image around all others.
func TestAPIRefusesTheRootAmongOthers(t *testing.T) {
	d := New(Options{Mountpoint: t.TempDir(), CacheDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	d.instances["/x"] = &instance{spec: Spec{Path: "/x"}}
	h := d.Handler(HandlerOptions{})
	for _, c := range []struct{ method, target, body string }{
		{"PUT", "/v1/mounts/", `{"source":"/nonexistent"}`},
		{"PUT", "/v1/mounts/%2f", `{"source":"/nonexistent"}`},
		{"POST", "/api/v1/mount?mountpoint=/", `{"source":"/nonexistent","fs_type":"rafs","config":"{}"}`},
	} {
		for _, others := range []bool{true, false} {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(c.method, c.target, strings.NewReader(c.body)))
			if refused := w.Code == http.StatusConflict && strings.Contains(w.Body.String(), "others are mounted"); refused != others {
				t.Errorf("%s %s, others %v: got %d and %q", c.method, c.target, others, w.Code, w.Body)
			}
			delete(d.instances, "/x")
		}
		d.instances["/x"] = &instance{spec: Spec{Path: "/x"}}
	}
}

// Lines that nobody can take are counted, shown, and hold nothing up.
func TestLogLinesLost(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r.Close()
	events := NewEvents(slog.NewTextHandler(w, nil))
	log := slog.New(events)
	d := New(Options{Mountpoint: t.TempDir(), CacheDir: t.TempDir(), Log: log, Events: events})
	for range 3 {
		log.Info("to a reader that is gone")
	}
	log.With("a", 1).Error("the same")
	log.Debug("below the level")
	h := d.Handler(HandlerOptions{})
	for target, want := range map[string]string{
		"/v1/daemon": `"log_lost":4`, "/metrics": "sluice_log_lines_lost_total 4",
		"/api/v1/daemon/events": `"total_errors":1`,
	} {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest("GET", target, nil))
		if rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), want) {
			t.Errorf("GET %s: got %d and %q, want %q in it", target, rec.Code, rec.Body, want)
		}
	}
}

func TestErrorsInWordsOfTheAPI(t *testing.T) {
	_, config := parseNydusConfig([]byte("{bad"))
	for _, c := range []struct {
		err  error
		want int
	}{
		{config, http.StatusBadRequest},
		{fmt.Errorf("open x: %w", &image.FormatError{Format: "erofs", What: "magic"}), http.StatusBadRequest},
		{fmt.Errorf("open x: %w", fs.ErrNotExist), http.StatusBadRequest},
		{fmt.Errorf("open x: %w", syscall.ENAMETOOLONG), http.StatusBadRequest},
		{fmt.Errorf("unmount x: %w", ErrNotMounted), http.StatusNotFound},
		{fmt.Errorf("mount x: %w", ErrMounted), http.StatusConflict},
		{errors.New("the disk is on fire"), http.StatusInternalServerError},
	} {
		if e := asError(c.err); e.Status != c.want || e.Message != c.err.Error() {
			t.Errorf("%v: got %d and %q, want %d", c.err, e.Status, e.Message, c.want)
		}
	}
	if e := asError(errors.New(strings.Repeat("ü", 1<<20))); len(e.Message) > maxMessage+10 {
		t.Errorf("a message of %d bytes", len(e.Message))
	}
}
