package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestWrongUsage(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		args string
		code int
		say  string
	}{
		{"bogus", exitUsage, `no command "bogus"`},
		{"help bogus", exitUsage, `no command "bogus"`},
		{"man bogus", exitUsage, `no command "bogus"`},
		{"mount a", exitUsage, "Try 'sluice mount --help'"},
		{"mount a", exitUsage, "sluice: mount wants SOURCE DIR, but got 1 argument"},
		{"list extra", exitUsage, `sluice: list takes no arguments, but got "extra"`},
		{"umount --all x", exitUsage, `without "x"`},
		{"umount", exitUsage, "wants DIR..."},
		{"mount --profile p " + dir + " " + dir, exitUsage, "--profile is for images"},
		{"mount --io pipe " + dir + " " + dir, exitUsage, "auto, classic, clone, uring"},
		{"demo --io pipe", exitUsage, "auto, classic, uring"},
		{"run -u :5 nothing", exitUsage, "USER or USER:GROUP"},
		{"run -e A nothing", exitUsage, "NAME=VALUE"},
		{"record --output " + filepath.Join(dir, "no", "p") + " nothing", exitFailed, "cannot be written"},
		{"cache bogus", exitUsage, "bogus"},
		{"ctl bogus", exitUsage, "bogus"},
		{"image bogus", exitUsage, "bogus"},
		{"config bogus", exitUsage, "bogus"},
		{"daemon --mountpoint " + dir + " --transport pigeon", exitUsage, "device or uring"},
	} {
		code, out, stderr := command(t, "sluice", strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(stderr, c.say) || out != "" {
			t.Errorf("sluice %s: exit %d, want %d; said %q, want %q in it; printed %q", c.args, code, c.code, stderr, c.say, out)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestHelpOfACommand(t *testing.T) {
	for _, args := range [][]string{{"help", "cache", "ls"}, {"cache", "ls", "--help"}} {
		code, out, stderr := command(t, "sluice", args...)
		if code != exitDone || stderr != "" || !strings.Contains(out, "sluice cache ls [flags]") || !strings.Contains(out, "--json") {
			t.Errorf("sluice %s: exit %d, %q, %q", strings.Join(args, " "), code, out, stderr)
		}
	}
}

// Every command says what it does and how it is called.
func TestHelpIsComplete(t *testing.T) {
	for _, name := range []string{"sluice", "nydusd", "nydus-image", "nydusctl"} {
		root := newRootCmd(OSEnv())
		if face := faces[name]; face != nil {
			root = face(OSEnv())
		}
		for _, c := range tree(root) {
			if c.Short == "" {
				t.Errorf("%s: says not what it does", c.CommandPath())
			}
			if name == "sluice" && c.Runnable() && len(c.Commands()) == 0 && c.Example == "" {
				t.Errorf("%s: has no example", c.CommandPath())
			}
			for _, line := range strings.Split(c.Example, "\n") {
				checkExample(t, root, line)
			}
		}
	}
}

// Command lines in the documentation have commands and flags that there are.
func TestDocumentedCommandsExist(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("docs: %d pages, %v", len(pages), err)
	}
	root := newRootCmd(OSEnv())
	seen := 0
	for _, page := range append(pages, "../../README.md", "../../CONTRIBUTING.md") {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for i, block := range strings.Split(string(b), "```") {
			if i%2 == 0 {
				continue // prose
			}
			for line := range strings.Lines(block) {
				line, _, _ = strings.Cut(strings.TrimSpace(line), " #")
				for part := range strings.SplitSeq(line, ";") {
					part = strings.TrimSpace(part)
					if strings.HasPrefix(part, "sluice ") {
						seen++
						checkExample(t, root, part)
					}
				}
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d command lines were found", seen)
	}
}

// tree returns c and all commands below it that are shown.
func tree(c *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{c}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			all = append(all, tree(sub)...)
		}
	}
	return all
}

// checkExample reports a command line of sluice with a command or a flag that
// there is not.
func checkExample(t *testing.T, root *cobra.Command, line string) {
	t.Helper()
	_, line, ok := strings.Cut(" "+line, " sluice ")
	if !ok {
		return
	}
	line, _, _ = strings.Cut(line, " -- ")
	line, _, _ = strings.Cut(line, " | ")
	words := strings.Fields(line)
	c, rest, err := root.Find(words)
	if err != nil || c == root {
		t.Errorf("example %q: there is no such command: %v", line, err)
		return
	}
	for _, w := range rest {
		name, _, _ := strings.Cut(w, "=")
		switch {
		case strings.HasPrefix(name, "--"):
			if c.Flag(name[2:]) == nil {
				t.Errorf("example %q: %s has no flag %s", line, c.CommandPath(), name)
			}
		case strings.HasPrefix(name, "-") && len(name) == 2:
			if c.Flags().ShorthandLookup(name[1:]) == nil && c.InheritedFlags().ShorthandLookup(name[1:]) == nil {
				t.Errorf("example %q: %s has no flag %s", line, c.CommandPath(), name)
			}
		}
	}
}
