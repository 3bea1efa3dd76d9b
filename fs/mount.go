package fs

import "github.com/sluicefs/sluice/fuse"

// Mount makes a file system of the tree at root, mounts it on dir and serves
// it in the background; when it returns the mount is ready. It ends with the
// server's Unmount. nil for options means the defaults of [NewNodeFS].
//
// Unlike a server made by fuse.NewServer, the kernel drops cached data of a
// file when its attributes show another size or time of modification, unless
// the options have ExplicitDataCacheControl.
func Mount(dir string, root InodeEmbedder, options *Options) (*fuse.Server, error) {
	raw := NewNodeFS(root, options)
	var mo fuse.MountOptions
	if options != nil {
		mo = options.MountOptions
	}
	// A listing without a stat of each name is many times cheaper. The kernel
	// asks for the attributes as well once it sees that they are wanted.
	mo.ExtraCapabilities |= fuse.CAP_READDIRPLUS_AUTO
	mo.AutoInvalData = !mo.ExplicitDataCacheControl
	if b := raw.(*rawBridge); b.plainLoopback() && mo.DisabledCapabilities&fuse.CAP_HANDLE_KILLPRIV_V2 == 0 {
		b.killPriv = true
		mo.ExtraCapabilities |= fuse.CAP_HANDLE_KILLPRIV_V2
	}
	if mo.EnableAcl { // the umask must not count where a default ACL does
		mo.ExtraCapabilities |= fuse.CAP_DONT_MASK
	}
	server, err := fuse.NewServer(raw, dir, &mo)
	if err != nil {
		return nil, err
	}
	go server.Serve()
	if err := server.WaitMount(); err != nil {
		return nil, err // Serve ends by itself, as there is nothing to serve
	}
	return server, nil
}
