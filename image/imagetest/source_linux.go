package imagetest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Source makes a directory with everything that an image can hold: files of
// sizes around the block size, files with holes, hard links, symbolic links, devices, a
// fifo, a socket, directories of one entry to several blocks, odd names,
// owners, times and xattrs. It is the same each time. The test has to be
// root.
func Source(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	s := &source{t: t, root: root, rand: rand.New(rand.NewPCG(1, 2))}
	s.files()
	s.specials()
	s.dirs()
	s.attributes()
	s.times()
	return root
}

type source struct {
	t    testing.TB
	root string
	rand *rand.Rand
}

func (s *source) do(what string, err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("source: %s: %v", what, err)
	}
}

func (s *source) path(name string) string { return filepath.Join(s.root, name) }

func (s *source) file(name string, data []byte) {
	s.t.Helper()
	s.do(name, os.MkdirAll(filepath.Dir(s.path(name)), 0o755))
	s.do(name, os.WriteFile(s.path(name), data, 0o644))
}

// random returns n bytes; half of them can be compressed.
func (s *source) random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		if i/512%2 == 0 {
			b[i] = byte(s.rand.Uint32())
		} else {
			b[i] = byte(i >> 6)
		}
	}
	return b
}

func (s *source) files() {
	for _, n := range [...]int{0, 1, 100, 511, 4000, 4095, 4096, 4097, 8192, 65536, 70000, 1<<20 - 1, 1 << 20, 1<<20 + 1, 3<<20 + 777} {
		s.file(fmt.Sprintf("sizes/%d", n), s.random(n))
	}
	same := s.random(200000)
	s.file("same/a", same)
	s.file("same/b", same)
	s.file("same/zeros", make([]byte, 300000))
	s.do("hard link", os.MkdirAll(s.path("links"), 0o755))
	for _, n := range [...]string{"links/x", "links/y", "same/hard"} {
		s.do(n, os.Link(s.path("same/a"), s.path(n)))
	}
	f, err := os.Create(s.path("hole"))
	s.do("hole", err)
	_, err = f.WriteAt([]byte("end"), 5<<20)
	s.do("hole", err)
	s.do("hole", f.Close())
	s.sparse()
}

// sparse makes files with holes of several sizes at several places.
func (s *source) sparse() {
	for _, x := range [...]struct {
		name string
		size int64
		data [][2]int64 // ranges
	}{
		{"sparse/all", 3 << 20, nil},
		{"sparse/begin", 2<<20 + 5, [][2]int64{{0, 100_000}}},
		{"sparse/middle", 4 << 20, [][2]int64{{1 << 20, 1<<20 + 70_000}, {3 << 20, 3<<20 + 1}}},
		{"sparse/odd", 1_000_001, [][2]int64{{12_345, 23_456}, {500_000, 700_000}, {1_000_000, 1_000_001}}},
		{"sparse/comb", 2 << 20, [][2]int64{{0, 1}, {128 << 10, 192 << 10}, {256 << 10, 320 << 10}, {384 << 10, 448 << 10}}},
	} {
		s.file(x.name, nil)
		f, err := os.OpenFile(s.path(x.name), os.O_WRONLY, 0)
		s.do(x.name, err)
		s.do(x.name, f.Truncate(x.size))
		for _, r := range x.data {
			_, err := f.WriteAt(s.random(int(r[1]-r[0])), r[0])
			s.do(x.name, err)
		}
		s.do(x.name, f.Close())
	}
}

