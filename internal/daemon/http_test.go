package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
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
