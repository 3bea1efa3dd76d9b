package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEchoShowsWhatIsMeantForTheUser(t *testing.T) {
	for whole, want := range map[bool]string{true: "sluice: one\nsluice: two\n", false: "sluice: one\n"} {
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, []byte("old\nsluice: one\ntime=now msg=other\nsluice: two\nsluice: not yet wh"), 0o600); err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		e := newEcho(&out, path, 4)
		e.end(whole)
		if out.String() != want {
			t.Errorf("whole %v: got %q, want %q", whole, out.String(), want)
		}
	}
}
