package source

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sluicefs/sluice/image/imagetest"
)

func serveHTTP(t *testing.T, h http.Handler) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

// memory is a backend of one blob.
type memory struct {
	b    []byte
	fail func(off int64) error
}

func (m *memory) ReadAt(_ context.Context, _ string, p []byte, off int64) error {
	if m.fail != nil {
		if err := m.fail(off); err != nil {
			return err
		}
	}
	copy(p, m.b[off:])
	return nil
}

func (m *memory) Size(context.Context, string) (int64, error) { return int64(len(m.b)), nil }

func blobOf(t *testing.T, b []byte) v1.Descriptor {
	t.Helper()
	h, err := v1.NewHash(imagetest.Digest(b))
	if err != nil {
		t.Fatal(err)
	}
	return v1.Descriptor{Digest: h, Size: int64(len(b))}
}

func TestStreamReadsAllInOrder(t *testing.T) {
	for _, size := range []int{0, 1, streamFirst, streamFirst + 1, streamPart, 17*streamPart + 5} {
		b := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
		for k := range b {
			b[k] ^= byte(k >> 16)
		}
		s, err := newStream(t.Context(), &memory{b: b}, blobOf(t, b))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(iotest.HalfReader(s))
		if err != nil || !bytes.Equal(got, b) {
			t.Errorf("%d bytes: got %d, %v", size, len(got), err)
		}
		s.Close()
	}
}

func TestStreamFails(t *testing.T) {
	b := make([]byte, 3*streamPart)
	broken := errors.New("broken")
	s, err := newStream(t.Context(), &memory{b, func(off int64) error {
		if off > 0 {
			return broken
		}
		return nil
	}}, blobOf(t, b))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, s); n != streamFirst || !errors.Is(err, broken) {
		t.Errorf("broken in the second part: %d bytes, %v", n, err)
	}
	s.Close()

	d := blobOf(t, []byte("else"))
	d.Size = int64(len(b))
	if s, err = newStream(t.Context(), &memory{b: b}, d); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, s); err == nil || !strings.Contains(err.Error(), "digest is sha256:") {
		t.Errorf("of another digest: %v", err)
	}
	s.Close()

	ctx, cancel := context.WithCancel(t.Context())
	if s, err = newStream(ctx, &memory{b: b}, blobOf(t, b)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.Copy(io.Discard, s); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("ended by its context: %v", err)
	}
	s.Close()
}
