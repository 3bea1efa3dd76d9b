package build

import (
	"cmp"
	"context"
	"errors"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

var (
	errChanged = errors.New("changed while it was read")
	errKind    = errors.New("is neither a file, a directory, a link, a device, a pipe nor a socket")
)

// fileID is what must not change of a file between the walk and the read,
// beside its device, its size and the time of its contents.
type fileID struct {
	ino       uint64
	ctime     int64
	ctimeNsec uint32
}

func idOf(st *unix.Stat_t) fileID {
	return fileID{ino: st.Ino, ctime: int64(st.Ctim.Sec), ctimeNsec: uint32(st.Ctim.Nsec)}
}

// scanner walks a directory source.
type scanner struct {
	b     *builder
	root  string
	links map[[2]uint64]*inode // files with several links, by device and inode
	files dirFiles
	place *dirPlace // of the file before
	names []byte    // room for a list of attribute names
	value []byte
}

// scan brings the names and attributes below d into the directory root.
func (d dirSource) scan(ctx context.Context, b *builder, root *inode) (dirFiles, error) {
	s := &scanner{b: b, root: strings.TrimSuffix(d.path, "/") + "/", links: map[[2]uint64]*inode{}}
	var st unix.Stat_t
	if err := unix.Stat(s.root, &st); err != nil {
		return nil, s.fail("", err)
	}
	root.setStat(&st)
	if err := s.xattrs(root, ""); err != nil {
		return nil, err
	}
	if err := s.dir(ctx, root, ""); err != nil {
		return nil, err
	}
	return s.files, nil
}

// fail returns err as an error of the file at that path below the root.
func (s *scanner) fail(path string, err error) error {
	var named *os.PathError
	if errors.As(err, &named) {
		err = named.Err
	}
	return &Error{Op: "read", Path: s.root + path, Err: err}
}

// dir reads the directory n, then the directories in it. prefix is its path
// below the root, "" or ending in "/".
func (s *scanner) dir(ctx context.Context, n *inode, prefix string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	f, err := os.Open(s.root + prefix)
	if err != nil {
		return s.fail(prefix, err)
	}
	defer f.Close()
	found, err := f.Readdirnames(-1)
	if err != nil {
		return s.fail(prefix, err)
	}
	slices.SortFunc(found, cmp.Compare[string])
	entries := make([]entry, 0, len(found))
	for _, name := range found {
		name = s.b.tree.spelling.keep(name)
		child, err := s.entry(int(f.Fd()), prefix, name)
		if err != nil {
			return err
		}
		entries = append(entries, entry{name, child})
	}
	f.Close()
	n.extra().list = entries
	for _, e := range entries {
		if e.node.isDir() {
			if err := s.dir(ctx, e.node, prefix+e.name+"/"); err != nil {
				return err
			}
		}
	}
	return nil
}

// entry reads the attributes of a name in the open directory dirfd.
func (s *scanner) entry(dirfd int, prefix, name string) (*inode, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(dirfd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, s.fail(prefix+name, err)
	}
	key := [2]uint64{uint64(st.Dev), st.Ino}
	shared := st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR
	if n := s.links[key]; shared && n != nil {
		return n, nil
	}
	n := &inode{}
	n.setStat(&st)
	if direntTypes[n.kind()] == 0 {
		return nil, s.fail(prefix+name, errKind)
	}
	if n.isSymlink() {
		buf := make([]byte, maxTarget+1)
		size, err := unix.Readlinkat(dirfd, name, buf)
		if err == nil && size > maxTarget {
			err = unix.ENAMETOOLONG
		}
		if err != nil {
			return nil, s.fail(prefix+name, err)
		}
		n.extra().target = string(buf[:size])
	}
	if err := s.xattrs(n, prefix+name); err != nil {
		return nil, err
	}
	if n.isRegular() && n.size > 0 {
		if s.place == nil || s.place.path != prefix || s.place.device != uint64(st.Dev) {
			s.place = &dirPlace{path: prefix, device: uint64(st.Dev)}
		}
		s.files.add(dirFile{node: n, dir: s.place, name: name, id: idOf(&st)})
	}
	if shared {
		s.links[key] = n
	}
	return n, nil
}

func (n *inode) setStat(st *unix.Stat_t) {
	n.mode, n.uid, n.gid = st.Mode, st.Uid, st.Gid
	n.mtime, n.mtimeNsec = st.Mtim.Sec, uint32(st.Mtim.Nsec)
	switch {
	case n.isRegular():
		n.size = st.Size
	case n.isDevice():
		major, minor := unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))
		n.rdev = minor&0xff | major<<8 | minor&^0xff<<12
	}
}

