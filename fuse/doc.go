// Package fuse serves file systems to the Linux kernel from user space. It is
// source-compatible with the package of the same name of go-fuse v2, and adds
// to it: io_uring, every operation, flag and notification of protocol 7.45,
// replies from other goroutines, limits, middleware and take-over of a live
// session by another process.
//
// If you want to write a tree of files as Go objects, start with package fs.
// This package is the level below: numbers and bytes, as the kernel sees them.
//
// # What happens
//
// A program calls, say, open("/mnt/a/b"). The kernel's FUSE driver, which owns
// the mount at /mnt, turns that into requests to the process that serves it:
//
//	LOOKUP  node 1, "a"   ->  node 2, a directory, good for 1 s
//	LOOKUP  node 2, "b"   ->  node 3, a file
//	OPEN    node 3        ->  handle 17
//	READ    node 3, handle 17, offset 0, 128 KiB  ->  data
//	FLUSH   handle 17     (the program closes its descriptor)
//	RELEASE handle 17     (nobody has the file open any more)
//	FORGET  node 3, 1 reference  (much later: the kernel needs memory)
//
// Each request names a node, its inode, by a 64-bit id that the server chose
// when the node was looked up. The root is 1. Paths do not occur. The server
// answers each request once, with a [Status] and, if that is OK, a result.
//
// A [RawFileSystem] has a method for each operation. [NewServer] mounts and
// returns a [Server]; its Serve method answers requests until the file system
// is unmounted:
//
//	server, err := fuse.NewServer(myFS, "/mnt", &fuse.MountOptions{Name: "myfs"})
//	if err != nil { ... }
//	go server.Serve()
//	err = server.WaitMount()
//	...
//	err = server.Unmount()
//
// # References
//
// A successful LOOKUP, and each other answer with an [EntryOut], gives the
// kernel one reference to the node. So does every entry of a READDIRPLUS whose
// node id is not 0, except "." and "..". FORGET gives a number of them back;
// at zero the kernel knows the id no more and the server may drop the node.
// Until then the id must stay what it is, also after the file was unlinked.
// The count must be raised before the answer is sent, or a FORGET can come
// first. An id that is used again for another file must come with another
// generation.
//
// # Caching
//
// The kernel caches four things, each under other rules. Requests that never
// come are the fastest, so this is where speed is decided.
//
//   - Names: for as long as EntryOut.EntryValid says; also the absence of a
//     name (node id 0 and a time-out).
//   - Attributes: for as long as AttrValid says.
//   - Data of files: from open to open only if OPEN answers FOPEN_KEEP_CACHE;
//     never with FOPEN_DIRECT_IO. Even while a file is open its data is
//     dropped when a GETATTR shows another size or time of modification
//     (CAP_AUTO_INVAL_DATA), for which the kernel asks before a read once
//     AttrValid has passed; with ExplicitDataCacheControl data stays until the
//     server says so.
//   - Listings of directories, if OPENDIR answers FOPEN_CACHE_DIR and
//     FOPEN_KEEP_CACHE; targets of symbolic links, with EnableSymlinkCaching.
//
// A server whose content changes by other ways than the kernel's own requests
// picks short times, or long ones and notifications: see [Server] for
// InodeNotify, EntryNotify and DeleteNotify.
//
// With WritebackCache writes are collected too: they come later and larger,
// possibly from another process's point of view, and reads can come for a file
// that was opened for writing only.
//
// # ENOSYS
//
// Many operations are asked once only: after ENOSYS the kernel does without.
// That is a feature. ENOSYS to OPEN means that no open or release is needed
// (the kernel keeps caches as with FOPEN_KEEP_CACHE), to FLUSH, FSYNC or
// ACCESS that they succeed, to xattr operations and FALLOCATE that they are
// not supported, to CREATE that MKNOD and OPEN are to be used, to STATX that
// GETATTR will do. It holds for the whole mount, so never answer ENOSYS for
// one file and not for another: use ENOTSUP there.
//
// # Interrupts
//
// If a signal reaches a thread that waits for an answer, the kernel sends
// INTERRUPT. It does not mean that the thread is to be killed: Go programs
// send themselves SIGURG all the time, timers send SIGALRM. Failing with EINTR
// for each would break programs that expect file operations to finish, as they
// do on local file systems. So by default only operations that can wait
// without end are told; [InterruptMode] changes that. A told handler sees its
// channel cancel closed and should answer EINTR soon; it may also finish.
//
// # Deadlocks
//
// The kernel waits for this process while it holds locks of its own. Whatever
// in this process waits for the kernel to take one of those locks closes the
// circle:
//
//   - Do not use the mounted file system from the process that serves it. If
//     it must be, only from goroutines that no handler waits for; never map
//     such a file into memory (a page fault stops the whole runtime), and
//     never fork while one is open.
//   - Do not send notifications while holding a lock that a handler takes.
//     The kernel may need, say, the lock of a directory in which a LOOKUP
//     waits for that handler. Notifications here go through a queue with a
//     goroutine of its own, so sending never blocks, also in handlers.
//   - Do not wait for another request in a handler unless that other one can
//     always run. Handlers may block: the engine replaces a reader that does.
//   - A process that has died with a file open leaves callers waiting only
//     if another process has inherited its descriptor of the device. The
//     descriptors here are closed on exec.
//
// # Memory and concurrency
//
// Methods of a file system are called by many goroutines at once unless
// MountOptions.SingleThreaded is set. Inputs and buffers belong to the server
// and are used again after the method has returned; strings do not change.
// Requests are served without allocation.
//
// # Transports
//
// Requests arrive by reads of /dev/fuse or, from Linux 6.14 on and if the
// administrator has enabled it (module parameter enable_uring), through
// io_uring, on the processor where the caller runs. MountOptions.Transport
// chooses; by default the server takes what is there and faster.
//
// # Sources
//
// The protocol: include/uapi/linux/fuse.h, with its change log. What flags
// do: Documentation/filesystems/fuse/ in the kernel's sources. The kernel's
// side of waiting, interrupting and forgetting: fs/fuse/dev.c; of caching:
// fs/fuse/dir.c and fs/fuse/file.c. Package wire has all numbers.
package fuse