func (s *source) specials() {
	s.do("dir", os.Mkdir(s.path("special"), 0o750))
	for name, target := range map[string]string{
		"special/link": "../sizes/100", "special/dangling": "/no/such", "special/long": strings.Repeat("long/", 700) + "x",
	} {
		s.do(name, os.Symlink(target, s.path(name)))
	}
	for _, d := range [...]struct {
		name         string
		mode         uint32
		major, minor uint32
	}{
		{"special/null", unix.S_IFCHR | 0o666, 1, 3},
		{"special/big-minor", unix.S_IFCHR | 0o600, 10, 1000},
		{"special/disk", unix.S_IFBLK | 0o660, 8, 1},
		{"special/fifo", unix.S_IFIFO | 0o644, 0, 0},
		{"special/socket", unix.S_IFSOCK | 0o755, 0, 0},
	} {
		s.do(d.name, unix.Mknod(s.path(d.name), d.mode, int(unix.Mkdev(d.major, d.minor))))
	}
}

func (s *source) dirs() {
	s.do("empty", os.Mkdir(s.path("empty"), 0o700))
	for i := range 600 {
		s.file(fmt.Sprintf("many/entry-%04d-%s", i, strings.Repeat("n", i%40)), nil)
	}
	for i := range 40 {
		s.file(fmt.Sprintf("wide/%02d%s", i, strings.Repeat("w", 252)), []byte{byte(i)})
	}
	for _, n := range [...]string{"!before-dot", "-dash", "a b\tc", "ümläut", "\xff\xfe", ".hidden", "..x"} {
		s.file("odd/"+n, []byte(n))
	}
	s.file("deep/"+strings.Repeat("d/", 40)+"leaf", []byte("leaf"))
}

// aclUser is an access list that lets the user 65534 read what is the owner's
// alone, in the form of POSIX_ACL_XATTR_VERSION 2 (include/uapi/linux/posix_acl_xattr.h).
const aclUser = "\x02\x00\x00\x00" +
	"\x01\x00\x06\x00\xff\xff\xff\xff" + // owner: rw-
	"\x02\x00\x04\x00\xfe\xff\x00\x00" + // user 65534: r--
	"\x04\x00\x00\x00\xff\xff\xff\xff" + // group: ---
	"\x10\x00\x04\x00\xff\xff\xff\xff" + // mask: r--
	"\x20\x00\x00\x00\xff\xff\xff\xff" // others: ---

func (s *source) attributes() {
	for _, x := range [...]struct{ name, attr, value string }{
		{"sizes/100", "user.one", "1"},
		{"sizes/100", "user.empty", ""},
		{"sizes/4096", "security.capability", "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"},
		{"many", "trusted.overlay.opaque", "y"},
		{"sizes/1048575", "system.posix_acl_access", aclUser},
		{"empty", "system.posix_acl_default", aclUser},
		{"same/b", "user.big", strings.Repeat("v", 2000)},
		{"sizes/1", "user.shared", "the same on both"},
		{"sizes/511", "user.shared", "the same on both"},
		{"sizes/4000", "user.shared", "the same on both"},
	} {
		s.do(x.attr, unix.Setxattr(s.path(x.name), x.attr, []byte(x.value), 0))
	}
	s.do("mode", os.Chmod(s.path("sizes/4095"), 0o755|os.ModeSetuid|os.ModeSetgid))
	s.do("mode", os.Chmod(s.path("many"), 0o777|os.ModeSticky))
	s.do("owner", os.Lchown(s.path("sizes/8192"), 1000, 1001))
	s.do("owner", os.Lchown(s.path("sizes/65536"), 70000, 80000))
	s.do("owner", os.Lchown(s.path("special/link"), 5, 6))
}

// times sets all times, the deepest first, for a listing that is the same
// each time.
func (s *source) times() {
	var all []string
	for p := range HostPaths(s.t, s.root) {
		all = append(all, p)
	}
	for _, p := range all {
		sec := int64(1600000000 + len(p)*1000)
		ts := []unix.Timespec{{Sec: sec}, {Sec: sec, Nsec: int64(len(p)) * int64(time.Millisecond)}}
		s.do("times", unix.UtimesNanoAt(unix.AT_FDCWD, s.path(p), ts, unix.AT_SYMLINK_NOFOLLOW))
	}
}
