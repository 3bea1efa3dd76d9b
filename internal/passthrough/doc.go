// Package passthrough shows a directory of this machine, read-write, for a
// daemon that must be able to die: what the kernel knows of the file system
// lies in a file that is mapped, not in the process.
//
//	f, err := passthrough.New("/srv/data", passthrough.Options{Table: "/run/d/nodes"})
//	server, err := fuse.NewServer(f, "/mnt", nil)
//
// # What survives
//
// Each node that the kernel holds is a record in the table: its id, how many
// references the kernel has, how often it is open, and the file handle
// (name_to_handle_at(2)) by which any process finds the file again, whatever
// its name is by then. A record is complete before the kernel hears of the
// node. So a successor that opens the table after kill -9 answers for the same
// ids, and there is nothing to hand over.
//
// Open files need no state besides: a handle means nothing, reads and writes
// go by the node. Directories are read on from the offset that the request
// names. A file that is removed while it is open would vanish with the process
// that had it open; it is registered with the kernel as a backing file, which
// keeps it until the last close.
//
// What a predecessor had carried out but not answered comes again. Most
// requests can simply be carried out twice; for those that cannot, such as
// MKDIR and RENAME, a failure that the first time explains is a success
// ([fuse.Request.Resent]). Counts may come out too high by what was under way,
// never too low: such a node is kept until the unmount.
//
// # Safety
//
// The kernel gives single names, and each is resolved in an open directory with
// openat2(2), beneath it and without following symbolic links: what happens
// behind our back cannot lead out of the root. Nodes are compared by device,
// inode number and time of birth.
//
// # Locks
//
// A shard's mu guards the map of nodes by identity and their counts; a node's
// mu what is open of it. The latter is taken first.
package passthrough
