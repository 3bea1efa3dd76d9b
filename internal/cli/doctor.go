package cli

import (
	"github.com/spf13/cobra"

	"github.com/sluicefs/sluice/internal/doctor"
)

func newDoctorCmd(env *Env) *cobra.Command {
	var asJSON bool
	var dir string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine can do, and what it lacks",
		Long: `Look at the kernel, at permissions and at limits, and say what each thing that
is missing would give. The exit code is 0 if images can be mounted, even if
slower than they could be, and 1 if they cannot.`,
		Example: "  sluice doctor\n  sluice doctor --json",
		Args:    needArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			all := doctor.Look(dir)
			if asJSON {
				if err := printJSON(env.Stdout, all); err != nil {
					return err
				}
			} else if err := printFindings(env, all); err != nil {
				return err
			}
			if doctor.Worst(all) == doctor.Fail {
				return exitError{exitFailed}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&dir, "cache-dir", defaultCacheDir(env), "directory for fetched data")
	return cmd
}

func printFindings(env *Env, all []doctor.Finding) error {
	rows := [][]string{{"", "CHECK", "FOUND", "GOOD FOR"}}
	for _, f := range all {
		rows = append(rows, []string{string(f.Status), f.Check, f.Found, f.Gives})
		if f.Help != "" {
			rows = append(rows, []string{"", "", "-> " + f.Help, ""})
		}
	}
	return printTable(env.Stdout, rows)
}
