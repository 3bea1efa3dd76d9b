// Package rafs reads RAFS images, the format of nydus: version 6, which is an
// EROFS file system with tables of its own for blobs and chunks, and version
// 5, which has its own layout.
//
// [Open] maps a bootstrap, the metadata of an image, and returns an
// [image.Tree]. Opening reads the superblocks and the blob table only; all
// else is looked up in the mapping when it is asked for, so that an image of
// any size costs the same. The bytes are hostile: each offset, length, index
// and count is checked before it is used.
package rafs
