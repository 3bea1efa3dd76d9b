package estargz_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/direct"
	"github.com/sluicefs/sluice/image/estargz"
	"github.com/sluicefs/sluice/image/imagetest"
	"github.com/sluicefs/sluice/storage/codec"
)

// tabled returns a zstd:chunked layer of the bytes data with the table toc.
func tabled(t testing.TB, m memory, data []byte, toc []entry) estargz.Layer {
	t.Helper()
	b, err := json.Marshal(map[string]any{"version": 1, "entries": toc})
	if err != nil {
		t.Fatal(err)
	}
	stored := imagetest.Zstd(t, b)
	return store(m, append(bytes.Clone(data), stored...), map[string]string{
		"io.containers.zstd-chunked.manifest-position": fmt.Sprintf("%d:%d:%d:1", len(data), len(stored), len(b)),
		"io.containers.zstd-chunked.manifest-checksum": imagetest.Digest(stored),
	})
}

// read returns the contents of the file a of a layer.
func read(t testing.TB, m memory, l estargz.Layer) ([]byte, error) {
	t.Helper()
	tree, err := estargz.Open(t.Context(), m, []estargz.Layer{l})
	if err != nil {
		return nil, err
	}
	nid, err := image.Find(tree, "/a")
	if err != nil {
		t.Fatal(err)
	}
	var in image.Inode
	if err := tree.Stat(nid, &in); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	err = direct.NewReader(m).Copy(t.Context(), &b, tree, nid, int64(in.Size))
	return b.Bytes(), err
}

func TestFramesWithoutAnEnd(t *testing.T) {
	data := bytes.Repeat(noise(2500), 2) // so that it compresses
	frame := imagetest.Zstd(t, append(bytes.Clone(data), make([]byte, 512)...))
	exact := imagetest.Zstd(t, data)
	at := len(imagetest.Zstd(t, make([]byte, 512)))
	before := imagetest.Zstd(t, make([]byte, 512))
	layer := func(frames ...[]byte) []byte { return bytes.Join(append([][]byte{before}, frames...), nil) }
	a := func(more entry) entry {
		e := entry{"name": "a", "type": "reg", "mode": 0o644, "size": len(data), "offset": at, "chunkDigest": imagetest.Digest(data)}
		for k, v := range more {
			e[k] = v
		}
		return e
	}
	for name, tt := range map[string]struct {
		data []byte
		toc  []entry
	}{
		"header behind":             {layer(frame), []entry{a(nil)}},
		"frame behind":              {layer(exact, before), []entry{a(nil)}},
		"no frame behind":           {layer(exact), []entry{a(nil)}},
		"skippable frame cut off":   {layer(exact, []byte{0x50, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0, 0}), []entry{a(nil)}},
		"as many bytes as contents": {layer(exact, make([]byte, len(data)-len(exact))), []entry{a(nil)}},
		"end said":                  {layer(exact, before), []entry{a(entry{"endOffset": at + len(exact)})}},
		"end of the file said": {layer(imagetest.Zstd(t, data[:2000]), imagetest.Zstd(t, data[2000:]), before), []entry{
			a(entry{"chunkSize": 2000, "chunkDigest": imagetest.Digest(data[:2000]),
				"endOffset": at + len(imagetest.Zstd(t, data[:2000])) + len(imagetest.Zstd(t, data[2000:]))}),
			{"name": "a", "type": "chunk", "offset": at + len(imagetest.Zstd(t, data[:2000])), "chunkOffset": 2000, "chunkDigest": imagetest.Digest(data[2000:])},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			m := memory{}
			got, err := read(t, m, tabled(t, m, tt.data, tt.toc))
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("got %d bytes, %v; want %d", len(got), err, len(data))
			}
		})
	}

	// What is refused with the table.
	for name, tt := range map[string]struct {
		toc  []entry
		want string
	}{
		"end before the place":   {[]entry{a(entry{"endOffset": at})}, "ends at"},
		"end is negative":        {[]entry{a(entry{"endOffset": -1})}, "ends at"},
		"end behind the table":   {[]entry{a(entry{"endOffset": 1 << 40})}, "ends at"},
		"place behind the table": {[]entry{a(entry{"offset": 1 << 40})}, "of the layer"},
		"place is negative":      {[]entry{a(entry{"offset": -5})}, "of the layer"},
		"inside of nothing":      {[]entry{a(entry{"innerOffset": int64(1<<63 - 100)})}, "inside of a member"},
		"inside before":          {[]entry{a(entry{"innerOffset": -1})}, "inside of a member"},
		"inside too far":         {[]entry{a(entry{"innerOffset": codec.MaxSize - 100})}, "inside of a member"},
		"no digest":              {[]entry{a(entry{"chunkDigest": ""})}, "no digest"},
		"chunk too large": {[]entry{a(entry{"size": codec.MaxSize + 1, "chunkDigest": imagetest.Digest(nil)})},
			"larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			m := memory{}
			_, err := read(t, m, tabled(t, m, layer(frame), tt.toc))
			var format *image.FormatError
			if !errors.As(err, &format) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want a FormatError with %q", err, tt.want)
			}
		})
	}

	// What is found when the bytes come.
	changed := bytes.Clone(data)
	changed[4000] ^= 1
	for name, tt := range map[string]struct {
		data []byte
		more entry
	}{
		"other contents":         {layer(imagetest.Zstd(t, changed)), nil},
		"too few":                {layer(imagetest.Zstd(t, data[:4999])), nil},
		"cut off":                {layer(exact[:len(exact)-300]), nil},
		"no frame":               {layer(make([]byte, 6000)), nil},
		"inside of others":       {layer(frame), entry{"innerOffset": 3}},
		"inside behind the end":  {layer(frame), entry{"innerOffset": 5600}},
		"a window of a terabyte": {layer([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0xf0, 0, 0, 0}), nil},
		"end is said too early":  {layer(exact), entry{"endOffset": at + 100}},
		"end is said too late":   {layer(frame), entry{"endOffset": at + len(frame)}},
	} {
		t.Run(name, func(t *testing.T) {
			m := memory{}
			if got, err := read(t, m, tabled(t, m, tt.data, []entry{a(tt.more)})); err == nil || len(got) > 0 {
				t.Errorf("gave out %d bytes, %v", len(got), err)
			}
		})
	}
}
