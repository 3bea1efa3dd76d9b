// Package examples_test sees to it that the code in the documents is code of
// the examples, which are compiled and tested.
package examples_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// block is a piece of code and the file that it is from:
//
//	<!-- from examples/hello/main.go -->
//	```go
//	…
//	```
var block = regexp.MustCompile("(?s)<!-- from (\\S+) -->\n```go\n(.*?)```")

func TestCodeInDocumentsIsOfTheExamples(t *testing.T) {
	for _, name := range []string{"tutorial.md", "moving-from-go-fuse.md"} {
		doc, err := os.ReadFile(filepath.Join("..", "docs", name))
		if err != nil {
			t.Fatal(err)
		}
		blocks := block.FindAllStringSubmatch(string(doc), -1)
		if all := strings.Count(string(doc), "```go\n"); len(blocks) == 0 || len(blocks) != all {
			t.Errorf("%s: %d of %d pieces of Go code name their file", name, len(blocks), all)
		}
		for _, b := range blocks {
			src, err := os.ReadFile(filepath.Join("..", b[1]))
			if err != nil {
				t.Error(err)
				continue
			}
			for _, part := range strings.Split(b[2], "// …\n") {
				if !strings.Contains(string(src), part) {
					t.Errorf("%s: not in %s:\n%s", name, b[1], part)
				}
			}
		}
	}
}
