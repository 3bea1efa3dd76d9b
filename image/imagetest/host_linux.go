package imagetest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/internal/testenv"
)

// MountEROFS mounts an image by the kernel, file-backed, with the files of
// its devices in the order of their table, and returns the mount point. The
// test has to be root and the kernel to know EROFS.
func MountEROFS(t testing.TB, file string, devices ...string) string {
	t.Helper()
	point := t.TempDir()
	var data []string
	for _, d := range devices {
		data = append(data, "device="+d)
	}
	err := unix.Mount(file, point, "erofs", unix.MS_RDONLY, strings.Join(data, ","))
	if err == unix.ENOTBLK || err != nil && onTmpfs(file) {
		testenv.Missing(t, "EROFS mounts of plain files", fmt.Sprintf("%v (they need Linux 6.12, and TMPDIR not on a tmpfs)", err))
	}
	if err != nil {
		t.Fatalf("mount erofs %s: %v", file, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(point, 0); err != nil {
			t.Errorf("unmount %s: %v", point, err)
			_ = unix.Unmount(point, unix.MNT_DETACH)
		}
	})
	return point
}

// onTmpfs reports whether a file lies on a tmpfs, from which the kernel mounts
// no EROFS.
func onTmpfs(file string) bool {
	var st unix.Statfs_t
	return unix.Statfs(file, &st) == nil && st.Type == unix.TMPFS_MAGIC
}

// HostEntry reads the entry called name below the directory root of a
// mounted file system; its NID is the st_ino.
func HostEntry(root, name string) (*Entry, error) {
	file := filepath.Join(root, name)
	var st unix.Stat_t
	if err := unix.Lstat(file, &st); err != nil {
		return nil, fmt.Errorf("lstat %s: %w", file, err)
	}
	e := &Entry{Path: name, Xattrs: map[string]string{}, Inode: image.Inode{
		NID: st.Ino, Size: uint64(st.Size), Blocks: uint64(st.Blocks), MTime: int64(st.Mtim.Sec), MTimeNsec: uint32(st.Mtim.Nsec),
		Mode: st.Mode, UID: st.Uid, GID: st.Gid, Nlink: uint32(st.Nlink), Rdev: encodeRdev(uint64(st.Rdev)),
	}}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		target, err := os.Readlink(file)
		if err != nil {
			return nil, err
		}
		e.Link = target
	}
	return e, hostXattrs(file, e.Xattrs)
}

func encodeRdev(dev uint64) uint32 {
	major, minor := unix.Major(dev), unix.Minor(dev)
	return minor&0xff | major<<8 | minor&^0xff<<12
}

func hostXattrs(file string, m map[string]string) error {
	buf := make([]byte, 65536)
	n, err := unix.Llistxattr(file, buf)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listxattr %s: %w", file, err)
	}
	value := make([]byte, 65536)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		k, err := unix.Lgetxattr(file, name, value)
		if err != nil {
			return fmt.Errorf("getxattr %s %s: %w", file, name, err)
		}
		m[name] = string(value[:k])
	}
	return nil
}

// HostSum returns the SHA-256 of a file in hex.
func HostSum(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// CompareHost compares all entries of the tree with the file system that is
// mounted at root, which the same image gave: names, all attributes, inode
// numbers, xattrs, link targets and, through sum, contents.
func CompareHost(t testing.TB, tree image.Tree, root string, sum func(*Entry) (string, error)) {
	t.Helper()
	seen := map[string]bool{}
	err := Walk(tree, 1e7, func(e *Entry) error {
		seen[e.Path] = true
		want, err := HostEntry(root, e.Path)
		if err != nil {
			return err
		}
		if e.Inode != want.Inode || e.Link != want.Link || !maps.Equal(e.Xattrs, want.Xattrs) {
			t.Errorf("%s\ngot  %+v\nwant %+v", e.Path, *e, *want)
		}
		if e.Mode&unix.S_IFMT != unix.S_IFREG {
			return nil
		}
		got, err := sum(e)
		if err != nil {
			return fmt.Errorf("%s: %w", e.Path, err)
		}
		content, err := HostSum(filepath.Join(root, e.Path))
		if err != nil {
			return err
		}
		if got != content {
			t.Errorf("%s: content: got sha256 %s, want %s", e.Path, got, content)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	for _, name := range slices.Sorted(maps.Keys(HostPaths(t, root))) {
		if !seen[name] {
			t.Errorf("%s: is missing", name)
		}
	}
}

// HostPaths returns all paths below root, from "/".
func HostPaths(t testing.TB, root string) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	err := filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		all[path.Join("/", strings.TrimPrefix(p, root))] = true
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return all
}

// HostLines returns the listing of the file system below root: [Entry.Line]
// by path, the size and blocks of directories left out.
func HostLines(t testing.TB, root string) map[string]string {
	t.Helper()
	lines := map[string]string{}
	for name := range HostPaths(t, root) {
		e, err := HostEntry(root, name)
		if err != nil {
			t.Fatal(err)
		}
		sum := ""
		switch e.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			e.Size = 0
		case unix.S_IFREG:
			if sum, err = HostSum(filepath.Join(root, name)); err != nil {
				t.Fatal(err)
			}
		}
		lines[name] = e.Line("", sum)
	}
	return lines
}

// SameLines compares two listings.
func SameLines(t testing.TB, got, want map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%s\ngot  %q\nwant %q", name, got[name], want[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok {
			t.Errorf("%s: is too much", name)
		}
	}
}
