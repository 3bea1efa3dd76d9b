package detect_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sluicefs/sluice/image/detect"
	"github.com/sluicefs/sluice/image/imagetest"
	"github.com/sluicefs/sluice/internal/testenv"
	"github.com/sluicefs/sluice/storage"
)

func TestFixturesHaveTheExpectedTree(t *testing.T) {
	dir := testenv.Fixtures(t)
	for _, tt := range [...]struct{ boot, want string }{
		{"v6/rafs-v6-2.2.boot", "expect/rafs-v6-2.2.tsv"},
		{"v6/v6-bootstrap-chunk-pos-438272.boot", "expect/v6-bootstrap-chunk-pos-438272.tsv"},
		{"gen/v6-zstd-64k/image.boot", "gen/v6-zstd-64k/truth.tsv"},
		{"v5/v5-blake3-none-ext.boot", "expect/v5-blake3-none-ext.tsv"},
		{"v5/v5-blake3-lz4-noext.boot", "expect/v5-blake3-lz4-noext.tsv"},
	} {
		t.Run(tt.boot, func(t *testing.T) {
			b, err := os.ReadFile(filepath.Join(dir, tt.want))
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]string{}
			for line := range strings.Lines(string(b)) {
				line = strings.TrimSuffix(line, "\n")
				path, _, _ := strings.Cut(line, "\t")
				want[path] = line
			}
			tree, err := detect.Open(filepath.Join(dir, tt.boot), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer tree.Close()
			n := 0
			err = imagetest.Walk(tree, 1e6, func(e *imagetest.Entry) error {
				n++
				chunks, sum := "0", ""
				if f := strings.Split(want[e.Path], "\t"); len(f) > 11 {
					sum = f[11]
				}
				if e.Mode&0o170000 == 0o100000 {
					ext, err := tree.Extents(nil, e.NID, 0, int64(e.Size))
					if err != nil {
						return err
					}
					at := int64(0)
					for i := range ext {
						if ext[i].FileOffset != at {
							t.Errorf("%s: extent at %d, want %d", e.Path, ext[i].FileOffset, at)
						}
						at += ext[i].Length
						if ext[i].Chunk.Flags&storage.HasDigest == 0 {
							t.Errorf("%s: chunk without digest", e.Path)
						}
					}
					chunks = strconv.Itoa(len(ext))
				}
				if got := e.Line(chunks, sum); got != want[e.Path] {
					t.Errorf("got  %q\nwant %q", got, want[e.Path])
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if n != len(want)-1 {
				t.Errorf("%d entries, want %d", n, len(want)-1)
			}
		})
	}
}