// xattrs gives n the extended attributes of the file at that path.
func (s *scanner) xattrs(n *inode, path string) error {
	if s.names == nil {
		s.names, s.value = make([]byte, 64<<10), make([]byte, 64<<10)
	}
	full := s.root + path
	size, err := unix.Llistxattr(full, s.names)
	if err == unix.ENOTSUP || size == 0 && err == nil {
		return nil
	}
	if err != nil {
		return s.fail(path, err)
	}
	var list []xattr
	for name := range strings.SplitSeq(strings.TrimSuffix(string(s.names[:size]), "\x00"), "\x00") {
		got, err := unix.Lgetxattr(full, name, s.value)
		if err == unix.ENODATA {
			continue
		}
		if err != nil {
			return s.fail(path, err)
		}
		list = append(list, xattr{name, string(s.value[:got])})
	}
	return s.b.tree.setXattrs(n, list, full)
}

// dirReader reads parts of one file for the pipeline. It keeps nothing open
// between them.
type dirReader struct {
	path string
	file *dirFile
	size int64
}

func (d dirSource) feed(b *builder, f *dirFile) error {
	r := &dirReader{path: strings.TrimSuffix(d.path, "/") + "/" + f.path(), file: f, size: f.node.size}
	data := []span{{0, r.size}}
	if r.size > int64(b.opt.ChunkSize) || r.size > slotSize {
		// Of a large file the holes matter.
		var err error
		if data, err = r.spans(); err != nil {
			return err
		}
	}
	return b.file(f.node, r, data, r.path)
}

// open opens the file and checks that it is the one of the walk.
func (r *dirReader) open() (int, error) {
	fd, err := unix.Open(r.path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, &Error{Op: "read", Path: r.path, Err: err}
	}
	if err := r.check(fd); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// check compares the file with what the walk saw of it.
func (r *dirReader) check(fd int) error {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	if err == nil && !r.same(&st) {
		err = errChanged
	}
	if err != nil {
		return &Error{Op: "read", Path: r.path, Err: err}
	}
	return nil
}

// same reports whether st is what the walk saw.
func (r *dirReader) same(st *unix.Stat_t) bool {
	f, n := r.file, r.file.node
	return idOf(st) == f.id && uint64(st.Dev) == f.dir.device && st.Size == r.size &&
		int64(st.Mtim.Sec) == n.mtime && uint32(st.Mtim.Nsec) == n.mtimeNsec
}

func (r *dirReader) fill(p []byte, off int64) error {
	fd, err := r.open()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for done := 0; done < len(p); {
		n, err := unix.Pread(fd, p[done:], off+int64(done))
		switch {
		case err == unix.EINTR:
			continue
		case err == nil && n == 0:
			err = errChanged
		}
		if err != nil {
			return &Error{Op: "read", Path: r.path, Err: err}
		}
		done += n
	}
	// The times tell of a write while the bytes were being read.
	return r.check(fd)
}

// spans returns the ranges of the file that are not holes.
func (r *dirReader) spans() ([]span, error) {
	fd, err := r.open()
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var out []span
	for at := int64(0); at < r.size; {
		start, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			break
		}
		end := r.size
		if err == nil {
			end, err = unix.Seek(fd, start, unix.SEEK_HOLE)
		}
		if err == unix.EINVAL || err == unix.ENOTSUP {
			return []span{{0, r.size}}, nil // the file system does not tell
		}
		if err != nil {
			return nil, &Error{Op: "read", Path: r.path, Err: err}
		}
		if end <= start || end > r.size {
			return nil, &Error{Op: "read", Path: r.path, Err: errChanged}
		}
		out = append(out, span{start, end})
		at = end
	}
	return out, nil
}
