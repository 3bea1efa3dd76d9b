package usage_test

import (
	"testing"

	"github.com/sluicefs/sluice/image/detect"
	"github.com/sluicefs/sluice/image/usage"
)

func TestCountOfFixtures(t *testing.T) {
	for _, tt := range [...]struct {
		file string
		want usage.Report
	}{
		{"rafs-v6-2.2.boot", usage.Report{
			Entries: 3, Inodes: 3, Directories: 1, Files: 2, FileBytes: 30331, References: 2, Referenced: 30331,
			Chunks: 2, Uncompressed: 30331, Stored: 7802, Shared: 2, SharedStored: 7802,
		}},
		{"v5-blake3-none-ext.boot", usage.Report{
			Entries: 54, Inodes: 52, Directories: 24, Files: 21, Symlinks: 7, FileBytes: 7703070, References: 27, Referenced: 7703070,
			Chunks: 23, Uncompressed: 3508766, Stored: 3508766, Shared: 23, SharedStored: 3508766,
		}},
	} {
		t.Run(tt.file, func(t *testing.T) {
			tree, err := detect.Open("../rafs/testdata/"+tt.file, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer tree.Close()
			r, err := usage.Count(t.Context(), tree, tree)
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Blobs) != 1 || r.Blobs[0].UsedChunks != tt.want.Chunks || r.Blobs[0].UsedStored != tt.want.Stored {
				t.Errorf("blobs: got %+v", r.Blobs)
			}
			type numbers [13]uint64
			flat := func(r *usage.Report) numbers {
				return numbers{
					r.Entries, r.Inodes, r.Directories, r.Files, r.Symlinks, r.FileBytes, r.References,
					r.Referenced, r.Chunks, r.Uncompressed, r.Stored, r.Shared, r.SharedStored,
				}
			}
			if g, w := flat(r), flat(&tt.want); g != w {
				t.Errorf("got %d\nwant %d", g, w)
			}
		})
	}
}
