package source

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// withAhead gives the index of the registry's image a list for its layer,
// and the image another digest by that.
func withAhead(t *testing.T, p *sociRegistry, list string) {
	t.Helper()
	var manifest, index v1.Manifest
	if err := json.Unmarshal(p.image, &manifest); err != nil {
		t.Fatal(err)
	}
	h, err := v1.NewHash(manifest.Annotations[sociInImage])
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(p.layout, "blobs", "sha256", h.Hex))
	if err == nil {
		err = json.Unmarshal(b, &index)
	}
	if err != nil {
		t.Fatal(err)
	}
	l := putBlob(t, p.layout, []byte(list), sociAheadType)
	l.Annotations = map[string]string{sociLayer: manifest.Layers[0].Digest.String()}
	index.Layers = append(index.Layers, l)
	manifest.Annotations[sociInImage] = putJSON(t, p.layout, index, types.OCIManifestSchema1).Digest.String()
	putJSON(t, p.layout, manifest, types.OCIManifestSchema1)
	if p.image, err = json.Marshal(manifest); err != nil {
		t.Fatal(err)
	}
}

func TestSOCIListOfWhatToFetchAhead(t *testing.T) {
	for _, c := range []struct {
		name, list string
		want       []uint32 // spans
		said       string
	}{
		{name: "in order", list: `{"version":"1.0","prefetch_spans":[{"start_span":0,"end_span":1}]}`, want: []uint32{0, 1}},
		{name: "priority", list: `{"version":"1.0","prefetch_spans":[{"start_span":0,"end_span":0,"priority":2},{"start_span":1,"end_span":2,"priority":1}]}`, want: []uint32{1, 2, 0}},
		{name: "twice", list: `{"version":"1.0","prefetch_spans":[{"start_span":1,"end_span":1},{"start_span":0,"end_span":1}]}`, want: []uint32{1, 0}},
		{name: "beyond the end", list: `{"version":"1.0","prefetch_spans":[{"start_span":9223372036854775807,"end_span":9223372036854775807},{"start_span":1,"end_span":1}]}`, want: []uint32{1}},
		{name: "none", list: `{"version":"1.0","prefetch_spans":[]}`},
		{name: "negative", list: `{"version":"1.0","prefetch_spans":[{"start_span":-1,"end_span":1}]}`, said: "spans -1 to 1"},
		{name: "backwards", list: `{"version":"1.0","prefetch_spans":[{"start_span":2,"end_span":1}]}`, said: "spans 2 to 1"},
		{name: "version", list: `{"version":"2.0","prefetch_spans":[]}`, said: `version "2.0" is not supported`},
		{name: "too many", list: `{"version":"1.0","prefetch_spans":[` + strings.Repeat("{},", maxAheadRanges) + `{}]}`, said: "at most"},
		{name: "no JSON", list: `span 0`, said: "invalid character"},
		{name: "too large", list: strings.Repeat(" ", maxAhead+1), said: "of no use"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, _ := newSOCIRegistry(t, true)
			withAhead(t, p, c.list)
			ref, err := Parse("docker://"+serveHTTP(t, p)+"/app:latest", Auto)
			if err != nil {
				t.Fatal(err)
			}
			var said []string
			o := Options{CacheDir: t.TempDir(), CertsDirs: []string{}, Warn: func(f string, args ...any) { said = append(said, fmt.Sprintf(f, args...)) }}
			for range 2 { // the second time from what the first has kept
				i, err := OpenImage(t.Context(), ref, o)
				if err != nil {
					t.Fatal(err)
				}
				var got []uint32
				for _, e := range i.Ahead {
					got = append(got, e.Chunk.Index)
					if e.Length != int64(e.Chunk.UncompressedSize) || e.Chunk.Blob != i.Tree.Blobs()[0] {
						t.Errorf("span %d: %d bytes of %v", e.Chunk.Index, e.Length, e.Chunk.Blob)
					}
				}
				if !slices.Equal(got, c.want) || i.Whole {
					t.Errorf("fetched ahead: spans %v, want %v; whole %v", got, c.want, i.Whole)
				}
				if got := readThrough(t, i, "usr/small"); got != "small" {
					t.Errorf("usr/small: %q", got)
				}
				i.Close()
			}
			if all := strings.Join(said, "\n"); !strings.Contains(all, c.said) || c.said == "" && all != "" {
				t.Errorf("said %q, want %q", all, c.said)
			}
		})
	}
}

// The work that a list makes is bounded, whatever it says.
func TestSOCIListThatRepeatsItself(t *testing.T) {
	p, _ := newSOCIRegistry(t, true)
	withAhead(t, p, `{"version":"1.0","prefetch_spans":[`+strings.Repeat(`{"start_span":0,"end_span":9223372036854775807},`, maxAheadRanges-1)+`{"start_span":0,"end_span":0}]}`)
	ref, err := Parse("docker://"+serveHTTP(t, p)+"/app:latest", Auto)
	if err != nil {
		t.Fatal(err)
	}
	i, err := OpenImage(t.Context(), ref, Options{CacheDir: t.TempDir(), CertsDirs: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	if n := len(i.Ahead); n == 0 || n > int(i.Tree.Blobs()[0].ChunkCount) {
		t.Errorf("%d spans to fetch ahead of %d", n, i.Tree.Blobs()[0].ChunkCount)
	}
}

func FuzzParseAhead(f *testing.F) {
	for _, s := range []string{
		`{"version":"1.0","prefetch_spans":[{"start_span":10,"end_span":15},{"start_span":50,"end_span":55,"priority":1}]}`,
		`{"version":"1.0","prefetch_spans":[{"start_span":-1,"end_span":1e30}]}`, `{"version":"1.0"}`, `[]`, "",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := parseAhead(b)
		for k, s := range list {
			if err != nil || s.Start < 0 || s.End < s.Start || k > 0 && s.Priority < list[k-1].Priority {
				t.Fatalf("%v at %d of %v, error %v", s, k, list, err)
			}
		}
	})
}
