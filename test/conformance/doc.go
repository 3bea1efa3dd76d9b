// Package conformance runs other people's tools against our file systems:
// stress-ng's file-system class with verification and fio's verify jobs on
// the loopback, each on the classic channel and over io_uring.
package conformance
