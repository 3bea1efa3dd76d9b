package source

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluicefs/sluice/image/build"
)

// A server that sends whole files where ranges are asked for is told of when
// an image is opened from it.
func TestHTTPServerWithoutRanges(t *testing.T) {
	src, out := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(src, "f"), []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := build.Create(t.Context(), build.Dir(src), build.Output{Bootstrap: filepath.Join(out, "image.boot"), BlobDir: out}, build.Options{}); err != nil {
		t.Fatal(err)
	}
	for _, ranges := range []bool{true, false} {
		files := http.FileServer(http.Dir(out))
		addr := serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !ranges {
				r.Header.Del("Range")
			}
			files.ServeHTTP(w, r)
		}))
		ref, err := Parse("http://"+addr+"/", Auto)
		if err != nil {
			t.Fatal(err)
		}
		o := plainOptions(t.TempDir())
		var said []string
		o.Warn = func(format string, _ ...any) { said = append(said, format) }
		i, err := OpenImage(t.Context(), ref, o)
		if err != nil {
			t.Fatal(err)
		}
		i.Close()
		if told := len(said) == 1 && strings.Contains(said[0], "Range"); told == ranges || ranges && len(said) > 0 {
			t.Errorf("ranges %v: said %q", ranges, said)
		}
	}
}
