// Package cli is the command line of sluice: one file per subcommand, each
// "flags, call, print" with no logic of its own. Commands get their streams
// and environment through an [Env], so that a test needs no process.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluicefs/sluice/internal/sandbox"
)

// Env is what a command has of the outside world.
type Env struct {
	Stdin  io.Reader
	Stdout io.Writer // data
	Stderr io.Writer // words and progress
	Getenv func(string) string
}

// OSEnv returns the environment of this process.
func OSEnv() *Env {
	return &Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv}
}

// Exit codes of every command.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// exitError carries the exit code of a command that has said all there is
// to say, such as the code of the program that "sluice run" ran.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", e.code) }

// usageError marks an error as wrong usage: exit code 2 and a pointer to the
// help.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// Main runs the command line args, args[0] being the name that the program
// was called by, and returns the exit code.
func Main(ctx context.Context, env *Env, args []string) int {
	name := filepath.Base(args[0])
	switch name {
	case sandbox.InitName:
		return sandbox.Init()
	case sandbox.EnterName:
		return sandbox.Enter()
	}
	out := &checkedWriter{Writer: env.Stdout}
	env = &Env{Stdin: env.Stdin, Stdout: out, Stderr: env.Stderr, Getenv: env.Getenv}
	cmd := newRootCmd(env)
	if isHelperCall(cmd, args) {
		cmd = newMountHelperCmd(env)
	}
	if face := faces[name]; face != nil {
		cmd = face(env)
	}
	cmd.SetArgs(args[1:])
	cmd.SetIn(env.Stdin)
	cmd.SetOut(env.Stdout)
	cmd.SetErr(env.Stderr)
	cmd.SilenceErrors = true
	cmd.SilenceUsage = true
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	ran, err := cmd.ExecuteContextC(ctx)
	if err == nil {
		err = out.err()
	}
	var exit exitError
	var usage usageError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &usage):
		fmt.Fprintf(env.Stderr, "%s: %s\nTry '%s --help'.\n", name, printableLines(err.Error()), ran.CommandPath())
		return exitUsage
	}
	fmt.Fprintf(env.Stderr, "%s: %s\n", name, printableLines(err.Error()))
	return exitFailed
}

// faces are the other programs that the binary is when it is called by
// their names.
var faces = map[string]func(*Env) *cobra.Command{
	"mount.fuse.sluice": newMountHelperCmd,
	"mount.sluice":      newMountHelperCmd,
	"nydus-image":       newNydusImageCmd,
	"nydusctl":          newNydusctlCmd,
	"nydusd":            newNydusdCmd,
}

// newRootCmd returns the command "sluice" with all its subcommands.
func newRootCmd(env *Env) *cobra.Command {
	root := &cobra.Command{
		Use:   "sluice",
		Short: "Serve files on demand",
		Long: `sluice mounts images that have not been downloaded, fetches what is read and
verifies every byte; it also mounts directories and archives.`,
		Args: groupArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetHelpCommand(newHelpCmd())
	root.AddCommand(
		newCacheCmd(env),
		newCompletionCmd(env),
		newConfigCmd(env),
		newCtlCmd(env),
		newDaemonCmd(env),
		newDemoCmd(env),
		newDoctorCmd(env),
		newImageCmd(env),
		newListCmd(env),
		newManCmd(env),
		newMountCmd(env),
		newRecordCmd(env),
		newRunCmd(env),
		newStatsCmd(env),
		newSuperviseCmd(env),
		newTopCmd(env),
		newUmountCmd(env),
		newVersionCmd(env),
		newWhyCmd(env),
	)
	return root
}

// newHelpCmd is cobra's help command, but for a wrong name being wrong usage.
func newHelpCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND...]",
		Short:   "Help about any command",
		Example: "  sluice help mount",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			c, _, err := cmd.Root().Find(args)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var names []string
			for _, sub := range c.Commands() {
				if sub.IsAvailableCommand() {
					names = append(names, sub.Name()+"\t"+sub.Short)
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return noCommand(args)
			}
			c.InitDefaultHelpFlag()
			return c.Help()
		},
	}
}

// groupArgs is a cobra.PositionalArgs for a command that only has others.
func groupArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return noCommand(args[:1])
	}
	return nil
}

// noCommand is the error about a command that there is not.
func noCommand(words []string) error {
	return usageError{fmt.Errorf("there is no command %q", strings.Join(words, " "))}
}

// needArgs is a cobra.PositionalArgs that makes a wrong number of arguments
// a usage error, which says what is wanted.
func needArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if check(cmd, args) == nil {
			return nil
		}
		wanted := strings.TrimSuffix(strings.TrimPrefix(cmd.UseLine(), cmd.CommandPath()), " [flags]")
		_, name, below := strings.Cut(cmd.CommandPath(), " ")
		if !below {
			name = cmd.Name()
		}
		if wanted == "" {
			return usageError{fmt.Errorf("%s takes no arguments, but got %q", name, strings.Join(args, " "))}
		}
		return usageError{fmt.Errorf("%s wants%s, but got %s", name, wanted, countOf(len(args), "argument"))}
	}
}

// countOf returns "1 thing", "2 things".
func countOf(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}
