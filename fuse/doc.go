// Package fuse serves file systems to the Linux kernel from user space. Its
// API is that of go-fuse's package fuse, with additions.
package fuse
