// Package vfs puts many file systems under one root, behind one FUSE session:
// a union. File systems are attached at paths, replaced and detached while the
// union is mounted and in use; the kernel sees one file system.
//
//	u := vfs.New(nil)
//	server, err := fuse.Mount("/mnt", u, nil)
//	m, err := u.Attach("/images/debian", imageFS)   // a fuse.RawFileSystem
//	err = u.Detach(ctx, "/images/debian", vfs.Lazy)
//
// # Node ids
//
// A node id of the kernel has a slot in its upper 16 bits and the id of the
// attached file system in the lower 48. Slot 0 is the union's own tree: the
// root, if nothing is attached there, and the directories on the way to what
// is attached. A file system whose ids need more than 47 bits gets a table
// that numbers them. A slot is used again only when the kernel has forgotten
// each node that it got from it and closed each file, so an id never means two
// things; each use of a slot has another generation. Inode numbers, as stat(2)
// shows them, are made different in the same way, except for a file system
// that is attached at the root, which keeps its own.
//
// # What crosses and what does not
//
// Renames, links and copies between attached file systems fail with EXDEV, as
// between mounts. A name that leads to an attached file system can be neither
// removed nor renamed: EBUSY. What is attached below a path that another file
// system provides hides what that has there.
//
// Each file system gets its own view of the server, so its notifications and
// late answers need not know that it is one of many. ENOSYS, which the kernel
// would remember for all of them, is turned into what it means for one.
//
// # Detaching
//
// A lazy detach takes the file system out of the tree; those who use files of
// it go on until they have closed them. A strict one waits for operations that
// are under way and answers what comes later with ESTALE. In both cases the
// kernel is told to drop the name at once, [Mount.Done] tells when the file
// system is used no more.
//
// # Another process
//
// A union is [fuse.Stateful]: one in another process, with the same file
// systems attached, goes on with the same node ids. After a planned change of
// process ([FS.Exact]) it also knows what the kernel holds of each; after a
// crash it does not, and a file system from before that is detached lazily is
// served until the unmount.
//
// # Locks
//
// FS.mu guards the tree and the table of slots for writing. Neither a method
// of an attached file system nor a notification is waited for under it. All
// else is atomic.
package vfs
