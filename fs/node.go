package fs

import (
	"context"
	"syscall"

	"github.com/sluicefs/sluice/fuse"
)

// InodeEmbedder is a node: a type that embeds [Inode], by value. It adds what
// it can do by implementing the Node… interfaces of this package.
type InodeEmbedder interface {
	// embed keeps types that don't embed an Inode out.
	embed() *Inode

	// EmbeddedInode returns the embedded Inode.
	EmbeddedInode() *Inode
}

// The interfaces below each have one method, which answers one kind of
// request. out is zero when a method is called; what the method leaves unset
// is filled in by the library: number, type, timeouts. Byte slices that a
// method is given are lent for the call only. Methods are called by many
// goroutines at a time.

// NodeOnAdder is told when the node has become part of a file system: it has
// its StableAttr and may make children. No request for it has come yet.
type NodeOnAdder interface {
	OnAdd(ctx context.Context)
}

// NodeOnForgetter is told when the node is no longer reachable: the kernel
// has forgotten it, it is not (or no more) persistent, and no child is left
// in it. The root is told at unmount. A node may be revived by a Lookup that
// returns it again; it is then told again the next time.
type NodeOnForgetter interface {
	OnForget()
}

// NodeWrapChilder puts another node in the place of one that is made by
// NewInode or NewPersistentInode of this node, and so changes a ready-made
// file system: the wrapper embeds the type that it alters, overrides methods,
// and wraps the children in turn.
type NodeWrapChilder interface {
	WrapChild(ctx context.Context, ops InodeEmbedder) InodeEmbedder
}

// NodeStatfser answers statfs(2). Without it the answer is zeros.
type NodeStatfser interface {
	Statfs(ctx context.Context, out *fuse.StatfsOut) syscall.Errno
}

// NodeAccesser answers access(2), and chdir(2) and chroot(2) checks, if the
// kernel does not check by itself (mount option default_permissions). The
// caller in ctx has the real ids. Without it the permission bits that Getattr
// gives decide.
type NodeAccesser interface {
	Access(ctx context.Context, mask uint32) syscall.Errno
}

// NodeGetattrer gives the attributes. f is a handle on the node if one is
// open, as a node without a name may have nothing else; it may be nil.
// Without it all is zero but number, type and the default permissions.
type NodeGetattrer interface {
	Getattr(ctx context.Context, f FileHandle, out *fuse.AttrOut) syscall.Errno
}

// NodeStatxer answers statx(2) where the kernel asks for more than Getattr
// has. ENOSYS switches it off for the mount.
type NodeStatxer interface {
	Statx(ctx context.Context, f FileHandle, flags uint32, mask uint32, out *fuse.StatxOut) syscall.Errno
}

