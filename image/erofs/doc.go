// Package erofs reads EROFS images, the read-only file system of Linux that
// also carries RAFS v6 (package rafs is built on this one).
//
// An [Image] is a mapped file. It implements [image.Tree] for images made by
// mkfs.erofs: inodes compact and extended, directories with the format's
// binary search, flat and inline data, chunk-based files with 4- and 8-byte
// addresses, lz4, deflate and zstd clusters, a device table, inline and shared
// extended attributes.
package erofs
