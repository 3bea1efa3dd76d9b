package fs

import "github.com/sluicefs/sluice/fuse"

// Mount makes a file system of the tree at root, mounts it on dir and serves
// it in the background; when it returns the mount is ready. It ends with the
// server's Unmount. nil for options means the defaults of [NewNodeFS].
// What it asks of the kernel is said at [Prepare].
func Mount(dir string, root InodeEmbedder, options *Options) (*fuse.Server, error) {
	raw, mo := Prepare(root, options)
	server, err := fuse.NewServer(raw, dir, mo)
	if err != nil {
		return nil, err
	}
	go server.Serve()
	if err := server.WaitMount(); err != nil {
		return nil, err // Serve ends by itself, as there is nothing to serve
	}
	return server, nil
}

// Prepare is the part of [Mount] that comes before the server: NewNodeFS, and
// a copy of the mount options to serve it with, in which more is switched on
// than in those of a server made by hand:
//
//   - Cached data of a file is dropped when its attributes show another size
//     or time of modification, unless ExplicitDataCacheControl is set.
//   - Attributes come with the listing of a directory only if they are wanted.
//   - With EnableAcl the umask does not count where a default ACL does.
//   - A loopback clears set-id bits itself, which spares a question before
//     each write. A tree with wrappers around loopback nodes does not.
func Prepare(root InodeEmbedder, options *Options) (fuse.RawFileSystem, *fuse.MountOptions) {
	raw := NewNodeFS(root, options)
	mo := new(fuse.MountOptions)
	if options != nil {
		*mo = options.MountOptions
	}
	// A listing without a stat of each name is many times cheaper. The kernel
	// asks for the attributes as well once it sees that they are wanted.
	mo.ExtraCapabilities |= fuse.CAP_READDIRPLUS_AUTO
	if b := raw.(*rawBridge); b.plainLoopback() && mo.DisabledCapabilities&fuse.CAP_HANDLE_KILLPRIV_V2 == 0 {
		b.killPriv = true
		mo.ExtraCapabilities |= fuse.CAP_HANDLE_KILLPRIV_V2
	}
	if mo.EnableAcl {
		mo.ExtraCapabilities |= fuse.CAP_SETXATTR_EXT // see SetXAttr
		mo.ExtraCapabilities |= fuse.CAP_DONT_MASK
	}
	return raw, mo
}
