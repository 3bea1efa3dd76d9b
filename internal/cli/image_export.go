package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sluicefs/sluice/image/build"
)

func newImageExportCmd(env *Env) *cobra.Command {
	var out, blobDir string
	var verity, quiet, asJSON bool
	var parallel int
	cmd := &cobra.Command{
		Use:   "export IMAGE -o FILE",
		Short: "Write an image as one EROFS file that the kernel mounts",
		Long: `Write an image as one plain EROFS file: metadata and uncompressed data, each
chunk once, holes as holes. The kernel mounts it without any other file.`,
		Example: `  sluice image export image/image.boot -o flat.erofs
  mount -t erofs -o ro flat.erofs /mnt`,
		Args: needArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return usageError{errors.New("say where the file system goes: --output FILE")}
			}
			tree, blobs, err := openWithBlobs(cmd.Context(), args[0], blobDir)
			if err != nil {
				return err
			}
			defer tree.Close()
			defer blobs.Close()
			bar := newProgressBar(env, "export", quiet)
			res, err := build.Export(cmd.Context(), tree, blobs, out, build.ExportOptions{
				Parallel: parallel, Verity: verity, Progress: bar.add, Total: bar.total,
			})
			bar.end()
			if err != nil {
				return err
			}
			if asJSON {
				v := map[string]any{"path": out, "size": res.Size, "data_size": res.DataSize}
				if res.Verity != nil {
					v["root_hash"] = fmt.Sprintf("%x", res.Verity.RootHash)
					v["hash_offset"], v["data_blocks"] = res.Verity.HashOffset, res.Verity.DataBlocks
				}
				return printJSON(env.Stdout, v)
			}
			fmt.Fprintf(env.Stdout, "EROFS %s  %s\n", out, bytesText(res.Size))
			if res.Verity != nil {
				fmt.Fprintln(env.Stdout, "dm-verity options:", res.Verity)
			}
			return nil
		},
	}
	fs := cmd.Flags()
	fs.StringVarP(&out, "output", "o", "", "file to write")
	fs.StringVar(&blobDir, "blob-dir", "", "directory or disk with the blobs (default: that of the image)")
	fs.BoolVar(&verity, "verity", false, "append a dm-verity hash tree (SHA-256, no salt) and print its root hash")
	fs.IntVar(&parallel, "parallel", 0, "workers (0: one for each CPU)")
	fs.BoolVarP(&quiet, "quiet", "q", false, "no progress bar")
	fs.BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}
