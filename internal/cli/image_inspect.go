package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/detect"
	"github.com/sluicefs/sluice/image/inspect"
)

func newImageInspectCmd(env *Env) *cobra.Command {
	var requests []string
	var blobDir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect IMAGE",
		Short: "Look into an image",
		Long: `Answer questions about an image, at a prompt or those given as --request:

` + inspect.Help,
		Example: "  sluice image inspect image.boot\n  sluice image inspect image.boot -R 'ls /etc' -R 'stat /etc/passwd' --json",
		Args:    needArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			tree, err := detect.Open(args[0], nil)
			if err != nil {
				return err
			}
			defer tree.Close()
			if l, ok := tree.(image.MetaLoader); ok {
				blobs, err := blobsBeside(args[0], blobDir)
				if err != nil {
					return err
				}
				defer blobs.Close()
				if err := l.LoadMeta(cmd.Context(), blobs); err != nil {
					fmt.Fprintf(env.Stderr, "chunks can not be shown: %v\n", err)
				}
			}
			s := inspect.New(tree)
			if len(requests) == 0 {
				return inspectPrompt(env, s, asJSON)
			}
			for _, r := range requests {
				a, err := s.Ask(r)
				if errors.Is(err, inspect.ErrExit) {
					return nil
				}
				if err == nil {
					err = printAnswer(env.Stdout, a, asJSON)
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringArrayVarP(&requests, "request", "R", nil, "answer this instead of asking; may be given several times")
	cmd.Flags().StringVar(&blobDir, "blob-dir", "", "directory or disk with the image's blobs, for images that need them (default: that of the image)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// inspectPrompt answers the lines of standard input.
func inspectPrompt(env *Env, s *inspect.Session, asJSON bool) error {
	lines := bufio.NewScanner(env.Stdin)
	for {
		fmt.Fprintf(env.Stderr, "%s> ", s.Dir())
		if !lines.Scan() {
			fmt.Fprintln(env.Stderr)
			return lines.Err()
		}
		a, err := s.Ask(lines.Text())
		if errors.Is(err, inspect.ErrExit) {
			return nil
		}
		if err != nil {
			fmt.Fprintln(env.Stderr, printable(err.Error()))
			continue
		}
		if err := printAnswer(env.Stdout, a, asJSON); err != nil {
			return err
		}
	}
}

func printAnswer(w io.Writer, a inspect.Answer, asJSON bool) error {
	if a == nil {
		return nil
	}
	if asJSON {
		return printJSON(w, a)
	}
	rows := a.Rows()
	if len(rows) > 0 && rows[0] == nil {
		rows = rows[1:]
	}
	return printTable(w, rows)
}
