package fs

import "github.com/sluicefs/sluice/fuse"

// Mount makes a file system of the tree at root, mounts it on dir and serves
// it in the background; when it returns the mount is ready. It ends with the
// server's Unmount. nil for options means the defaults of [NewNodeFS].
func Mount(dir string, root InodeEmbedder, options *Options) (*fuse.Server, error) {
	raw := NewNodeFS(root, options)
	var mo *fuse.MountOptions
	if options != nil {
		mo = &options.MountOptions
	}
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
