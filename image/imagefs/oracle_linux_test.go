package imagefs_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/image/build"
	"github.com/sluicefs/sluice/image/detect"
	"github.com/sluicefs/sluice/image/direct"
	"github.com/sluicefs/sluice/image/imagefs"
	"github.com/sluicefs/sluice/image/imagetest"
	"github.com/sluicefs/sluice/internal/testenv"
	"github.com/sluicefs/sluice/storage"
)

// lookAt names a directory in the environment of a child that prints what it
// finds there: a process must not map files of a file system that it serves.
const lookAt = "IMAGEFS_TEST_LOOK_AT"

func TestMain(m *testing.M) {
	if root := os.Getenv(lookAt); root != "" {
		out := bufio.NewWriter(os.Stdout)
		if err := look(out, root); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		out.Flush()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestIntegrationBesideTheKernelsDriver mounts images by the kernel's EROFS
// driver and by an FS, and compares all that programs can see of each entry.
func TestIntegrationBesideTheKernelsDriver(t *testing.T) {
	testenv.MountFUSE(t)
	testenv.Filesystem(t, "erofs")
	src := imagetest.Source(t)
	putProgram(t, src)
	for name, o := range map[string]build.Options{
		"holes":      {ChunkSize: 64 << 10, NullHoles: true, Compressor: storage.Zstd},
		"small":      {ChunkSize: 4096, NullHoles: true},
		"compressed": {Compressor: storage.LZ4Block},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			boot := filepath.Join(dir, "image.boot")
			if _, err := build.Create(t.Context(), build.Dir(src), build.Output{Bootstrap: boot, BlobDir: dir}, o); err != nil {
				t.Fatal(err)
			}
			tree, err := detect.Open(boot, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { tree.Close() })
			blobs, err := direct.OpenDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { blobs.Close() })
			r := direct.NewReader(blobs)
			want := seen(t, imagetest.MountEROFS(t, boot, imagetest.Flatten(t, tree, r.Chunk)...))
			got := seen(t, mount(t, imagefs.New(tree, &oneByOne{r: r}, imagefs.Options{})))
			compare(t, got, want)
			if o.NullHoles && strings.Count(got[`"/sparse/middle" borders`], " ") < 2 {
				t.Errorf("no holes were seen in a file that has some: borders %s", got[`"/sparse/middle" borders`])
			}
		})
	}
}

// oneByOne lets the requests of a mount share a reader that is not safe for
// concurrent use.
type oneByOne struct {
	mu sync.Mutex
	r  storage.Reader
}

func (o *oneByOne) ReadExtents(ctx context.Context, p []byte, ext []storage.Extent) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.r.ReadExtents(ctx, p, ext)
}

// mount shows f as serve does.
func mount(t *testing.T, f *imagefs.FS) string {
	t.Helper()
	point := t.TempDir()
	s, err := fuse.NewServer(f, point, &fuse.MountOptions{
		Name: "sluice", AllowOther: true, Options: []string{"ro", "default_permissions"},
		EnableSymlinkCaching: true, EnableAcl: true, MaxWrite: 1 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve() }()
	t.Cleanup(func() {
		if err := s.Unmount(); err != nil {
			t.Errorf("unmount: %v", err)
			_ = unix.Unmount(point, unix.MNT_DETACH)
		}
		<-done
	})
	if err := s.WaitMount(); err != nil {
		t.Fatal(err)
	}
	return point
}

// putProgram puts a program into the tree that is to run there: one that is
// linked statically, this test's own.
func putProgram(t *testing.T, root string) {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "program"), self, 0o755); err != nil {
		t.Fatal(err)
	}
}

// seen returns what a child sees below point, line by line, by the path and
// the kind of fact that a line begins with.
func seen(t *testing.T, point string) map[string]string {
	t.Helper()
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), lookAt+"="+point)
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("looking at %s: %v", point, err)
	}
	facts := map[string]string{}
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " = ")
		facts[key] = value
	}
	return facts
}

