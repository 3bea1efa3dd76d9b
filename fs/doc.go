// Package fs builds file systems out of a tree of nodes.
//
// A file system is a set of Go types that embed [Inode]. What a type can do is
// said by the interfaces it implements, one method each: [NodeLookuper],
// [NodeReader], [NodeMkdirer] and so on. What a type leaves out has a default,
// such that a plain Inode is a read-only directory or file with the children
// that it was given:
//
//	type hello struct{ fs.Inode }
//
//	func (h *hello) OnAdd(ctx context.Context) {
//		f := h.NewPersistentInode(ctx, &fs.MemRegularFile{Data: []byte("hi\n")}, fs.StableAttr{})
//		h.AddChild("hello.txt", f, false)
//	}
//
//	server, err := fs.Mount("/mnt", &hello{}, nil)
//
// The names and signatures are those of package fs of go-fuse v2, so a file
// system written for it is brought here by changing its import paths.
//
// # Two ways to make a tree
//
// A static tree is made of persistent inodes ([Inode.NewPersistentInode]),
// usually in the root's OnAdd. They live until they are removed.
//
// A dynamic tree makes an inode when the kernel asks for it: a method like
// Lookup, Mkdir or Create returns [Inode.NewInode], and the library adds it to
// the tree. It is dropped when the kernel forgets it. A file with several
// names is the same inode in the kernel's eyes if [StableAttr] is equal; the
// library then keeps the node that it knew first.
//
// # What is promised
//
//   - A node id names one inode for ever: it is not given to another one
//     after it was forgotten (unless [Options.ExternalNodeID] leaves ids to
//     the file system).
//   - The type of an inode (the S_IFMT bits) never changes.
//   - There is no lock of the whole tree. A look-up takes the locks of its
//     parent and of the child it finds, so look-ups in different directories
//     don't wait for each other.
//   - No lock is held while a method of a node or a file handle runs, nor
//     while the kernel is notified.
//   - Forgotten nodes give their memory back, tables included.
//   - Names that come from the kernel are checked: a node's methods never see
//     an empty name, "." or "..", or a name with a slash or a NUL in it.
//
// # Locks, in order
//
//  1. the directory lock of an inode (its names); of two directories the one
//     with the lower address first
//  2. the lock of an inode (its parents, its references); never two at once
//  3. a shard of the identity table or of a slab
//
// # Contexts
//
// The context that a method gets carries the caller (fuse.FromContext) and is
// cancelled if the kernel interrupts the request. It may be kept.
package fs
