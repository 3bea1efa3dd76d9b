// Package wire knows the bytes of the FUSE protocol: opcodes, flags, notify
// codes, the sizes of all messages, and how headers and the variable parts of
// a request are parsed and written. It does no I/O, keeps no state, allocates
// nothing on the paths that run for each request, and imports nothing of this
// project, so that channels, servers and tests can share it.
//
// The protocol is spoken between the kernel, which sends requests, and a
// server, which answers each of them once. A request is an [InHeader] of
// [InHeaderSize] bytes, then the operation's fixed struct (its size is in
// [Layout].In), then names and data, then, for a few operations, an area of
// extensions ([Extensions]). A reply is an [OutHeader], the fixed struct and
// the data, in one write. Integers have the byte order of the host. All
// structs are multiples of eight bytes unless said otherwise.
//
// Everything that is parsed here comes from outside (a kernel, a virtual
// machine, a peer on a socket) and is taken as hostile: every function checks
// lengths before it reads and returns false, never panics.
//
// Source of all numbers: include/uapi/linux/fuse.h, protocol 7.45.
package wire
