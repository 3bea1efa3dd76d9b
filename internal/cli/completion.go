package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newCompletionCmd(env *Env) *cobra.Command {
	return &cobra.Command{
		Use:       "completion bash|zsh|fish",
		Short:     "Print a completion script for a shell",
		Long:      "Print a script that teaches a shell to complete sluice's commands and flags.",
		Example:   "  sluice completion bash > /usr/share/bash-completion/completions/sluice\n  source <(sluice completion zsh)",
		ValidArgs: []string{"bash", "zsh", "fish"},
		Args:      needArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch root := cmd.Root(); args[0] {
			case "bash":
				return root.GenBashCompletionV2(env.Stdout, true)
			case "zsh":
				return root.GenZshCompletion(env.Stdout)
			case "fish":
				return root.GenFishCompletion(env.Stdout, true)
			}
			return usageError{fmt.Errorf("there is no completion for %q: bash, zsh, fish", args[0])}
		},
	}
}
