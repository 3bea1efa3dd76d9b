package image_test

import (
	"testing"

	"github.com/sluicefs/sluice/image"
)

func TestOneLine(t *testing.T) {
	for path, want := range map[string]string{
		"usr/lib/ä b": "usr/lib/ä b",
		"a\nb":        `"a\nb"`,
		"\x1b[2J":     `"\x1b[2J"`,
		"":            "",
	} {
		if got := image.OneLine(path); got != want {
			t.Errorf("%q: got %s, want %s", path, got, want)
		}
	}
}
