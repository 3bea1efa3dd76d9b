package registry

import (
	"bytes"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func TestPushThenReadRange(t *testing.T) {
	s, err := Start(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	data := bytes.Repeat([]byte("0123456789"), 1000)
	layer := static.NewLayer(data, types.OCILayer)
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(s.Addr + "/test/img:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img, remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
	digest, err := layer.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if got := get(t, s, digest, "bytes=995-1009"); string(got) != "567890123456789" {
		t.Errorf("range: got %q", got)
	}
	if got := get(t, s, digest, ""); !bytes.Equal(got, data) {
		t.Errorf("whole blob: %d bytes, want %d", len(got), len(data))
	}
	// The last answer is counted after the client has it.
	for deadline := time.Now().Add(30 * time.Second); s.Bytes.Load() < int64(len(data)) && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if s.Requests.Load() == 0 || s.Bytes.Load() < int64(len(data)) {
		t.Errorf("counts: %d requests, %d bytes", s.Requests.Load(), s.Bytes.Load())
	}
}

func get(t *testing.T, s *Server, digest v1.Hash, rng string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr+"/v2/test/img/blobs/"+digest.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if rng != "" {
		req.Header.Set("Range", rng)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
