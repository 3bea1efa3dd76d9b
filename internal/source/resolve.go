package source

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// files is an OCI layout, whatever holds it.
type files interface {
	// ReadFile returns a small file by its path in the layout.
	ReadFile(name string, limit int64) ([]byte, error)
	// Open returns a file for reading from its start.
	Open(name string) (io.ReadCloser, error)
}

// dirFiles is a layout in a directory.
type dirFiles string

func (d dirFiles) ReadFile(name string, limit int64) ([]byte, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s: more than %d bytes", name, limit)
	}
	return b, err
}

func (d dirFiles) Open(name string) (io.ReadCloser, error) {
	return os.Open(filepath.Join(string(d), filepath.FromSlash(name)))
}

// maxNesting is how deep indexes may lie in indexes.
const maxNesting = 4

// resolveLayout finds the image tagged tag in a layout.
func resolveLayout(ref Ref, fs files, platform v1.Platform) (*description, error) {
	digest, b, err := layoutManifest(ref, fs, platform)
	if err != nil {
		return nil, err
	}
	return describeBytes(digest, b, func(c v1.Descriptor) ([]byte, error) { return readVerified(fs, c) })
}

// layoutManifest returns the manifest of the image that ref means in a layout.
func layoutManifest(ref Ref, fs files, platform v1.Platform) (v1.Hash, []byte, error) {
	b, err := fs.ReadFile("index.json", maxManifest)
	if err != nil {
		return v1.Hash{}, nil, err
	}
	tag := ref.Tag
	for range maxNesting {
		var idx v1.IndexManifest
		if err := json.Unmarshal(b, &idx); err != nil {
			return v1.Hash{}, nil, fmt.Errorf("index: %w", err)
		}
		desc, err := choose(&idx, tag, platform)
		if err != nil {
			return v1.Hash{}, nil, err
		}
		b, err = readVerified(fs, desc)
		if err != nil || !desc.MediaType.IsIndex() {
			return desc.Digest, b, err
		}
		tag = ""
	}
	return v1.Hash{}, nil, fmt.Errorf("indexes are nested more than %d deep", maxNesting)
}

// readVerified reads a manifest or configuration blob and checks its digest.
func readVerified(fs files, d v1.Descriptor) ([]byte, error) {
	if d.Digest.Algorithm != "sha256" {
		return nil, fmt.Errorf("digest algorithm %s is not supported: sha256 is", d.Digest.Algorithm)
	}
	b, err := fs.ReadFile(blobPath(d.Digest.Hex), maxManifest)
	if err != nil {
		return nil, err
	}
	if got := sha256Hex(b); got != d.Digest.Hex {
		return nil, fmt.Errorf("blob %s: digest is sha256:%s", d.Digest, got)
	}
	return b, nil
}

// describeManifest parses a manifest, without the configuration that it names.
func describeManifest(digest v1.Hash, b []byte) (*description, error) {
	var m v1.Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return describe(digest, &m)
}

// describeBytes parses a manifest and the configuration that it names.
func describeBytes(digest v1.Hash, b []byte, read func(v1.Descriptor) ([]byte, error)) (*description, error) {
	d, err := describeManifest(digest, b)
	if err != nil {
		return nil, err
	}
	if c, err := read(d.manifest.Config); err == nil {
		d.config, err = parseConfig(c)
		return d, err
	}
	return d, nil // an artifact may have an empty configuration
}
