package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluicefs/sluice/image/detect"
	"github.com/sluicefs/sluice/image/diff"
)

func newImageDiffCmd(env *Env) *cobra.Command {
	var blobDir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Say how two images differ",
		Long: `List the names that only one of two images has (- and +) and those that differ
(~), with what differs. Contents are compared by digest; only where the images
cut files differently are blobs read. The exit code is 1 if the images differ.`,
		Example: "  sluice image diff old.boot new.boot",
		Args:    needArgs(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var sides [2]diff.Side
			for i, name := range args {
				tree, err := detect.Open(name, nil)
				if err != nil {
					return err
				}
				defer tree.Close()
				blobs, err := blobsBeside(name, blobDir)
				if err != nil {
					return err
				}
				defer blobs.Close()
				sides[i] = diff.Side{Tree: tree, Backend: blobs}
			}
			changes := []diff.Change{}
			differ := false
			err := diff.Images(cmd.Context(), sides[0], sides[1], func(c diff.Change) bool {
				differ = true
				if asJSON {
					changes = append(changes, c)
				} else {
					fmt.Fprintln(env.Stdout, printable(changeText(c)))
				}
				return true
			})
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(env.Stdout, changes)
			}
			if err == nil && differ {
				return exitError{exitFailed}
			}
			return err
		},
	}
	cmd.Flags().StringVar(&blobDir, "blob-dir", "", "directory of the blobs of both images (default: those of the images)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func changeText(c diff.Change) string {
	switch c.Kind {
	case diff.Added:
		return "+ " + c.Path
	case diff.Removed:
		return "- " + c.Path
	}
	return "~ " + c.Path + "  " + strings.Join(c.What, ", ")
}
