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
// A [RawFileSystem] has a method for each operation; embed what
// [NewDefaultRawFileSystem] returns, which answers ENOSYS to everything, and
// write the methods that matter: Lookup, GetAttr, Read and ReadDir are a file
// system that can be read. [NewServer] mounts and returns a [Server]; its
// Serve method answers requests until the file system is unmounted:
//
//	server, err := fuse.NewServer(myFS, "/mnt", &fuse.MountOptions{Name: "myfs"})
//	if err != nil { ... }
//	go server.Serve()
//	err = server.WaitMount()
//	...
//	err = server.Unmount()
//
// To see what the kernel asks, and when it does not, set MountOptions.Debug:
// each request and its answer is one line of the log. [Server.Running] lists
// what is under way, with ages, [Server.Latency] how long it took.
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
// do on local file systems. So by default a handler is told only if its caller
// has another signal waiting than the harmless ones, or if it waits for a lock;
// [InterruptMode] changes that. A told handler sees its
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
//     goroutine of its own: InodeNotify and its like wait for the kernel, but
//     give up after a fraction of a second, and [Notifier]'s never wait.
//   - Do not wait for another request in a handler unless that other one can
//     always run. Handlers may block: the engine replaces a reader that does.
//   - A process that has died with a file open leaves callers waiting only
//     if another process has inherited its descriptor of the device. The
//     descriptors here are closed on exec.
//
// # Slow back ends
//
// A handler may wait for a network or a disk; others go on meanwhile, and
// thousands that wait cost goroutines and not threads. What to do about those
// that wait too long:
//
//   - Answer later: take [Server.Answer] or [Request.Answer] to whoever gets
//     the data, and return [Pending].
//   - [Limit] bounds how many requests of a [Class] run, and their bytes, so
//     that slow reads do not use up what a stat needs. Its Deadline closes the
//     cancel channel; with Expired the caller gets an error at once, even if
//     the handler never comes back.
//   - MountOptions.RequestTimeout has the kernel end the whole session, as the
//     last resort.
//
// Whatever happens, a caller must not wait for ever: one that waits for an
// answer cannot be killed. So a panic in a handler is EIO, an operation without
// a method ENOSYS, and a server that fails aborts its session.
//
// # The end of a session
//
// umount(8), or [Server.Unmount], ends a session when nobody uses the mount;
// otherwise it fails with EBUSY. [Server.Shutdown] takes it out of the tree,
// waits for the last user, and aborts when its context ends. If the process
// dies the kernel ends the session: callers get ENOTCONN, and a dead mount
// stays until it is unmounted (umount -l).
//
// Unless somebody else keeps the session: it is a descriptor of /dev/fuse and
// what was agreed in INIT. [Server.Detach] hands a [Session] to another process,
// which goes on with [Resume], for an upgrade that no caller notices. After
// kill -9 the one who kept a [Server.Snapshot] can do the same; requests that
// had been in handlers are served again ([Request.Resent]). Over io_uring the
// kernel may fail, with ECANCELED, a few requests that it was just handing to
// the process that was killed; over the device it fails none.
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
// [Server.Transport] tells which it is, and why not the other.
//
// # Sources
//
// The protocol: include/uapi/linux/fuse.h, with its change log. What flags
// do: Documentation/filesystems/fuse/ in the kernel's sources. The kernel's
// side of waiting, interrupting and forgetting: fs/fuse/dev.c; of caching:
// fs/fuse/dir.c and fs/fuse/file.c. Package wire has all numbers.
package fuse
