package cli

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluicefs/sluice/image/build"
	"github.com/sluicefs/sluice/image/profile"
)

func newImageOptimizeCmd(env *Env) *cobra.Command {
	var f rewriteFlags
	var profilePath, filesPath string
	cmd := &cobra.Command{
		Use:   "optimize IMAGE --profile FILE -o DIR",
		Short: "Put what is read first into one blob",
		Long: `Write the same image with the chunks that a profile names ("sluice record"
makes one) in one new blob, in the order in which they are read: they are had
by few large reads. The files become the image's prefetch list.`,
		Example: `  sluice record image -o start.json -- python3 -c pass
  sluice image optimize image/image.boot --profile start.json -o fast`,
		Args: needArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			hot, err := hotList(profilePath, filesPath)
			if err != nil {
				return err
			}
			return f.run(cmd.Context(), env, "optimize", args[0], func(in *rewriteInput) (*build.Result, error) {
				return build.Optimize(cmd.Context(), in.tree, in.blobs, hot, in.out, in.opt)
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&profilePath, "profile", "", "profile that sluice record wrote")
	cmd.Flags().StringVar(&filesPath, "prefetch-files", "", "file with one path of the image on each line, instead of a profile")
	return cmd
}

// hotList reads what is to be had first from a profile or a list of paths.
func hotList(profilePath, filesPath string) ([]build.Hot, error) {
	switch {
	case (profilePath == "") == (filesPath == ""):
		return nil, usageError{errors.New("give one of --profile and --prefetch-files")}
	case profilePath != "":
		p, err := profile.Load(profilePath)
		if err != nil {
			return nil, err
		}
		hot := make([]build.Hot, len(p.Reads))
		for i, r := range p.Reads {
			hot[i] = build.Hot{Path: r.Path, Offset: r.Offset, Length: r.Length}
		}
		return hot, nil
	}
	f, err := os.Open(filesPath)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var hot []build.Hot
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if s := strings.TrimSpace(lines.Text()); s != "" {
			hot = append(hot, build.Hot{Path: s})
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", filesPath, err)
	}
	return hot, nil
}
