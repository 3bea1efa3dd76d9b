package build

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/image/imagetest"
)

// makeSource makes a directory with every kind of file that this user may
// make, and returns its path.
func makeSource(t testing.TB) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "source")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(root, 0o755))
	file := func(name string, b []byte, mode fs.FileMode) {
		t.Helper()
		path := filepath.Join(root, name)
		must(os.MkdirAll(filepath.Dir(path), 0o755))
		must(os.WriteFile(path, b, 0o644))
		must(os.Chmod(path, mode))
	}
	file("empty", nil, 0o600)
	file("one", []byte("x"), 0o644)
	file("text", text(1, 300_000), 0o640)
	file("random", randomBytes(2, 2_500_000), 0o755|fs.ModeSetuid)
	file("big", text(3, 3<<20), 0o644)
	file("twice/a", text(4, 70_000), 0o644)
	file("twice/b", text(4, 70_000), 0o644)
	file("!first", []byte("before dot"), 0o644)
	file("a/b/c/d/deep", text(5, 4096), 0o444)
	file("привет/мир", text(6, 4097), 0o644)
	for i := range 700 {
		file(filepath.Join("many", strings.Repeat("n", 1+i%200)+hex.EncodeToString([]byte{byte(i >> 8), byte(i)})), text(uint64(i), i*7), 0o644)
	}
	must(os.Mkdir(filepath.Join(root, "nothing"), 0o711|fs.ModeSticky))
	must(os.Link(filepath.Join(root, "text"), filepath.Join(root, "a/text-link")))
	must(os.Symlink("../text", filepath.Join(root, "a/short")))
	must(os.Symlink(strings.Repeat("long/", 800)+"x", filepath.Join(root, "a/long")))
	must(os.Symlink(strings.Repeat("y", 4090), filepath.Join(root, "a/longer")))
	must(unix.Mkfifo(filepath.Join(root, "pipe"), 0o620))
	sparse, err := os.Create(filepath.Join(root, "sparse"))
	must(err)
	_, err = sparse.WriteAt([]byte("start"), 0)
	must(err)
	_, err = sparse.WriteAt([]byte("end"), 9<<20)
	must(err)
	must(sparse.Close())
	for _, name := range []string{"one", "two"} {
		file("x/"+name, []byte(name), 0o644)
		unix.Setxattr(filepath.Join(root, "x", name), "user.same", []byte("value\x00binary"), 0)
		unix.Setxattr(filepath.Join(root, "x", name), "user.other", bytes.Repeat([]byte("v"), 300), 0)
	}
	if os.Geteuid() == 0 {
		must(unix.Mknod(filepath.Join(root, "char"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 7))))
		must(unix.Mknod(filepath.Join(root, "block"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70000))))
		must(unix.Mknod(filepath.Join(root, "socket"), unix.S_IFSOCK|0o600, 0))
		must(os.Lchown(filepath.Join(root, "one"), 70000, 80000))
		must(os.Lchown(filepath.Join(root, "a/short"), 3, 4))
	}
	n := 0
	must(filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		n++
		at := unix.NsecToTimespec(time.Date(2001, 2, 3, 4, 5, n, n*1000, time.UTC).UnixNano())
		must(unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW))
		return err
	}))
	return root
}

// osLines lists a real directory tree as imagetest does an image: one line
// for each path, contents by SHA-256.
func osLines(t testing.TB, root string) map[string]string {
	t.Helper()
	lines := map[string]string{}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		var n inode
		n.setStat(&st)
		e := imagetest.Entry{Path: "/" + strings.TrimPrefix(strings.TrimPrefix(path, root), "/"), Xattrs: map[string]string{}}
		e.Mode, e.UID, e.GID, e.Nlink, e.Rdev = n.mode, n.uid, n.gid, uint32(st.Nlink), n.rdev
		e.MTime = n.mtime
		sum := ""
		switch {
		case n.isSymlink():
			if e.Link, err = os.Readlink(path); err != nil {
				return err
			}
			e.Size = uint64(len(e.Link))
		case n.isRegular():
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			s := sha256.Sum256(b)
			e.Size, sum = uint64(len(b)), hex.EncodeToString(s[:])
		}
		buf := make([]byte, 1<<16)
		size, err := unix.Llistxattr(path, buf)
		if err != nil && err != unix.ENOTSUP {
			return err
		}
		for name := range strings.SplitSeq(string(buf[:max(size, 0)]), "\x00") {
			if name != "" {
				value := make([]byte, 1<<16)
				n, err := unix.Lgetxattr(path, name, value)
				if err != nil {
					return err
				}
				e.Xattrs[name] = string(value[:n])
			}
		}
		if e.Path == "/." {
			e.Path = "/"
		}
		lines[e.Path] = e.Line("-", sum)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}
