// Package profile has the record of what a command reads of an image, in
// order: "sluice record" writes it, a mount fetches by it ahead of the reads,
// and "sluice image optimize" lays an image out by it.
//
// Files are named by path, not by inode number, so that a profile still fits
// when the image is built anew.
package profile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/internal/sys"
	"github.com/sluicefs/sluice/storage"
)

// Version is the version of the file form that this package writes.
const Version = 1

// Profile is what was read, each range once, in the order of first reads.
type Profile struct {
	Version int      `json:"version"`
	Image   string   `json:"image,omitempty"`   // source, for people
	Digest  string   `json:"digest,omitempty"`  // of the image's manifest
	Command []string `json:"command,omitempty"` // that was run
	Reads   []Read   `json:"reads"`
}

// Read is one range of one file.
type Read struct {
	Path   string `json:"path"` // from the root of the image, "/usr/bin/x"
	Offset int64  `json:"offset"`
	Length int64  `json:"length"` // 0 means to the end of the file
}

// Limits of what Parse accepts.
const (
	MaxSize  = 256 << 20
	MaxReads = 1 << 22
)

// Parse decodes and checks a profile.
func Parse(b []byte) (*Profile, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("profile: more than %d bytes", MaxSize)
	}
	var p Profile
	dec := json.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(&p); err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	switch {
	case p.Version != Version:
		return nil, fmt.Errorf("profile: version %d is not supported: %d is", p.Version, Version)
	case len(p.Reads) > MaxReads:
		return nil, fmt.Errorf("profile: more than %d reads", MaxReads)
	}
	for i, r := range p.Reads {
		if !strings.HasPrefix(r.Path, "/") || r.Offset < 0 || r.Length < 0 || r.Offset+r.Length < r.Offset {
			return nil, fmt.Errorf("profile: read %d: path %.80q, %d bytes at %d", i, r.Path, r.Length, r.Offset)
		}
	}
	return &p, nil
}

// Load reads a profile from a file.
func Load(path string) (*Profile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, err
	}
	p, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// Save writes the profile to a file, which is there as a whole or not at all;
// a pipe or a device is written as it is.
func (p *Profile) Save(path string) error {
	b, err := json.MarshalIndent(p, "", " ")
	if err != nil {
		return err
	}
	b = append(b, '\n')
	final, through, err := sys.Output(path)
	if err != nil {
		return err
	}
	if through != nil {
		_, err := through.Write(b)
		return errors.Join(err, through.Close())
	}
	f, err := os.CreateTemp(filepath.Dir(final), ".profile-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err := errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), final)
}

// Resolve calls f with the extents of each read in turn, until f returns
// false. Reads of files that the image does not have are left out; missing
// is how many they were. The slice is used again for the next read.
func (p *Profile) Resolve(tree image.Tree, f func(r Read, ext []storage.Extent) bool) (missing int, err error) {
	var ext []storage.Extent
	var in image.Inode
	for _, r := range p.Reads {
		nid, err := image.Find(tree, r.Path)
		if err == nil {
			err = tree.Stat(nid, &in)
		}
		if err != nil || in.Mode&image.TypeMask != image.TypeRegular {
			missing++
			continue
		}
		n := r.Length
		if n == 0 {
			n = int64(in.Size) - r.Offset
		}
		if n <= 0 || r.Offset >= int64(in.Size) {
			continue
		}
		ext, err = tree.Extents(ext[:0], nid, r.Offset, n)
		if err != nil {
			return missing, fmt.Errorf("profile: %s: %w", r.Path, err)
		}
		if len(ext) > 0 && !f(r, ext) {
			break
		}
	}
	return missing, nil
}