func compare(t *testing.T, got, want map[string]string) {
	t.Helper()
	if len(want) < 1000 {
		t.Fatalf("only %d facts were found", len(want))
	}
	for key, w := range want {
		if g, ok := got[key]; !ok || g != w {
			t.Errorf("%s\ngot  %.2000q\nwant %.2000q", key, g, w)
		}
	}
	for key := range got {
		if _, ok := want[key]; !ok {
			t.Errorf("%s = %q: the kernel's driver does not show that", key, got[key])
		}
	}
}

// look prints what programs see of the file system at root.
func look(out *bufio.Writer, root string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return err
	}
	// How many blocks and inodes there are is another thing in a file system
	// whose data lies elsewhere, and what of them is free is random in EROFS.
	fmt.Fprintf(out, "%q statfs = bsize %d frsize %d namelen %d free %d %d, blocks %v, read-only %v\n", "/",
		st.Bsize, st.Frsize, st.Namelen, st.Bfree, st.Bavail, st.Blocks > 0, st.Flags&unix.ST_RDONLY != 0)
	if err := asOther(out, root); err != nil {
		return err
	}
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		f := facts{out, path, strings.TrimPrefix(path, root)}
		if err := f.entry(); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		switch {
		case d.IsDir():
			return f.directory()
		case d.Type().IsRegular():
			return f.regular()
		}
		return nil
	})
}

// asOther prints what a user may do whom only an access list names, runs a
// program, and tries to write.
func asOther(out *bufio.Writer, root string) error {
	for _, id := range []uint32{65534, 65533} {
		c := exec.Command("cat", filepath.Join(root, "sizes/1048575"))
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
		b, err := c.Output()
		fmt.Fprintf(out, "%q readable by %d = %v, %d bytes\n", "/sizes/1048575", id, err == nil, len(b))
	}
	c := exec.Command(filepath.Join(root, "program"), "-test.run=^$")
	c.Env = []string{}
	b, err := c.CombinedOutput()
	fmt.Fprintf(out, "%q runs = %v %q\n", "/program", err, b)
	_, err = os.OpenFile(filepath.Join(root, "sizes/1"), os.O_WRONLY, 0)
	_, isErrno := err.(*fs.PathError)
	fmt.Fprintf(out, "%q writable = %v %v\n", "/sizes/1", isErrno, isErrno && err.(*fs.PathError).Err == unix.EROFS)
	return nil
}

type facts struct {
	out        *bufio.Writer
	path, name string
}

func (f *facts) say(kind, format string, args ...any) {
	fmt.Fprintf(f.out, "%q %s = %s\n", f.name, kind, fmt.Sprintf(format, args...))
}

// entry prints attributes, target and extended attributes.
func (f *facts) entry() error {
	e, err := imagetest.HostEntry("", f.path)
	if err != nil {
		return err
	}
	f.say("inode", "%+v", e.Inode)
	if e.Link != "" {
		f.say("link", "%q", e.Link)
	}
	size, err := unix.Llistxattr(f.path, nil)
	if err != nil {
		return err
	}
	names := 0
	for name, value := range e.Xattrs {
		names += len(name) + 1
		f.say("xattr "+name, "%q", value)
		n, err := unix.Lgetxattr(f.path, name, nil)
		if err != nil || n != len(value) {
			f.say("size of xattr "+name, "%d, %v for %d", n, err, len(value))
		}
		if len(value) > 1 {
			_, err = unix.Lgetxattr(f.path, name, make([]byte, len(value)-1))
			f.say("xattr in too little room "+name, "%v", err)
		}
	}
	if names > 0 {
		_, err = unix.Llistxattr(f.path, make([]byte, 1))
		f.say("xattrs in too little room", "%v", err)
	}
	_, err = unix.Lgetxattr(f.path, "user.none", nil)
	f.say("xattrs", "%d bytes of names, %d as listed, absent: %v", names, size, err)
	return nil
}

