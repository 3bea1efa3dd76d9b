package fstest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func itoa(n int) string { return strconv.Itoa(n) }

func touch(t *testing.T, dir, name string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	check(t, os.WriteFile(path, []byte(name), 0o644))
	return path
}

func directories(t *testing.T, dir string) {
	sub := filepath.Join(dir, "sub")
	var before, after unix.Stat_t
	check(t, unix.Stat(dir, &before))
	check(t, os.Mkdir(sub, 0o755))
	errnoIs(t, "mkdir of what exists", os.Mkdir(sub, 0o755), unix.EEXIST)
	check(t, unix.Stat(sub, &after))
	if after.Mode&unix.S_IFMT != unix.S_IFDIR || after.Ino == before.Ino {
		t.Errorf("mode %o, inode %d", after.Mode, after.Ino)
	}
	touch(t, sub, "f")
	errnoIs(t, "rmdir of what is not empty", unix.Rmdir(sub), unix.ENOTEMPTY)
	errnoIs(t, "unlink of a directory", unix.Unlink(sub), unix.EISDIR)
	errnoIs(t, "rmdir of a file", unix.Rmdir(filepath.Join(sub, "f")), unix.ENOTDIR)
	check(t, os.Remove(filepath.Join(sub, "f")))
	check(t, unix.Rmdir(sub))
	errnoIs(t, "rmdir of what does not exist", unix.Rmdir(sub), unix.ENOENT)
}

// many is enough names for several replies to a listing.
const many = 400

