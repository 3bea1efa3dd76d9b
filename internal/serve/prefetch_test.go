package serve

import (
	"context"
	"log/slog"
	"slices"
	"testing"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/storage"
)

// listless is an image that asks for no files.
type listless struct{ image.Tree }

func (listless) Prefetch() []uint64 { return nil }
func (listless) Root() uint64       { return 1 }

// asked notes what it is told to fetch.
type asked struct{ chunks []uint32 }

func (a *asked) Prefetch(_ context.Context, ext []storage.Extent) error {
	for _, e := range ext {
		a.chunks = append(a.chunks, e.Chunk.Index)
	}
	return nil
}

func (a *asked) PrefetchSoon(ctx context.Context, ext []storage.Extent) error {
	return a.Prefetch(ctx, ext)
}

func TestWhatTheIndexListsIsFetchedInOrder(t *testing.T) {
	blob := &storage.Blob{ID: "layer"}
	var ahead []storage.Extent
	var want []uint32
	for k := range uint32(3 * batch) {
		want = append(want, 7919*k%(3*batch))
		ahead = append(ahead, storage.Extent{Length: 1, Chunk: storage.Chunk{Blob: blob, Index: want[k]}})
	}
	for _, mode := range []string{"image", "none"} {
		to := &asked{}
		p := newPrefetcher(listless{}, to, mode, nil, ahead, slog.New(slog.DiscardHandler))
		p.start()
		if p.done != nil {
			<-p.done
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		named := p.names(&storage.Chunk{Blob: blob, Index: 5})
		if mode == "none" {
			if len(to.chunks) > 0 || p.state() != "off" || named {
				t.Errorf("none: fetched %d chunks, %s", len(to.chunks), p.state())
			}
			continue
		}
		if !slices.Equal(to.chunks, want) || p.state() != "done" || !named || p.names(&storage.Chunk{Blob: new(storage.Blob), Index: 5}) {
			t.Errorf("image: fetched %d chunks, in order: %v; %s", len(to.chunks), slices.Equal(to.chunks, want), p.state())
		}
	}
}
