package cli

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/usage"
)

func newImageStatCmd(env *Env) *cobra.Command {
	var blobDir, base string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "stat IMAGE",
		Short: "Say how much an image holds and stores",
		Long: `Count files, chunks and stored bytes, and what deduplication and compression
save; with --base also which chunks another image has as well.`,
		Example: "  sluice image stat image.boot\n  sluice image stat new.boot --base old.boot",
		Args:    needArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			tree, blobs, err := openWithBlobs(cmd.Context(), args[0], blobDir)
			if err != nil {
				return err
			}
			defer tree.Close()
			defer blobs.Close()
			var other image.Tree
			if base != "" {
				t, b, err := openWithBlobs(cmd.Context(), base, blobDir)
				if err != nil {
					return err
				}
				defer t.Close()
				defer b.Close()
				other = t
			}
			r, err := usage.Count(cmd.Context(), tree, other)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(env.Stdout, struct {
					*usage.Report
					Dedup    float64 `json:"dedup_ratio"`
					Compress float64 `json:"compress_ratio"`
				}{r, r.DedupRatio(), r.CompressRatio()})
			}
			return printUsage(env, r, base != "")
		},
	}
	cmd.Flags().StringVar(&base, "base", "", "another `image` to share chunks with")
	cmd.Flags().StringVar(&blobDir, "blob-dir", "", "directory or disk with the image's blobs, for images that need them (default: that of the image)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printUsage(env *Env, r *usage.Report, base bool) error {
	n := func(v uint64) string { return strconv.FormatUint(v, 10) }
	size := func(v uint64) string { return bytesText(int64(v)) }
	rows := [][]string{
		{"format", r.Format}, {"entries", n(r.Entries)}, {"inodes", n(r.Inodes)}, {"directories", n(r.Directories)},
		{"files", fmt.Sprintf("%d, %s", r.Files, size(r.FileBytes))}, {"symbolic links", n(r.Symlinks)},
		{"metadata", size(uint64(r.Metadata))}, {"in the image", size(r.Inline)}, {"holes", size(r.Holes)},
		{"references", fmt.Sprintf("%d chunks, %s", r.References, size(r.Referenced))},
		{"different", fmt.Sprintf("%d chunks, %s: deduplication saves %.1f%%", r.Chunks, size(r.Uncompressed), 100*r.DedupRatio())},
		{"stored", fmt.Sprintf("%s: compression saves %.1f%%", size(r.Stored), 100*r.CompressRatio())},
	}
	if base {
		rows = append(rows, []string{"shared", fmt.Sprintf("%d chunks, %s stored", r.Shared, size(r.SharedStored))})
	}
	for _, b := range r.Blobs {
		rows = append(rows, []string{"blob", fmt.Sprintf("%s %s: %d of %d chunks used, %s stored", b.ID, b.Compressor, b.UsedChunks, b.Chunks, size(b.UsedStored))})
	}
	return printTable(env.Stdout, rows)
}