func readDirectory(t *testing.T, dir string) {
	var want []string
	for i := range many {
		want = append(want, fmt.Sprintf("a-rather-long-name-of-a-file-%04d", i))
		f, err := os.Create(filepath.Join(dir, want[i]))
		check(t, err)
		check(t, f.Close())
	}
	for range 2 {
		entries, err := os.ReadDir(dir)
		check(t, err)
		var got []string
		for _, e := range entries {
			got = append(got, e.Name())
			if !e.Type().IsRegular() {
				t.Errorf("%s: type %v", e.Name(), e.Type())
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %d names, want %d, or they differ", len(got), len(want))
		}
	}
}

func seekDirectory(t *testing.T, dir string) {
	for i := range many {
		check(t, os.Mkdir(filepath.Join(dir, itoa(i)), 0o755))
	}
	f, err := os.Open(dir)
	check(t, err)
	defer f.Close()
	first, err := f.Readdirnames(-1)
	check(t, err)
	_, err = f.Seek(0, 0)
	check(t, err)
	second, err := f.Readdirnames(-1)
	check(t, err)
	if !slices.Equal(first, second) || len(first) != many {
		t.Errorf("after rewinding: %d names, before %d, want %d in the same order", len(second), len(first), many)
	}
}

func removeWhileReading(t *testing.T, dir string) {
	for i := range many {
		touch(t, dir, itoa(i))
	}
	f, err := os.Open(dir)
	check(t, err)
	defer f.Close()
	seen := map[string]int{}
	for {
		names, err := f.Readdirnames(100)
		for _, name := range names {
			seen[name]++
			check(t, os.Remove(filepath.Join(dir, name)))
		}
		if err != nil {
			break
		}
	}
	for name, n := range seen {
		if n > 1 {
			t.Errorf("%s: listed %d times", name, n)
		}
	}
	if len(seen) != many {
		t.Errorf("listed %d names, want %d", len(seen), many)
	}
}

func rename(t *testing.T, dir string) {
	a, b := touch(t, dir, "a"), filepath.Join(dir, "b")
	check(t, os.Rename(a, b))
	content(t, b, []byte("a"))
	_, err := os.Lstat(a)
	errnoIs(t, "stat of the old name", err, unix.ENOENT)
	c := touch(t, dir, "c")
	check(t, os.Rename(b, c)) // replaces
	content(t, c, []byte("a"))
	sub, sub2 := filepath.Join(dir, "sub"), filepath.Join(dir, "sub2")
	check(t, os.MkdirAll(filepath.Join(sub, "x"), 0o755))
	check(t, os.Mkdir(sub2, 0o755))
	errnoIs(t, "file over directory", unix.Rename(c, sub), unix.EISDIR)
	errnoIs(t, "directory over file", unix.Rename(sub, c), unix.ENOTDIR)
	errnoIs(t, "over a directory that is not empty", unix.Rename(sub2, sub), unix.ENOTEMPTY)
	errnoIs(t, "into itself", unix.Rename(sub, filepath.Join(sub, "y")), unix.EINVAL)
	check(t, unix.Rename(sub, sub2)) // over an empty one; os.Rename refuses
	check(t, os.Rename(c, filepath.Join(sub2, "x", "c")))
	content(t, filepath.Join(sub2, "x", "c"), []byte("a"))
}

func renameOpen(t *testing.T, dir string) {
	sub := filepath.Join(dir, "sub")
	check(t, os.Mkdir(sub, 0o755))
	path := touch(t, sub, "f")
	d, err := os.Open(sub)
	check(t, err)
	defer d.Close()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	check(t, err)
	defer f.Close()
	check(t, os.Rename(sub, filepath.Join(dir, "elsewhere")))
	for _, open := range []*os.File{d, f} {
		if _, err := open.Stat(); err != nil {
			t.Errorf("fstat after the rename: %v", err)
		}
	}
	if names, err := d.Readdirnames(-1); err != nil || len(names) != 1 {
		t.Errorf("list after the rename: %v, %v", names, err)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(int(d.Fd()), "f", &st, 0); err != nil {
		t.Errorf("stat of a file in the renamed directory: %v", err)
	}
	_, err = f.WriteAt([]byte("F"), 0)
	check(t, err)
	content(t, filepath.Join(dir, "elsewhere", "f"), []byte("F"))
}

func renameFlags(t *testing.T, dir string) {
	a, b := touch(t, dir, "a"), touch(t, dir, "b")
	at := unix.AT_FDCWD
	errnoIs(t, "NOREPLACE", unix.Renameat2(at, a, at, b, unix.RENAME_NOREPLACE), unix.EEXIST)
	check(t, unix.Renameat2(at, a, at, b, unix.RENAME_EXCHANGE))
	content(t, a, []byte("b"))
	content(t, b, []byte("a"))
	errnoIs(t, "EXCHANGE with what does not exist", unix.Renameat2(at, a, at, filepath.Join(dir, "c"), unix.RENAME_EXCHANGE), unix.ENOENT)
	check(t, unix.Renameat2(at, a, at, filepath.Join(dir, "c"), unix.RENAME_NOREPLACE))
	content(t, filepath.Join(dir, "c"), []byte("b"))
}

func symlinks(t *testing.T, dir string) {
	touch(t, dir, "f")
	link := filepath.Join(dir, "link")
	check(t, os.Symlink("f", link))
	content(t, link, []byte("f"))
	target, err := os.Readlink(link)
	check(t, err)
	st, err := os.Lstat(link)
	check(t, err)
	if target != "f" || st.Mode().Type() != os.ModeSymlink || st.Size() != 1 {
		t.Errorf("target %q, mode %v, size %d", target, st.Mode(), st.Size())
	}
	long := strings.Repeat("x/", 1000)
	check(t, os.Symlink(long, filepath.Join(dir, "long")))
	if got, err := os.Readlink(filepath.Join(dir, "long")); err != nil || got != long {
		t.Errorf("long target: %d bytes, %v", len(got), err)
	}
	check(t, os.Symlink("loop", filepath.Join(dir, "loop")))
	_, err = os.Open(filepath.Join(dir, "loop"))
	errnoIs(t, "a link to itself", err, unix.ELOOP)
	errnoIs(t, "symlink of what exists", os.Symlink("x", link), unix.EEXIST)
}

func hardLinks(t *testing.T, dir string) {
	a, b := touch(t, dir, "a"), filepath.Join(dir, "b")
	check(t, os.Link(a, b))
	var sa, sb unix.Stat_t
	check(t, unix.Stat(a, &sa))
	check(t, unix.Stat(b, &sb))
	if sa.Ino != sb.Ino || sb.Nlink != 2 {
		t.Errorf("inodes %d and %d, links %d, want the same and 2", sa.Ino, sb.Ino, sb.Nlink)
	}
	check(t, os.WriteFile(b, []byte("new"), 0o644))
	content(t, a, []byte("new"))
	check(t, os.Remove(a))
	check(t, unix.Stat(b, &sb))
	if sb.Nlink != 1 {
		t.Errorf("links after a removal: got %d, want 1", sb.Nlink)
	}
	content(t, b, []byte("new"))
	check(t, os.Link(b, a))
	check(t, os.Rename(a, b)) // of one file: nothing happens
	content(t, a, []byte("new"))
	errnoIs(t, "link of what exists", os.Link(a, b), unix.EEXIST)
}

func fifo(t *testing.T, dir string) {
	path := filepath.Join(dir, "fifo")
	check(t, unix.Mkfifo(path, 0o600))
	st, err := os.Lstat(path)
	check(t, err)
	if st.Mode().Type() != os.ModeNamedPipe {
		t.Errorf("mode: got %v", st.Mode())
	}
	errnoIs(t, "mkfifo of what exists", unix.Mkfifo(path, 0o600), unix.EEXIST)
}

func mode(t *testing.T, dir string) {
	path := touch(t, dir, "f")
	for _, m := range []uint32{0o600, 0o4755, 0o444, 0o7777} {
		check(t, unix.Chmod(path, m))
		var st unix.Stat_t
		check(t, unix.Stat(path, &st))
		if st.Mode != unix.S_IFREG|m {
			t.Errorf("mode: got %o, want %o", st.Mode, unix.S_IFREG|m)
		}
	}
}

func times(t *testing.T, dir string) {
	path := touch(t, dir, "f")
	when := time.Unix(1234567890, 987654321)
	check(t, os.Chtimes(path, when.Add(time.Hour), when))
	var st unix.Stat_t
	check(t, unix.Stat(path, &st))
	if st.Mtim.Nano() != when.UnixNano() || st.Atim.Nano() != when.Add(time.Hour).UnixNano() {
		t.Errorf("mtime %d, atime %d, want %d and an hour more", st.Mtim.Nano(), st.Atim.Nano(), when.UnixNano())
	}
	now := time.Now().Add(-time.Minute)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	check(t, err)
	_, err = f.WriteString("x")
	check(t, err)
	check(t, f.Close())
	check(t, unix.Stat(path, &st))
	if st.Mtim.Nano() < now.UnixNano() {
		t.Errorf("mtime after a write: %v", time.Unix(st.Mtim.Unix()))
	}
}

func xattr(t *testing.T, dir string) {
	path := touch(t, dir, "f")
	buf := make([]byte, 100)
	_, err := unix.Getxattr(path, "user.a", buf)
	errnoIs(t, "what does not exist", err, unix.ENODATA)
	check(t, unix.Setxattr(path, "user.a", []byte("value"), 0))
	errnoIs(t, "CREATE of what exists", unix.Setxattr(path, "user.a", nil, unix.XATTR_CREATE), unix.EEXIST)
	errnoIs(t, "REPLACE of what does not", unix.Setxattr(path, "user.b", nil, unix.XATTR_REPLACE), unix.ENODATA)
	n, err := unix.Getxattr(path, "user.a", buf)
	check(t, err)
	if string(buf[:n]) != "value" {
		t.Errorf("value: got %q", buf[:n])
	}
	_, err = unix.Getxattr(path, "user.a", buf[:2])
	errnoIs(t, "too small a buffer", err, unix.ERANGE)
	n, err = unix.Listxattr(path, buf)
	check(t, err)
	if !slices.Contains(strings.Split(string(buf[:n]), "\x00"), "user.a") {
		t.Errorf("list: got %q", buf[:n])
	}
	check(t, unix.Removexattr(path, "user.a"))
	errnoIs(t, "remove twice", unix.Removexattr(path, "user.a"), unix.ENODATA)
}

func statfs(t *testing.T, dir string) {
	var st unix.Statfs_t
	check(t, unix.Statfs(dir, &st))
	if st.Bsize == 0 || st.Namelen == 0 || st.Bfree > st.Blocks {
		t.Errorf("block size %d, name length %d, %d of %d free", st.Bsize, st.Namelen, st.Bfree, st.Blocks)
	}
}

func longNames(t *testing.T, dir string) {
	name := strings.Repeat("n", 255)
	content(t, touch(t, dir, name), []byte(name))
	_, err := os.Create(filepath.Join(dir, name+"n"))
	errnoIs(t, "a name of 256 bytes", err, unix.ENAMETOOLONG)
	deep := dir
	for range 10 {
		deep = filepath.Join(deep, strings.Repeat("d", 200))
		check(t, os.Mkdir(deep, 0o755))
	}
	touch(t, deep, "f")
}

// parallel changes one directory from several goroutines.
func parallel(t *testing.T, dir string) {
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 50 {
				path := filepath.Join(dir, fmt.Sprintf("%d-%d", g, i%5))
				if err := os.WriteFile(path, []byte(path), 0o644); err != nil {
					t.Error(err)
				}
				if b, err := os.ReadFile(path); err != nil || string(b) != path {
					t.Errorf("%s: %q, %v", path, b, err)
				}
				if err := os.Rename(path, path+"x"); err != nil {
					t.Error(err)
				}
				if _, err := os.ReadDir(dir); err != nil {
					t.Error(err)
				}
				if err := os.Remove(path + "x"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if names, err := os.ReadDir(dir); err != nil || len(names) != 0 {
		t.Errorf("left over: %d names, %v", len(names), err)
	}
}
