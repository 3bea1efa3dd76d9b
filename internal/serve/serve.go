// Package serve keeps a mount going: it attaches a file system, registers it
// with package mounts, answers questions about it on a socket ([Client] asks
// them), and ends it cleanly when told to, from outside or by a signal.
//
// A [Mount] is one such mount. [NewImage] joins an image, its store and the
// kernel; other file systems are mounted as they are.
package serve

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/mounts"
)

// Options of a mount.
type Options struct {
	Mountpoint string // an existing directory
	Source     string // as the user gave it
	Type       string // "image", "dir", …
	Dir        string // of the running mounts, see mounts.Dir; "" registers nowhere
	Log        string // path of the log, for those who look for it
	Fuse       fuse.MountOptions
	Logger     *log.Logger
	// Inspect, if not nil, adds what it knows to an answer.
	Inspect Inspector
}

// Inspector answers questions about what is mounted.
type Inspector interface {
	// Stats fills in what it knows.
	Stats(s *Stats)
	// Why says what is known of the file at path, which is relative to the
	// root of the mount.
	Why(ctx context.Context, path string) (*Why, error)
}

// Mount is a file system that is mounted and served.
type Mount struct {
	opts    Options
	server  *fuse.Server
	started time.Time
	reg     *mounts.Registration
	ctl     *control
	point   string // without links

	released sync.Once
}

// Start mounts fs and serves it. When it returns the mount is ready for use.
func Start(fs fuse.RawFileSystem, opts Options) (*Mount, error) {
	point, err := Mountpoint(opts.Mountpoint)
	if err != nil {
		return nil, err
	}
	m := &Mount{opts: opts, point: point, started: time.Now()}
	if m.opts.Logger == nil {
		m.opts.Logger = log.New(os.Stderr, "sluice: ", 0)
	}
	if opts.Dir != "" {
		m.reg, err = mounts.Register(opts.Dir, mounts.Entry{
			Mountpoint: point, Source: opts.Source, Type: opts.Type,
			PID: os.Getpid(), Started: m.started, Log: opts.Log,
		})
		if err != nil {
			return nil, err
		}
	}
	if err := m.attach(fs); err != nil {
		m.release()
		return nil, err
	}
	return m, nil
}

func (m *Mount) attach(fs fuse.RawFileSystem) error {
	o := m.opts.Fuse
	o.Logger = m.opts.Logger
	server, err := fuse.NewServer(fs, m.point, &o)
	if err != nil {
		return err // it names the mount point
	}
	m.server = server
	go server.Serve()
	if err := server.WaitMount(); err != nil {
		_ = server.Shutdown(ended())
		return fmt.Errorf("mount %s: %w", m.point, err)
	}
	if m.reg == nil {
		return nil
	}
	if err := m.reg.SetTransport(m.Transport()); err != nil {
		m.opts.Logger.Printf("list of mounts: %v", err)
	}
	if m.ctl, err = listen(m.reg.Entry().Socket, m); err != nil {
		_ = server.Shutdown(ended())
		return err
	}
	return nil
}

// ended is a context that has ended: no patience.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// Mountpoint returns the directory path in the form that the mount table has
// it, and takes a dead mount off it that a killed server has left there.
func Mountpoint(path string) (string, error) {
	if path == "" {
		return "", errors.New("mount point is empty")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return "", fmt.Errorf("mount point: %w", err)
	}
	point := filepath.Join(parent, filepath.Base(abs))
	if mounts.Dead(point) {
		if err := mounts.Detach(point, true); err != nil {
			return "", fmt.Errorf("mount point: dead mount: %w", err)
		}
	}
	if point, err = filepath.EvalSymlinks(abs); err != nil {
		return "", fmt.Errorf("mount point: %w", err)
	}
	fi, err := os.Stat(point)
	if err != nil {
		return "", fmt.Errorf("mount point: %w", err)
	}
	if !fi.IsDir() {
		return "", fmt.Errorf("mount point %s is not a directory", point)
	}
	return point, nil
}

// Point returns where the mount is, as an absolute path without links.
func (m *Mount) Point() string { return m.point }

// Server returns the server of the mount.
func (m *Mount) Server() *fuse.Server { return m.server }

// Transport returns the name of the channel that requests come by.
func (m *Mount) Transport() string { return transport(m.server) }

// Wait waits until the mount has ended, and cleans up after it.
func (m *Mount) Wait() {
	m.server.Wait()
	m.release()
}

// Unmount ends the mount. While something on it is open it returns an error
// for which errors.Is(err, mounts.ErrBusy) holds; with lazy it goes from sight
// at once, and Wait returns when the last file is closed.
func (m *Mount) Unmount(lazy bool) error {
	if lazy {
		return mounts.Detach(m.point, true)
	}
	if err := m.server.Unmount(); err != nil {
		return fmt.Errorf("unmount %s: %w", m.point, asBusy(err))
	}
	return nil
}

// End ends the mount, whatever is open on it, within a time that ctx bounds.
func (m *Mount) End(ctx context.Context) error {
	err := m.server.Shutdown(ctx)
	m.server.Wait()
	m.release()
	return err
}

// release gives back what is not the server's, at the first call; another
// waits for that.
func (m *Mount) release() {
	m.released.Do(func() {
		if m.ctl != nil {
			m.ctl.close()
		}
		if m.reg != nil {
			if err := m.reg.Close(); err != nil {
				m.opts.Logger.Printf("list of mounts: %v", err)
			}
		}
	})
}

var errNoInspector = errors.New("this mount is not of an image: there is nothing to fetch")
