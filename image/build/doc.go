// Package build makes images: a [Source] (a directory, tar streams, the
// layers of an image, another image) becomes a RAFS bootstrap and its blobs.
//
// # The pipeline
//
// A source puts names and attributes into a tree held in memory and hands the
// bytes of regular files to a pipeline of three stages:
//
//	source -> slots -> workers (read, hash, compress) -> writer (dedup, blob)
//
// A slot is a buffer of a fixed size that holds one stretch of a large file or
// many small files. The number of slots bounds the memory, whatever the size
// of the source. Workers finish slots in any order; the writer takes them in
// the order of the source, so chunk numbers, offsets and the blob's bytes do
// not depend on how many workers there are. A worker leaves a chunk
// uncompressed when the writer has already stored one with the same digest;
// that is only a saving of time, the writer alone decides what is a duplicate.
//
// Content-defined chunks ([ContentChunks]) are cut by the source's goroutine,
// because each cut depends on the one before.
//
// # Outputs
//
// Every output is written to a temporary file beside its final name, synced,
// and renamed when the whole image is complete: a build that fails or is
// interrupted leaves nothing behind (see [Create]).
//
// # What decides the bytes
//
// Only the source and the options that say so. Directory entries and extended
// attributes are sorted, no clock is read, nothing depends on the number of
// workers or on map order.
package build
