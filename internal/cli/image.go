package cli

import (
	"github.com/spf13/cobra"
)

// newImageCmd returns the command "sluice image": making images and looking
// into them.
func newImageCmd(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Make, check and change images",
		Long: `Images are RAFS (version 6, which is also an EROFS file system, or 5): a
bootstrap with names, attributes and chunk digests, and blobs with the chunks.`,
		Args: groupArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newImageCheckCmd(env),
		newImageCompactCmd(env),
		newImageConvertCmd(env),
		newImageCreateCmd(env),
		newImageDiffCmd(env),
		newImageExportCmd(env),
		newImageInspectCmd(env),
		newImageMergeCmd(env),
		newImageOptimizeCmd(env),
		newImageStatCmd(env),
		newImageUnpackCmd(env),
	)
	return cmd
}
