package inspect_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/sluicefs/sluice/image/detect"
	"github.com/sluicefs/sluice/image/inspect"
)

func session(t *testing.T, name string) *inspect.Session {
	t.Helper()
	tree, err := detect.Open("../"+name, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	return inspect.New(tree)
}

// ask returns the answer as lines of words with one space between.
func ask(t *testing.T, s *inspect.Session, line string) string {
	t.Helper()
	a, err := s.Ask(line)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	if a == nil {
		return ""
	}
	if _, err := json.Marshal(a); err != nil {
		t.Errorf("%s: as JSON: %v", line, err)
	}
	var all []string
	for _, row := range a.Rows() {
		all = append(all, strings.Join(row, " "))
	}
	return strings.Join(all, "\n")
}

func TestAnswers(t *testing.T) {
	const v6, v5, plain = "rafs/testdata/rafs-v6-2.2.boot", "rafs/testdata/v5-blake3-none-ext.boot", "erofs/testdata/plain.erofs"
	for _, tt := range [...]struct{ file, line, want string }{
		{v6, "stats", "format rafs v6"},
		{v6, "stats", "entries 3"},
		{v6, "ls", "-rw-r--r-- 1 0:0 16931 2023-02-19 15:12:33 lib.rs"},
		{v6, "stat /lib.rs", "chunk 0+16931 blob be7d77eeb719f70884758d1aa800ed0fb09d701aaec469964e9d54325f0d5fef index 0 stored 0+4828 uncompressed 0+16931 blake3:"},
		{v6, "blobs", "0 14554 36864 2 zstd be7d77ee"},
		{v6, "chunk 5000", "/sync_io.rs 0+13400"},
		{v6, "prefetch", "INODE MODE"},
		{v6, "help", "icheck INODE"},
		{v5, "ls hardlink-test", "-rwxrwxr-x 3 0:0 944 2022-11-12 05:51:45 test.sh"},
		{v5, "icheck 2", "path /hardlink-test"},
		{v5, "tree /symlink-test", "-> "},
		{plain, "stat dir/small", "xattr user.one=1"},
		{plain, "ls dir", "link -> ../numbers"},
	} {
		t.Run(tt.line, func(t *testing.T) {
			if got := ask(t, session(t, tt.file), tt.line); !strings.Contains(got, tt.want) {
				t.Errorf("got\n%s\nwant %q in it", got, tt.want)
			}
		})
	}
}

func TestCdMovesWherePathsBegin(t *testing.T) {
	s := session(t, "erofs/testdata/plain.erofs")
	ask(t, s, "cd dir")
	ask(t, s, "cd sub")
	if s.Dir() != "/dir/sub" {
		t.Errorf("directory: got %s", s.Dir())
	}
	if got := ask(t, s, "stat ../small"); !strings.Contains(got, "path /dir/small") {
		t.Errorf("got %s", got)
	}
	for _, line := range [...]string{"cd ../small", "cd none", "stat none", "icheck x", "icheck 99999", "chunk -1", "fly"} {
		if a, err := s.Ask(line); err == nil {
			t.Errorf("%s: got %v, want an error", line, a)
		}
	}
	if _, err := s.Ask("exit"); !errors.Is(err, inspect.ErrExit) {
		t.Errorf("exit: got %v", err)
	}
	if a, err := s.Ask("  "); a != nil || err != nil {
		t.Errorf("empty line: got %v, %v", a, err)
	}
}