// NodeSetattrer changes those attributes that in names; out gets all, as from
// Getattr. f is the handle of an ftruncate(2), or nil. Without it: ENOTSUP.
type NodeSetattrer interface {
	Setattr(ctx context.Context, f FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno
}

// NodeGetxattrer puts the value of an extended attribute into dest and
// returns its length. If dest is too short (a length of 0 asks for the
// length) it returns the length needed and ERANGE. Without it: no attribute
// exists.
type NodeGetxattrer interface {
	Getxattr(ctx context.Context, attr string, dest []byte) (uint32, syscall.Errno)
}

// NodeSetxattrer sets an extended attribute: setxattr(2). Without it: ENOATTR.
type NodeSetxattrer interface {
	Setxattr(ctx context.Context, attr string, data []byte, flags uint32) syscall.Errno
}

// NodeRemovexattrer removes an extended attribute. Without it: ENOATTR.
type NodeRemovexattrer interface {
	Removexattr(ctx context.Context, attr string) syscall.Errno
}

// NodeListxattrer puts the names of the extended attributes into dest, each
// with a NUL behind it, and returns their length; ERANGE as in Getxattr.
// Without it the list is empty.
type NodeListxattrer interface {
	Listxattr(ctx context.Context, dest []byte) (uint32, syscall.Errno)
}

// NodeReadlinker gives the target of a symbolic link. The library only reads
// the slice.
type NodeReadlinker interface {
	Readlink(ctx context.Context) ([]byte, syscall.Errno)
}

// NodeOpener opens a file. The handle goes to the later calls, and may be nil
// if the node needs none. fuseFlags are FOPEN_… of package fuse. Without it:
// ENOTSUP.
type NodeOpener interface {
	Open(ctx context.Context, flags uint32) (fh FileHandle, fuseFlags uint32, errno syscall.Errno)
}

// NodeReader reads. The result may be bytes in dest, bytes elsewhere, or a
// range of a file; fewer than len(dest) bytes mean the end of the file.
// Without it the handle is asked ([FileReader]).
type NodeReader interface {
	Read(ctx context.Context, f FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno)
}

// NodeWriter writes, and returns how much was written. Without it the handle
// is asked ([FileWriter]).
type NodeWriter interface {
	Write(ctx context.Context, f FileHandle, data []byte, off int64) (written uint32, errno syscall.Errno)
}

// NodeWritever is NodeWriter for data that lies in several slices.
type NodeWritever interface {
	Writev(ctx context.Context, f FileHandle, data [][]byte, off int64) (written uint32, errno syscall.Errno)
}

// NodeFsyncer makes what was written durable; flags bit 0 means data only.
// Without it the handle is asked ([FileFsyncer]).
type NodeFsyncer interface {
	Fsync(ctx context.Context, f FileHandle, flags uint32) syscall.Errno
}

// NodeFlusher is told of each close(2) of a descriptor, of which a handle may
// see several. Its errno is what close returns. Without it the handle is
// asked, and if that has no Flush either all is well.
type NodeFlusher interface {
	Flush(ctx context.Context, f FileHandle) syscall.Errno
}

// NodeReleaser is told once for each handle that it will not be used any
// more. Nobody sees its errno.
type NodeReleaser interface {
	Release(ctx context.Context, f FileHandle) syscall.Errno
}

// NodeAllocater answers fallocate(2): mode has FALLOC_FL_….
type NodeAllocater interface {
	Allocate(ctx context.Context, f FileHandle, off uint64, size uint64, mode uint32) syscall.Errno
}

// NodeCopyFileRanger answers copy_file_range(2) between two files of this
// file system.
type NodeCopyFileRanger interface {
	CopyFileRange(ctx context.Context, fhIn FileHandle,
		offIn uint64, out *Inode, fhOut FileHandle, offOut uint64,
		len uint64, flags uint64) (uint32, syscall.Errno)
}

// NodeLseeker answers lseek(2) with SEEK_DATA and SEEK_HOLE. Without it a
// file is data up to its size.
type NodeLseeker interface {
	Lseek(ctx context.Context, f FileHandle, Off uint64, whence uint32) (uint64, syscall.Errno)
}

// NodeGetlker looks for a lock that stands in the way of lk, and puts it into
// out; out.Typ is F_UNLCK if there is none. Locks only come if
// MountOptions.EnableLocks is set.
type NodeGetlker interface {
	Getlk(ctx context.Context, f FileHandle, owner uint64, lk *fuse.FileLock, flags uint32, out *fuse.FileLock) syscall.Errno
}

// NodeSetlker takes, changes or gives back a lock, and fails with EAGAIN
// rather than wait. flags has FUSE_LK_FLOCK for flock(2).
type NodeSetlker interface {
	Setlk(ctx context.Context, f FileHandle, owner uint64, lk *fuse.FileLock, flags uint32) syscall.Errno
}

// NodeSetlkwer is NodeSetlker that waits. When ctx is cancelled it returns
// EINTR.
type NodeSetlkwer interface {
	Setlkw(ctx context.Context, f FileHandle, owner uint64, lk *fuse.FileLock, flags uint32) syscall.Errno
}

// NodeIoctler answers ioctl(2). Without it: ENOTTY.
type NodeIoctler interface {
	Ioctl(ctx context.Context, f FileHandle, cmd uint32, arg uint64, input []byte, output []byte) (result int32, errno syscall.Errno)
}

// NodeLookuper finds a name in a directory: it returns the inode (from
// NewInode, or one that is known) and fills out with its attributes. ENOENT
// may come with a timeout in out, for which the kernel then remembers it.
// Without it the children in the tree are the directory.
type NodeLookuper interface {
	Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*Inode, syscall.Errno)
}

