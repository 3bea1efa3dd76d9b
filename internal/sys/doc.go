// Package sys holds the system calls and the memory tricks that FUSE needs
// and golang.org/x/sys lacks: io_uring rings, the ioctls of /dev/fuse, reads
// and writes that bypass Go's scheduler, memory outside the garbage
// collector, descriptors passed over sockets.
//
// It is the only package of the project that calls the kernel by number or
// turns numbers into pointers. Nothing in it knows what a FUSE message means.
//
// Two kinds of calls exist and must not be mixed up. Ordinary ones tell Go's
// scheduler that the thread may sleep. Those whose name begins with Raw do
// not: they keep the processor (the P) and hold up every stop-the-world until
// they return, so they are only for calls that never sleep.
package sys
