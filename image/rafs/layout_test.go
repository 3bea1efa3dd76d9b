package rafs_test

import (
	"bytes"
	"testing"

	"github.com/sluicefs/sluice/image/imagetest"
	"github.com/sluicefs/sluice/image/rafs"
)

// appender is a structure that goes back to the bytes it was read from.
type appender interface{ Append([]byte) []byte }

func TestLayoutsAppendWhatTheyParse(t *testing.T) {
	boot, blob := imagetest.File(t, "testdata", "rafs-v6-2.2.boot"), imagetest.File(t, "testdata", "be7d77eeb719f70884758d1aa800ed0fb09d701aaec469964e9d54325f0d5fef")
	x, ok1 := rafs.ParseExtSuper(boot[rafs.ExtSuperOffset:])
	info, ok2 := rafs.ParseBlobInfo(boot[4096:])
	chunk, ok3 := rafs.ParseChunkInfo(boot[16384:])
	meta, ok4 := rafs.ParseMetaHeader(blob[8346:])
	toc, ok5 := rafs.ParseTOCEntry(blob[13530+128:])
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 {
		t.Fatalf("parse: got %v %v %v %v %v, want true", ok1, ok2, ok3, ok4, ok5)
	}
	for _, tt := range [...]struct {
		name string
		v    appender
		want []byte
	}{
		{"extended superblock", &x, boot[rafs.ExtSuperOffset:]},
		{"blob table entry", &info, boot[4096:]},
		{"chunk record", &chunk, boot[16384:]},
		{"blob.meta header", &meta, blob[8346:]},
	} {
		got := tt.v.Append(nil)
		if !bytes.Equal(got, tt.want[:len(got)]) {
			t.Errorf("%s: got %x, want %x", tt.name, got, tt.want[:len(got)])
		}
	}
	if toc.Name != "blob.meta" || toc.CompressedOffset != 8314 || toc.UncompressedSize != 32 || toc.Flags != rafs.TOCNone {
		t.Errorf("table of contents: got %+v", toc)
	}
	if back, ok := rafs.ParseTOCEntry(toc.Append(nil)); !ok || back != toc {
		t.Errorf("table of contents: got %+v, want %+v", back, toc)
	}
	if meta.Entries != 2 || meta.Offset != 8314 || meta.Features != 0x70000021 {
		t.Errorf("blob.meta header: got %+v", meta)
	}
}
