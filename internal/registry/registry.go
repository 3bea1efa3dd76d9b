// Package registry is an OCI registry in this process, for the demonstration,
// for tests and for benchmarks. It is go-containerregistry's handler over a
// store of blobs that remembers sizes: the handler asks for the size before
// each range, and a store that hashes the blob to answer would read all of
// it every time.
package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Server is a running registry. Its fields may be read at any time.
type Server struct {
	Addr     string // "127.0.0.1:port"
	Requests atomic.Int64
	Bytes    atomic.Int64 // of bodies sent

	http *http.Server
	done chan struct{}
}

// Options of a registry; the zero value is the default.
type Options struct {
	Addr string // to listen on; "" is any free port of the loopback device
	// Wrap, if not nil, is put around the handler: faults, delays, counts.
	Wrap func(http.Handler) http.Handler
}

// Start serves the blobs in dir, which it fills as they are pushed, until
// Close. Manifests are held in memory.
func Start(dir string, opts Options) (*Server, error) {
	addr := opts.Addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("start registry: %w", err)
	}
	s := &Server{Addr: l.Addr().String(), done: make(chan struct{})}
	quiet := log.New(io.Discard, "", 0)
	var h http.Handler = registry.New(registry.Logger(quiet), registry.WithBlobHandler(&blobs{dir: dir}))
	if opts.Wrap != nil {
		h = opts.Wrap(h)
	}
	s.http = &http.Server{Handler: s.count(h), ErrorLog: quiet, ReadHeaderTimeout: time.Minute}
	go func() {
		defer close(s.done)
		_ = s.http.Serve(l)
	}()
	return s, nil
}

// Close stops the registry, its connections included.
func (s *Server) Close() error {
	err := s.http.Close()
	<-s.done
	return err
}

func (s *Server) count(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.Requests.Add(1)
		h.ServeHTTP(&countingWriter{w, &s.Bytes}, r)
	})
}

type countingWriter struct {
	http.ResponseWriter
	n *atomic.Int64
}

// Unwrap lets http.ResponseController through.
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.n.Add(int64(n))
	return n, err
}

// blobs stores each blob in a file named by its digest.
type blobs struct {
	dir   string
	sizes sync.Map // v1.Hash -> int64
}

func (b *blobs) path(h v1.Hash) string { return filepath.Join(b.dir, h.Algorithm+"-"+h.Hex) }

func (b *blobs) Stat(_ context.Context, _ string, h v1.Hash) (int64, error) {
	if n, ok := b.sizes.Load(h); ok {
		return n.(int64), nil
	}
	fi, err := os.Stat(b.path(h))
	if errors.Is(err, os.ErrNotExist) {
		return 0, registry.ErrNotFound
	}
	if err != nil {
		return 0, err
	}
	b.sizes.Store(h, fi.Size())
	return fi.Size(), nil
}

func (b *blobs) Get(_ context.Context, _ string, h v1.Hash) (io.ReadCloser, error) {
	f, err := os.Open(b.path(h))
	if errors.Is(err, os.ErrNotExist) {
		return nil, registry.ErrNotFound
	}
	return f, err
}

// Put stores a blob; the handler's reader fails at the end if it is not what
// its digest says.
func (b *blobs) Put(_ context.Context, _ string, h v1.Hash, rc io.ReadCloser) error {
	defer rc.Close()
	f, err := os.CreateTemp(b.dir, "upload-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = io.Copy(f, rc)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), b.path(h))
}