// directory prints the names in their order, and what comes behind each when
// the directory is entered there.
func (f *facts) directory() error {
	fd, err := unix.Open(f.path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	all, err := list(fd)
	if err != nil {
		return err
	}
	var order []string
	for _, d := range all {
		order = append(order, fmt.Sprintf("%s:%d:%d", d.name, d.kind, d.ino))
	}
	f.say("order", "%q", order)
	for i, d := range all {
		if i > 20 && i%50 != 0 {
			continue
		}
		if _, err := unix.Seek(fd, d.next, 0); err != nil {
			return err
		}
		rest, err := list(fd)
		if err != nil {
			return err
		}
		first := ""
		if len(rest) > 0 {
			first = rest[0].name
		}
		f.say("behind "+fmt.Sprintf("%q", d.name), "%q and %d more", first, max(0, len(rest)-1))
	}
	return nil
}

type dirent struct {
	name string
	kind byte
	ino  uint64
	next int64
}

// list reads the entries of a directory from where fd is.
func list(fd int) (all []dirent, err error) {
	buf := make([]byte, 2000) // so that large directories take many calls
	for {
		n, err := unix.Getdents(fd, buf)
		if err != nil || n == 0 {
			return all, err
		}
		for b := buf[:n]; len(b) > 0; {
			size := int(b[16]) | int(b[17])<<8
			name, _, _ := strings.Cut(string(b[19:size]), "\x00")
			le := func(p []byte) (v uint64) {
				for i := range 8 {
					v |= uint64(p[i]) << (8 * i)
				}
				return v
			}
			all = append(all, dirent{name, b[18], le(b), int64(le(b[8:]))})
			b = b[size:]
		}
	}
}

// regular prints contents, as read and as mapped, and where data and holes
// are.
func (f *facts) regular() error {
	fd, err := unix.Open(f.path, unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	size, err := unix.Seek(fd, 0, 2)
	if err != nil {
		return err
	}
	sum := sha256.New()
	buf := make([]byte, 100_000)
	for off := int64(0); ; {
		n, err := unix.Pread(fd, buf, off)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		sum.Write(buf[:n])
		off += int64(n)
	}
	f.say("read", "%x", sum.Sum(nil))
	var mapped []byte
	if size > 0 {
		if mapped, err = unix.Mmap(fd, 0, int(size), unix.PROT_READ, unix.MAP_SHARED); err != nil {
			return err
		}
		defer func() { _ = unix.Munmap(mapped) }()
	}
	f.say("mapped", "%x", sha256.Sum256(mapped))
	f.say("seek", "%v", seeks(fd, size))
	return f.holes(fd, size, mapped)
}

// seeks are the answers to SEEK_DATA and SEEK_HOLE at places where they are
// easily wrong.
func seeks(fd int, size int64) (out []string) {
	places := []int64{0, 1, 4095, 4096, 64<<10 - 1, 64 << 10, 1<<20 - 1, 1 << 20, size / 2, size - 1, size, size + 1, 1 << 40}
	slices.Sort(places)
	for _, off := range slices.Compact(places) {
		if off < 0 {
			continue
		}
		for _, whence := range []int{unix.SEEK_DATA, unix.SEEK_HOLE} {
			at, err := unix.Seek(fd, off, whence)
			if err != nil {
				at = -1
			}
			out = append(out, fmt.Sprintf("%d/%d:%d,%v", off, whence, at, err))
		}
	}
	return out
}

// holes prints the borders of data and holes from one to the next, and says
// so if a hole is not all zeros.
func (f *facts) holes(fd int, size int64, mapped []byte) error {
	var borders []int64
	whence := unix.SEEK_DATA
	for off := int64(0); off < size; whence = unix.SEEK_DATA + unix.SEEK_HOLE - whence {
		next, err := unix.Seek(fd, off, whence)
		if err == unix.ENXIO {
			next = size // no more data
		} else if err != nil {
			return err
		}
		if whence == unix.SEEK_DATA && slices.ContainsFunc(mapped[off:next], func(b byte) bool { return b != 0 }) {
			f.say("hole with data", "%d to %d", off, next)
		}
		borders = append(borders, next)
		off = next
	}
	f.say("borders", "%v", borders)
	return nil
}
