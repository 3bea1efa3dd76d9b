package source

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sluicefs/sluice/image/estargz"
	"github.com/sluicefs/sluice/storage"
)

// A SOCI index may have, for a layer with a zTOC, a list of spans to be
// fetched before they are read (docs/prefetch.md of soci-snapshotter).
const (
	sociAheadType    = "application/vnd.amazon.soci.prefetch.v1+json"
	sociAheadVersion = "1.0"
	maxAhead         = 1 << 20 // bytes of a list
	maxAheadRanges   = 1 << 14
	maxAheadSpans    = 1 << 16 // that all lists of an image name, repeated ones counted
)

// spanRange is a row of spans of a layer.
type spanRange struct {
	Start    int64 `json:"start_span"`
	End      int64 `json:"end_span"` // the last one
	Priority int64 `json:"priority"` // lower is sooner
}

// parseAhead decodes a list and puts it in the order of fetching.
func parseAhead(b []byte) ([]spanRange, error) {
	var list struct {
		Version string      `json:"version"`
		Spans   []spanRange `json:"prefetch_spans"`
	}
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, err
	}
	if list.Version != sociAheadVersion {
		return nil, fmt.Errorf("version %.20q is not supported: %s is", list.Version, sociAheadVersion)
	}
	if len(list.Spans) > maxAheadRanges {
		return nil, fmt.Errorf("%d ranges: at most %d are supported", len(list.Spans), maxAheadRanges)
	}
	for _, s := range list.Spans {
		if s.Start < 0 || s.End < s.Start {
			return nil, fmt.Errorf("spans %d to %d", s.Start, s.End)
		}
	}
	slices.SortStableFunc(list.Spans, func(a, b spanRange) int { return cmp.Compare(a.Priority, b.Priority) })
	return list.Spans, nil
}

// aheadLists are the lists that an index has, by the layers that they are of.
func aheadLists(index []byte) map[v1.Hash]v1.Descriptor {
	var m v1.Manifest
	all := map[v1.Hash]v1.Descriptor{}
	if json.Unmarshal(index, &m) != nil {
		return all
	}
	for _, l := range m.Layers {
		if h, err := v1.NewHash(l.Annotations[sociLayer]); err == nil && string(l.MediaType) == sociAheadType {
			all[h] = l
		}
	}
	return all
}

func aheadPath(dir string, l v1.Descriptor) string { return filepath.Join(dir, l.Digest.Hex+".ahead") }

// fetchAheadLists brings the lists into dir. The image can do without them.
func (i *Image) fetchAheadLists(ctx context.Context, r *repository, index []byte, dir string, o *Options) {
	for layer, l := range aheadLists(index) {
		b, err := r.small(ctx, l, maxAhead)
		if err == nil {
			_, err = parseAhead(b)
		}
		if err == nil {
			err = writeAtomic(aheadPath(dir, l), b)
		}
		if err != nil {
			o.warn("%s: the list of what to fetch ahead of layer %s is of no use: %v", i.Ref, layer, err)
		}
	}
}

// ahead returns what the lists in dir name, in the order of their priority.
func ahead(index []byte, d *description, blobs []*storage.Blob, tables map[v1.Hash][]byte, dir string) ([]storage.Extent, error) {
	type row struct {
		spanRange
		blob *storage.Blob
	}
	lists := aheadLists(index)
	var rows []row
	for _, l := range d.manifest.Layers {
		list, ok := lists[l.Digest]
		ztoc, indexed := tables[l.Digest]
		if !ok || !indexed {
			continue
		}
		b, err := os.ReadFile(aheadPath(dir, list))
		if errors.Is(err, os.ErrNotExist) {
			continue // it was of no use
		}
		if err == nil && sha256Hex(b) != list.Digest.Hex {
			err = fmt.Errorf("%s: does not have its digest", aheadPath(dir, list))
		}
		if err != nil {
			return nil, err
		}
		ranges, err := parseAhead(b)
		if err != nil {
			return nil, err
		}
		id := estargz.SOCIBlob(l.Digest.Hex, ztoc)
		k := slices.IndexFunc(blobs, func(b *storage.Blob) bool { return b.ID == id })
		if k < 0 || blobs[k].Neighbour == nil {
			continue
		}
		for _, s := range ranges {
			rows = append(rows, row{s, blobs[k]})
		}
	}
	slices.SortStableFunc(rows, func(a, b row) int { return cmp.Compare(a.Priority, b.Priority) })
	type place struct {
		blob *storage.Blob
		span int64
	}
	seen := map[place]bool{}
	var ext []storage.Extent
	left := maxAheadSpans
	for _, r := range rows {
		for span := r.Start; span <= r.End && span < int64(r.blob.ChunkCount) && left > 0; span++ {
			left--
			c, ok := r.blob.Neighbour(uint32(span))
			if p := (place{r.blob, span}); ok && !seen[p] && c.UncompressedSize > 0 {
				seen[p] = true
				ext = append(ext, storage.Extent{Length: int64(c.UncompressedSize), Chunk: c})
			}
		}
	}
	return ext, nil
}
