package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newWhyCmd(env *Env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "why PATH",
		Short: "Say why a file was fetched, or was not",
		Long: `Say how much of a file on a mounted image is on this machine and how it came
here: read through the mount, fetched ahead, or along with a neighbour.`,
		Example: "  sluice why /mnt/python/usr/bin/python3",
		Args:    needArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, path, err := dialMount(env, args[0])
			if err != nil {
				return err
			}
			w, err := client.Why(cmd.Context(), path)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(env.Stdout, w)
			}
			fmt.Fprintf(env.Stdout, "%s: %s of %s\n", w.Path, w.Type, bytesText(w.Size))
			if w.Chunks > 0 {
				fmt.Fprintf(env.Stdout, "  here: %d of %d chunks, %s of %s\n", w.Present, w.Chunks, bytesText(w.PresentBytes), bytesText(w.StoredBytes))
			}
			for _, r := range w.Reasons {
				fmt.Fprintf(env.Stdout, "  %s\n", r)
			}
			for _, r := range w.Reads {
				fmt.Fprintf(env.Stdout, "  read %s at %d on %s\n", bytesText(r.Length), r.Offset, r.At.Format("2006-01-02 15:04:05.000"))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
