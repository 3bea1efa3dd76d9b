package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newManCmd(env *Env) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "man [COMMAND...]",
		Short: "Print manual pages",
		Long: `Print the manual page of sluice or of one of its commands, or write all of
them to a directory.`,
		Example: "  sluice man mount | man -l -\n  sluice man --dir /usr/share/man/man1",
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			if dir != "" {
				return writePages(root, dir)
			}
			c, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return noCommand(args)
			}
			return manPage(env.Stdout, c)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "write all pages to this directory")
	return cmd
}

// writePages writes a page for c and each command below it.
func writePages(c *cobra.Command, dir string) error {
	f, err := os.Create(filepath.Join(dir, pageName(c)+".1"))
	if err != nil {
		return err
	}
	if err := errors.Join(manPage(f, c), f.Close()); err != nil {
		return err
	}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			if err := writePages(sub, dir); err != nil {
				return err
			}
		}
	}
	return nil
}

func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// manPage writes the page of c in the man macros of troff.
func manPage(out io.Writer, c *cobra.Command) error {
	w := bufio.NewWriter(out)
	fmt.Fprintf(w, ".TH %s 1 \"\" \"sluice %s\" \"User Commands\"\n", troffWord(strings.ToUpper(pageName(c))), Version)
	fmt.Fprintf(w, ".SH NAME\n%s \\- %s\n", troff(pageName(c)), troff(c.Short))
	fmt.Fprintf(w, ".SH SYNOPSIS\n.B %s\n", troff(c.UseLine()))
	if c.Long != "" {
		fmt.Fprintf(w, ".SH DESCRIPTION\n.nf\n%s\n.fi\n", troff(c.Long))
	}
	if subs := c.Commands(); len(subs) > 0 {
		fmt.Fprint(w, ".SH COMMANDS\n")
		for _, s := range subs {
			if s.IsAvailableCommand() {
				fmt.Fprintf(w, ".TP\n.B %s\n%s. See %s(1).\n", troff(s.Name()), troff(s.Short), troff(pageName(s)))
			}
		}
	}
	if c.HasAvailableLocalFlags() {
		fmt.Fprint(w, ".SH OPTIONS\n")
		c.LocalFlags().VisitAll(func(f *pflag.Flag) { manFlag(w, f) })
	}
	fmt.Fprint(w, ".SH EXIT STATUS\n0: done; 1: failed; 2: wrong usage.\n")
	if c.Example != "" {
		fmt.Fprintf(w, ".SH EXAMPLES\n.nf\n%s\n.fi\n", troff(c.Example))
	}
	return w.Flush()
}

func manFlag(w io.Writer, f *pflag.Flag) {
	if f.Hidden {
		return
	}
	name := "--" + f.Name
	if f.Shorthand != "" {
		name = "-" + f.Shorthand + ", " + name
	}
	kind, usage := pflag.UnquoteUsage(f)
	if kind != "" {
		name += " " + kind
	}
	fmt.Fprintf(w, ".TP\n.B %s\n%s", troff(name), troff(usage))
	if d := f.DefValue; d != "" && d != "false" && d != "[]" && d != "-1" && d != "0s" {
		fmt.Fprintf(w, " (default %s)", troff(d))
	}
	fmt.Fprintln(w)
}

// troff escapes what has a meaning to troff.
func troff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}

func troffWord(s string) string { return `"` + s + `"` }
