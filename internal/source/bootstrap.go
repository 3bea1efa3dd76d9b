package source

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxBootstrap bounds what is unpacked: an image of ten million files has
// about 2 GiB of metadata.
const maxBootstrap = 4 << 30

// bootstrapNames are where a bootstrap layer has the bootstrap.
var bootstrapNames = []string{"image/image.boot", "image.boot"}

// bootstrapFile returns the path of the unpacked bootstrap of a layer in
// dir. A layer that has been unpacked before, with any image, is not opened
// again: the name is the layer's digest, which was checked then. One that was
// unpacked just now has another name, to be opened by, until keep is called:
// only what a loss of power cannot take away gets the digest's name, and who
// is waiting for the mount does not wait for the disk.
func bootstrapFile(dir string, layer v1.Descriptor, open func() (io.ReadCloser, error)) (path string, keep func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, err
	}
	final := filepath.Join(dir, layer.Digest.Hex+".boot")
	if _, err := os.Stat(final); err == nil {
		return final, nil, nil
	}
	rc, err := open()
	if err != nil {
		return "", nil, fmt.Errorf("fetch bootstrap: %w", err)
	}
	defer rc.Close()
	tmp, err := os.CreateTemp(dir, ".boot-*")
	if err != nil {
		return "", nil, err
	}
	if err := unpackBootstrap(tmp, rc, layer); err != nil {
		return "", nil, errors.Join(fmt.Errorf("bootstrap layer %s: %w", layer.Digest, err), tmp.Close(), os.Remove(tmp.Name()))
	}
	keep = func() error {
		err := errors.Join(tmp.Sync(), tmp.Close())
		if err == nil {
			err = os.Rename(tmp.Name(), final)
		}
		if err != nil {
			os.Remove(tmp.Name())
		}
		return err
	}
	return tmp.Name(), keep, nil
}

// unpackBootstrap writes the bootstrap in the layer r to w, and fails if the
// layer is not what its digest says.
func unpackBootstrap(w io.Writer, r io.Reader, layer v1.Descriptor) error {
	sum := sha256.New()
	limited := &io.LimitedReader{R: r, N: layer.Size + 1}
	all := bufio.NewReaderSize(io.TeeReader(limited, sum), 1<<16)
	if err := extractBootstrap(w, all); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, all); err != nil {
		return err
	}
	if n := layer.Size + 1 - limited.N; n != layer.Size {
		return fmt.Errorf("%d bytes, want %d", n, layer.Size)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != layer.Digest.Hex {
		return fmt.Errorf("digest is sha256:%s", got)
	}
	return nil
}

// extractBootstrap finds the bootstrap in a tar file, compressed or not.
func extractBootstrap(w io.Writer, r *bufio.Reader) error {
	plain, err := decompress(r)
	if err != nil {
		return err
	}
	defer plain.Close()
	tr := tar.NewReader(plain)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return errNoBootstrap
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg || !slices.Contains(bootstrapNames, cleanMember(h.Name)) {
			continue
		}
		if h.Size > maxBootstrap {
			return fmt.Errorf("bootstrap of %d bytes is too large", h.Size)
		}
		_, err = io.Copy(w, tr)
		return err
	}
}

// decompress undoes gzip or zstd, told by how r begins.
func decompress(r *bufio.Reader) (io.ReadCloser, error) {
	head, err := r.Peek(4)
	if err != nil {
		return nil, fmt.Errorf("too short: %w", err)
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return gzip.NewReader(r)
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(r, zstd.WithDecoderMaxMemory(256<<20), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(r), nil
}
