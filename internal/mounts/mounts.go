// Package mounts knows the mounts that run on this machine for this user: a
// directory holds one file per mount, locked by the process that serves it.
// Because the kernel gives the lock back when that process ends, however it
// ends, a file that can be locked is a leftover and is cleaned up with the
// dead mount that it names.
//
// Each file has a socket of the same name beside it, on which the process
// answers questions; package serve has the server and the client of it.
package mounts

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"
)

// Entry is one running mount.
type Entry struct {
	Mountpoint string    `json:"mountpoint"`
	Source     string    `json:"source"` // as the user gave it
	Type       string    `json:"type"`   // "image", "dir", "zip", …
	PID        int       `json:"pid"`
	Started    time.Time `json:"started"`
	Transport  string    `json:"transport"` // "device", "uring"
	Log        string    `json:"log,omitempty"`
	Socket     string    `json:"socket"`
}

// Dir returns the directory of the running mounts, which is made if it is
// not there: sluice below $XDG_RUNTIME_DIR, else /run/sluice for root, else
// one in the directory for temporary files. It has to belong to this user
// and be closed to others.
func Dir(getenv func(string) string) (string, error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("sluice-%d", os.Geteuid()))
	if d := getenv("XDG_RUNTIME_DIR"); d != "" {
		dir = filepath.Join(d, "sluice")
	} else if os.Geteuid() == 0 {
		dir = "/run/sluice"
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("directory of running mounts: %w", err)
	}
	if err := checkPrivate(dir); err != nil {
		return "", fmt.Errorf("directory of running mounts: %w", err)
	}
	return dir, nil
}

// Registration is the entry of a mount that this process serves.
type Registration struct {
	entry Entry
	path  string
	file  *os.File // holds the lock
}

// Entry returns what was registered.
func (r *Registration) Entry() Entry { return r.entry }

// ErrServed says that another process serves the mount point already.
var ErrServed = errors.New("is already mounted by sluice")

// Register adds e to dir and fills in its Socket. The entry goes with Close,
// or with this process.
func Register(dir string, e Entry) (*Registration, error) {
	base := filepath.Join(dir, name(e.Mountpoint))
	path := base + ".json"
	file, err := lockEntry(path)
	if errors.Is(err, ErrServed) {
		return nil, fmt.Errorf("%s %w", e.Mountpoint, err)
	}
	if err != nil {
		return nil, fmt.Errorf("register mount: %w", err)
	}
	e.Socket = base + ".sock"
	r := &Registration{entry: e, path: path, file: file}
	if err := r.write(); err != nil {
		r.Close()
		return nil, fmt.Errorf("register mount: %w", err)
	}
	return r, nil
}

// sweepPatience is how long Register waits for another process that has the
// lock of an entry because it is clearing it away.
const sweepPatience = 5 * time.Second

// lockEntry opens and locks the file of an entry.
func lockEntry(path string) (*os.File, error) {
	for deadline := time.Now().Add(sweepPatience); ; time.Sleep(5 * time.Millisecond) {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		free, err := tryLock(file)
		if err == nil && free && sameFile(file, path) {
			return file, nil
		}
		served := err == nil && !free && alive(file)
		file.Close()
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if served || time.Now().After(deadline) {
			return nil, ErrServed
		}
	}
}

// sameFile reports whether path still names the open file: who cleared it
// away between the opening and the lock has removed it.
func sameFile(file *os.File, path string) bool {
	open, err1 := file.Stat()
	named, err2 := os.Stat(path)
	return err1 == nil && err2 == nil && os.SameFile(open, named)
}

// alive reports whether file is the entry of a process that lives, and so
// is locked by it and not by somebody who clears it away.
func alive(file *os.File) bool {
	var e Entry
	if json.NewDecoder(file).Decode(&e) != nil || e.PID <= 0 {
		return false
	}
	p, err := os.FindProcess(e.PID)
	if err != nil {
		return false
	}
	err = p.Signal(syscall.Signal(0))
	return err == nil || errors.Is(err, os.ErrPermission)
}

func (r *Registration) write() error {
	b, err := json.Marshal(r.entry)
	if err != nil {
		return err
	}
	if err := r.file.Truncate(0); err != nil {
		return err
	}
	_, err = r.file.WriteAt(append(b, '\n'), 0)
	return err
}

// SetTransport records what the mount turned out to use.
func (r *Registration) SetTransport(transport string) error {
	r.entry.Transport = transport
	return r.write()
}

// Close takes the entry away.
func (r *Registration) Close() error {
	return errors.Join(ignoreMissing(os.Remove(r.entry.Socket)), ignoreMissing(os.Remove(r.path)), r.file.Close())
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// name is the file name for a mount point: it may be longer than a name can
// be, and the path of the socket may not exceed 108 bytes.
func name(mountpoint string) string {
	sum := sha256.Sum256([]byte(mountpoint))
	return hex.EncodeToString(sum[:8])
}

// List returns the running mounts of dir by mount point. What it finds dead
// it cleans up: the entry, the socket, and the mount if it is still there
// and answers to nobody.
func List(dir string) ([]Entry, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	var out []Entry
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".json") {
			continue
		}
		if e, ok := read(filepath.Join(dir, f.Name())); ok {
			out = append(out, e)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Mountpoint < out[j].Mountpoint })
	return out, nil
}

// Find returns the running mount that is at mountpoint, or that the path
// mountpoint lies in. Paths are compared as they are: give absolute ones.
func Find(dir, mountpoint string) (Entry, bool, error) {
	all, err := List(dir)
	if err != nil {
		return Entry{}, false, err
	}
	var best Entry
	for _, e := range all {
		if Within(mountpoint, e.Mountpoint) && len(e.Mountpoint) > len(best.Mountpoint) {
			best = e
		}
	}
	return best, best.Mountpoint != "", nil
}

// Within reports whether path is dir or lies below it.
func Within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// read returns the entry in the file path if its process lives; else it
// cleans up.
func read(path string) (Entry, bool) {
	file, err := os.Open(path)
	if err != nil {
		return Entry{}, false
	}
	defer file.Close()
	free, err := tryLock(file)
	if err != nil {
		return Entry{}, false
	}
	var e Entry
	decodeErr := json.NewDecoder(file).Decode(&e)
	if !free {
		return e, decodeErr == nil
	}
	if !sameFile(file, path) {
		return Entry{}, false // it has ended properly meanwhile; path may be another's by now
	}
	// The lock is held until the leftovers are gone, so a new mount at the
	// same place either comes before (and is not free) or after.
	if decodeErr == nil && e.Mountpoint != "" {
		cleanDead(e.Mountpoint)
	}
	os.Remove(strings.TrimSuffix(path, ".json") + ".sock")
	os.Remove(path)
	return Entry{}, false
}
