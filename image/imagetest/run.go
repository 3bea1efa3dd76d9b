package imagetest

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
	"testing"

	"github.com/sluicefs/sluice/image"
)

// Run checks that a sound tree keeps the rules of [image.Tree]: names are
// found where they are listed, listings go on at any cookie, what is not
// there gives the errors that callers compare with, data is covered without a
// gap, and all of it also holds beside other goroutines.
func Run(t *testing.T, tree image.Tree) {
	t.Run("Names", func(t *testing.T) { eachDir(t, tree, checkNames) })
	t.Run("Cookies", func(t *testing.T) { eachDir(t, tree, checkCookies) })
	t.Run("Inodes", func(t *testing.T) { checkInodes(t, tree) })
	t.Run("Absent", func(t *testing.T) { checkAbsent(t, tree) })
	t.Run("Concurrent", func(t *testing.T) { checkConcurrent(t, tree) })
}

const runLimit = 1 << 20

func eachDir(t *testing.T, tree image.Tree, f func(t *testing.T, tree image.Tree, name string, nid uint64)) {
	t.Helper()
	err := Walk(tree, runLimit, func(e *Entry) error {
		if e.Mode&image.TypeMask == image.TypeDirectory {
			f(t, tree, e.Path, e.NID)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// list returns the entries of a directory behind cookie, names copied.
func list(t *testing.T, tree image.Tree, nid, cookie uint64) (all []image.Dirent) {
	t.Helper()
	err := tree.ReadDir(nid, cookie, func(d image.Dirent) bool {
		d.Name = []byte(string(d.Name))
		all = append(all, d)
		return len(all) < runLimit
	})
	if err != nil {
		t.Errorf("read directory %d at %d: %v", nid, cookie, err)
	}
	return all
}

func checkNames(t *testing.T, tree image.Tree, name string, nid uint64) {
	t.Helper()
	seen := map[string]bool{}
	for _, d := range list(t, tree, nid, 0) {
		if seen[string(d.Name)] {
			t.Errorf("%s: %q is listed twice", name, d.Name)
		}
		seen[string(d.Name)] = true
		var in image.Inode
		if err := tree.Stat(d.NID, &in); err != nil {
			t.Errorf("%s: %v", path.Join(name, string(d.Name)), err)
		}
		if in.NID != d.NID || d.Type != 0 && uint32(d.Type) != in.Mode>>12 {
			t.Errorf("%s/%s: listed as inode %d of type %d, is %d of mode %#o", name, d.Name, d.NID, d.Type, in.NID, in.Mode)
		}
		if string(d.Name) == "." && d.NID != nid {
			t.Errorf("%s: %q is inode %d, not %d", name, ".", d.NID, nid)
		}
		if got, err := tree.Lookup(nid, string(d.Name)); err != nil || got != d.NID {
			t.Errorf("%s: look up %q: got %d, %v; want %d", name, d.Name, got, err, d.NID)
		}
	}
	if !seen["."] || !seen[".."] {
		t.Errorf(`%s: "." or ".." is not listed`, name)
	}
	for _, no := range [...]string{"", "\x00", "no such name", "\xff\xff", strings.Repeat("x", 256), "a/b"} {
		if _, err := tree.Lookup(nid, no); err != fs.ErrNotExist {
			t.Errorf("%s: look up %q: got %v, want fs.ErrNotExist itself", name, no, err)
		}
	}
}

func checkCookies(t *testing.T, tree image.Tree, name string, nid uint64) {
	t.Helper()
	all := list(t, tree, nid, 0)
	for i := range all {
		if i > 200 && i%97 != 0 && i != len(all)-1 {
			continue // the rest of a large directory by samples
		}
		want := ""
		if i+1 < len(all) {
			want = string(all[i+1].Name)
		}
		got := ""
		err := tree.ReadDir(nid, all[i].Next, func(d image.Dirent) bool { got = string(d.Name); return false })
		if err != nil || got != want {
			t.Errorf("%s: behind %q: got %q, %v; want %q", name, all[i].Name, got, err, want)
		}
	}
}

func checkInodes(t *testing.T, tree image.Tree) {
	err := Walk(tree, runLimit, func(e *Entry) error {
		for attr := range e.Xattrs {
			if _, err := tree.Xattr(e.NID, attr); err != nil {
				t.Errorf("%s: attribute %q: %v", e.Path, attr, err)
			}
		}
		if _, err := tree.Xattr(e.NID, "user.no such"); err != image.ErrNoXattr {
			t.Errorf("%s: attribute that is not there: got %v, want ErrNoXattr itself", e.Path, err)
		}
		if _, err := tree.Readlink(e.NID); (err == nil) != (e.Mode&image.TypeMask == image.TypeSymlink) {
			t.Errorf("%s: read link: got %v", e.Path, err)
		}
		if e.Mode&image.TypeMask == image.TypeRegular {
			return checkData(t, tree, e)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func checkData(t *testing.T, tree image.Tree, e *Entry) error {
	size := int64(e.Size)
	_, inline, err := tree.Inline(nil, e.NID, 0)
	if err != nil {
		return err
	}
	if inline {
		var p [8]byte
		n, _, err := tree.Inline(p[:], e.NID, max(size-3, 0))
		if want := min(size, 3); err != nil || int64(n) != want {
			t.Errorf("%s: last bytes: got %d, %v; want %d", e.Path, n, err, want)
		}
		return nil
	}
	for _, r := range [...][2]int64{{0, size}, {0, 1}, {size / 2, size}, {size - 1, 1}, {size, 10}, {0, 0}} {
		off, n := r[0], r[1]
		if off < 0 {
			continue
		}
		ext, err := tree.Extents(nil, e.NID, off, n)
		if err != nil {
			return fmt.Errorf("%s: extents of %d+%d: %w", e.Path, off, n, err)
		}
		end := min(off+n, size)
		for i := range ext {
			if ext[i].FileOffset != off || ext[i].Length <= 0 {
				t.Errorf("%s: extents of %d+%d: got %d+%d, want from %d", e.Path, r[0], n, ext[i].FileOffset, ext[i].Length, off)
			}
			off += ext[i].Length
		}
		if off != max(end, r[0]) {
			t.Errorf("%s: extents of %d+%d: end at %d, want %d", e.Path, r[0], n, off, end)
		}
	}
	return nil
}

// checkAbsent asks for inodes that no image has.
func checkAbsent(t *testing.T, tree image.Tree) {
	for _, nid := range [...]uint64{1 << 40, 1<<64 - 1} {
		var in image.Inode
		var format *image.FormatError
		if err := tree.Stat(nid, &in); !errors.As(err, &format) {
			t.Errorf("stat of inode %d: got %v, want a FormatError", nid, err)
		}
		if _, err := tree.Lookup(nid, "x"); !errors.As(err, &format) {
			t.Errorf("look up in inode %d: got %v, want a FormatError", nid, err)
		}
	}
}

func checkConcurrent(t *testing.T, tree image.Tree) {
	var wg sync.WaitGroup
	counts := make([]int, 4)
	errs := make([]error, len(counts))
	for i := range counts {
		wg.Go(func() {
			errs[i] = Walk(tree, runLimit, func(e *Entry) error {
				counts[i]++
				if e.Mode&image.TypeMask != image.TypeRegular {
					return nil
				}
				var p [100]byte
				if _, _, err := tree.Inline(p[:], e.NID, 0); err != nil {
					return err
				}
				_, err := tree.Extents(nil, e.NID, 0, int64(e.Size))
				return err
			})
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil || counts[i] != counts[0] {
			t.Errorf("walk %d of 4: %d entries, %v; want %d", i, counts[i], err, counts[0])
		}
	}
}
