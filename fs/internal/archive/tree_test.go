package archive

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func names(t *Tree) []string {
	var all []string
	t.Walk(func(name string, e *Entry) {
		if e.Mode&typeMask == TypeDir {
			name += "/"
		}
		all = append(all, name)
	})
	return all
}

func file(index int) Entry { return Entry{Mode: TypeRegular | 0o644, Index: index, Size: 1} }
func dir(index int) Entry  { return Entry{Mode: TypeDir | 0o700, Index: index} }

func TestNamesAreChecked(t *testing.T) {
	b := NewBuilder(time.Unix(1, 0))
	for i, name := range []string{
		"a", "/abs/olute", "./x//y/.", "../out", "in/../../out", "nul\x00", strings.Repeat("n", 256),
		strings.Repeat("d/", 2048), "", ".", "/",
	} {
		b.Add(name, file(i))
	}
	tree := b.Tree()
	want := []string{"a", "abs/", "abs/olute", "x/", "x/y"}
	if got := names(tree); !slices.Equal(got, want) {
		t.Errorf("names: got %q, want %q", got, want)
	}
	if first, all := tree.Warnings(); all != 5 || len(first) != 5 {
		t.Errorf("warnings: got %d, %q; want 5", all, first)
	}
}

func TestDuplicates(t *testing.T) {
	b := NewBuilder(time.Unix(1, 0))
	b.Add("f", file(1))
	b.Add("f", file(2)) // the later stands
	b.Add("d/x", file(3))
	b.Add("d", dir(4))  // gives the implied directory its attributes
	b.Add("d", file(5)) // a directory with something in it stays
	b.Add("e", dir(6))
	b.Add("e", file(7)) // an empty one does not
	b.Add("f2", file(8))
	b.Add("f2/y", file(9)) // a file gives way to what must be a directory
	tree := b.Tree()
	want := []string{"d/", "d/x", "e", "f", "f2/", "f2/y"}
	if got := names(tree); !slices.Equal(got, want) {
		t.Errorf("names: got %q, want %q", got, want)
	}
	for name, index := range map[string]int{"f": 2, "d": 4, "e": 7, "f2": -1} {
		if e, ok := tree.Lookup(name); !ok || e.Index != index {
			t.Errorf("%s: got %+v, want the member %d", name, e, index)
		}
	}
}

func TestLinks(t *testing.T) {
	b := NewBuilder(time.Unix(1, 0))
	b.Add("a/f", file(1))
	b.Link("b/g", "./a/f")
	b.Link("h", "/b/g")
	b.Link("missing", "nowhere")
	b.Link("todir", "a")
	b.Link("out", "../a/f")
	b.Link("a", "a/f") // a directory stays
	tree := b.Tree()
	want := []string{"a/", "a/f", "b/", "b/g", "h"}
	if got := names(tree); !slices.Equal(got, want) {
		t.Errorf("names: got %q, want %q", got, want)
	}
	if e, _ := tree.Lookup("h"); e.Nlink != 3 || e.Index != 1 {
		t.Errorf("h: got %+v, want member 1 with 3 links", e)
	}
	if e, _ := tree.Lookup("."); e.Nlink != 4 {
		t.Errorf("root: got %d links, want 4", e.Nlink)
	}
	if _, all := tree.Warnings(); all != 4 {
		t.Errorf("warnings: got %d, want 4", all)
	}
}

func TestSymlinkTargets(t *testing.T) {
	b := NewBuilder(time.Unix(1, 0))
	for name, target := range map[string]string{"ok": "../../etc/passwd", "empty": "", "nul": "a\x00b", "long": strings.Repeat("x", 4096)} {
		b.Add(name, Entry{Mode: TypeSymlink | 0o777, Target: target})
	}
	if got := names(b.Tree()); !slices.Equal(got, []string{"ok"}) {
		t.Errorf("names: got %q, want only ok", got)
	}
}

// FuzzBuilder: whatever the names, the tree has clean ones only.
func FuzzBuilder(f *testing.F) {
	f.Add("a/b", "c", "a", "x/../y")
	f.Add("a", "a/b", "a/b", "/")
	f.Fuzz(func(t *testing.T, a, b, c, d string) {
		w := NewBuilder(time.Time{})
		w.Add(a, file(1))
		w.Add(b, dir(2))
		w.Link(c, a)
		w.Add(d, file(3))
		w.Tree().Walk(func(name string, e *Entry) {
			for p := range strings.SplitSeq(name, "/") {
				if p == "" || p == "." || p == ".." || len(p) > maxName || strings.ContainsRune(p, 0) {
					t.Fatalf("name %q from %q %q %q %q", name, a, b, c, d)
				}
			}
			if e.Nlink == 0 {
				t.Fatalf("%q has no links", name)
			}
		})
	})
}
