package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sluicefs/sluice/api"
	"github.com/sluicefs/sluice/image"
)

// route is one resource and method of the API. docs/openapi.yaml has the same
// list; a test compares them.
type route struct {
	method, path string
	handle       func(*server, *http.Request) (any, error)
}

// server answers the API of a daemon.
type server struct {
	d        *Daemon
	version  string
	revision string
	pprof    bool
}

// HandlerOptions of Handler.
type HandlerOptions struct {
	Version  string
	Revision string // of the source; nydus-snapshotter upgrades a daemon whose revision is not its binary's
	Pprof    bool   // serve /debug/pprof
}

// Handler returns the daemon's whole API.
func (d *Daemon) Handler(o HandlerOptions) http.Handler {
	s := &server{d: d, version: o.Version, revision: o.Revision, pprof: o.Pprof}
	mux := http.NewServeMux()
	for _, r := range routes() {
		mux.HandleFunc(r.method+" "+r.path, func(w http.ResponseWriter, req *http.Request) {
			req.Body = http.MaxBytesReader(w, req.Body, maxBody)
			v, err := r.handle(s, req)
			s.answer(w, req, v, err)
		})
	}
	mux.Handle("GET /metrics", d.metricsHandler())
	if o.Pprof {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) {
		s.answer(w, req, nil, &api.Error{Code: "NotFound", Message: "no such resource: " + req.Method + " " + req.URL.Path, Status: http.StatusNotFound})
	})
	return mux
}

// maxBody bounds what is read of a request.
const maxBody = 4 << 20

func routes() []route { return append(nydusRoutes(), ownRoutes()...) }

// answer writes v as JSON, nothing if it is nil, or err.
func (s *server) answer(w http.ResponseWriter, req *http.Request, v any, err error) {
	if err != nil {
		e := asError(err)
		s.d.log.Log(req.Context(), slog.LevelDebug, "refused", "method", req.Method, "path", req.URL.Path, "error", err)
		writeJSON(w, e.Status, e)
		return
	}
	if raw, ok := v.(rawJSON); ok {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(raw)
		return
	}
	if v == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	writeJSON(w, http.StatusOK, v)
}

// rawJSON is an answer that is JSON already.
type rawJSON []byte

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// asError says err in the words of the API.
func asError(err error) *api.Error {
	var e *api.Error
	if errors.As(err, &e) {
		return e
	}
	e = &api.Error{Code: "Internal", Message: err.Error(), Status: http.StatusInternalServerError}
	var state *StateError
	switch {
	case errors.As(err, &state):
		e.Code, e.Status = "WrongState", http.StatusConflict
	case errors.Is(err, ErrNotMounted):
		e.Code, e.Status = "NotFound", http.StatusNotFound
	case errors.Is(err, ErrMounted):
		e.Code, e.Status = "Exists", http.StatusConflict
	case errors.Is(err, errors.ErrUnsupported):
		e.Code, e.Status = "NotSupported", http.StatusNotImplemented
	case callersFault(err):
		e.Code, e.Status = "BadRequest", http.StatusBadRequest
	}
	if len(e.Message) > maxMessage {
		e.Message = strings.ToValidUTF8(e.Message[:maxMessage], "") + "…"
	}
	return e
}

// maxMessage bounds what an error says, as it repeats what the caller has sent.
const maxMessage = 1 << 10

// callersFault reports whether what was asked for can never be done: a source
// that is not there or no image, a configuration that is none.
func callersFault(err error) bool {
	var format *image.FormatError
	var config *configError
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENAMETOOLONG) || errors.Is(err, syscall.ENOTDIR) ||
		errors.As(err, &format) || errors.As(err, &config)
}

// cleanPath returns the mount point that p, with or without the slash before
// it, names. What has a ".." in it stays as it is: it is no mount point.
func cleanPath(p string) string {
	p = "/" + strings.TrimPrefix(p, "/")
	if slices.Contains(strings.Split(p, "/"), "..") {
		return p
	}
	return path.Clean(p)
}

// attach mounts what a caller asked for. A path that was left out is the root:
// there, what is mounted already would be surrounded by the files of another,
// so the root can be asked for only while nothing else is mounted. In a
// configuration, where all is in sight, it can be.
func (s *server) attach(r *http.Request, spec Spec) error {
	if spec.Path == "/" && s.d.at("/") == nil && len(s.d.list()) > 0 {
		return &api.Error{
			Code: "Exists", Status: http.StatusConflict,
			Message: "mount /: others are mounted below it: give a path, or unmount them first",
		}
	}
	return s.d.Attach(r.Context(), spec)
}

func badRequest(format string, args ...any) error {
	return &api.Error{Code: "BadRequest", Message: fmt.Sprintf(format, args...), Status: http.StatusBadRequest}
}

// body decodes the request's body.
func body(r *http.Request, v any) error {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return badRequest("body: %v", err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return badRequest("body: %v", err)
	}
	return nil
}

// Listener is the socket that the API is served on.
type Listener struct {
	net.Listener
	lock *os.File // nil if the socket was given
	path string
}

// API serves the handler on l until Close.
type API struct {
	http *http.Server
	done chan struct{}
}

// ServeAPI begins to serve h on l, to callers that allow permits.
func ServeAPI(l net.Listener, h http.Handler) *API {
	a := &API{
		http: &http.Server{Handler: h, ReadHeaderTimeout: time.Minute, MaxHeaderBytes: 1 << 16},
		done: make(chan struct{}),
	}
	go func() {
		defer close(a.done)
		_ = a.http.Serve(l)
	}()
	return a
}

// Close lets answers under way be given, for a short while.
func (a *API) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if a.http.Shutdown(ctx) != nil {
		_ = a.http.Close()
	}
	<-a.done
}