// NodeLookupNoder finds an inode by its number alone. Only the root is asked:
// for file handles of NFS, or of name_to_handle_at(2), which are older than
// the mount. The inode must have that number.
type NodeLookupNoder interface {
	LookupNode(ctx context.Context, id uint64, out *fuse.EntryOut) (*Inode, syscall.Errno)
}

// NodeLookupParenter finds the directory that the node is in, and its name
// there: what NodeLookupNoder is for "..". out gets the attributes of the
// directory.
type NodeLookupParenter interface {
	LookupParent(ctx context.Context, out *fuse.EntryOut) (parent *Inode, name string, errno syscall.Errno)
}

// NodeOpendirer is asked whether a directory may be read.
type NodeOpendirer interface {
	Opendir(ctx context.Context) syscall.Errno
}

// NodeOpendirHandler opens a directory with a handle, which has to have
// [FileReaddirenter]. It goes before NodeOpendirer and NodeReaddirer.
type NodeOpendirHandler interface {
	OpendirHandle(ctx context.Context, flags uint32) (fh FileHandle, fuseFlags uint32, errno syscall.Errno)
}

// NodeReaddirer lists a directory. Lists of an unchanged directory must have
// the same order. Without it the children in the tree are listed.
type NodeReaddirer interface {
	Readdir(ctx context.Context) (DirStream, syscall.Errno)
}

// NodeMkdirer makes a directory. Without it: ENOTSUP.
type NodeMkdirer interface {
	Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*Inode, syscall.Errno)
}

// NodeMknoder makes a file of any type but directory and symbolic link.
// Without it: ENOTSUP.
type NodeMknoder interface {
	Mknod(ctx context.Context, name string, mode uint32, dev uint32, out *fuse.EntryOut) (*Inode, syscall.Errno)
}

// NodeLinker gives target one more name. Without it: ENOTSUP.
type NodeLinker interface {
	Link(ctx context.Context, target InodeEmbedder, name string, out *fuse.EntryOut) (node *Inode, errno syscall.Errno)
}

// NodeSymlinker makes a symbolic link. Without it: ENOTSUP.
type NodeSymlinker interface {
	Symlink(ctx context.Context, target, name string, out *fuse.EntryOut) (node *Inode, errno syscall.Errno)
}

// NodeCreater makes a file and opens it. Without it: EROFS.
type NodeCreater interface {
	Create(ctx context.Context, name string, flags uint32, mode uint32, out *fuse.EntryOut) (node *Inode, fh FileHandle, fuseFlags uint32, errno syscall.Errno)
}

// NodeTmpfiler makes and opens a file without a name: O_TMPFILE. The caller
// may give it one with linkat(2), which arrives as a Link. Without it:
// EOPNOTSUPP; ENOSYS switches O_TMPFILE off for the mount.
type NodeTmpfiler interface {
	Tmpfile(ctx context.Context, flags uint32, mode uint32, out *fuse.EntryOut) (node *Inode, fh FileHandle, fuseFlags uint32, errno syscall.Errno)
}

// NodeUnlinker removes a name that is not a directory's. On success the name
// leaves the tree. Without it the tree alone changes.
type NodeUnlinker interface {
	Unlink(ctx context.Context, name string) syscall.Errno
}

// NodeRmdirer removes an empty directory; otherwise as NodeUnlinker.
type NodeRmdirer interface {
	Rmdir(ctx context.Context, name string) syscall.Errno
}

// NodeRenamer moves a name; flags are those of renameat2(2). On success the
// tree follows. Without it: ENOTSUP.
type NodeRenamer interface {
	Rename(ctx context.Context, name string, newParent InodeEmbedder, newName string, flags uint32) syscall.Errno
}

// NodeSyncfser makes all of the file system durable: syncfs(2). The root is
// asked. Without it all is well.
type NodeSyncfser interface {
	Syncfs(ctx context.Context) syscall.Errno
}
