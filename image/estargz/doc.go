// Package estargz shows plain OCI images lazily whose layers have a table of
// contents: eStargz (gzip, one member or more for each file) and zstd:chunked
// (a zstd frame for each chunk). The layers stay as they are in the registry;
// [Open] fetches their tables, verifies them against the manifest and merges
// them to one [image.Tree].
//
// A table has a digest for each chunk, which is what the store verifies. A
// layer whose table the manifest has no digest of, or whose chunks have none,
// is refused: it can not be verified before it is read whole.
//
// A layer that has no such table can have one beside it: the zTOC of a SOCI
// index, whose spans of a gzip stream have digests of their stored bytes. It is
// as trustworthy as the place that it comes from, which the caller has to
// judge; what it says is cached apart from what others say of the same layer.
// A layer that is on this machine, uncompressed, can stand among the others.
//
// The tree is on the heap, at some 200 bytes for an entry and 250 for a chunk.
//
// Sources: docs/estargz.md of stargz-snapshotter; storage/pkg/chunked of
// containers/storage for zstd:chunked; ztoc/fbs/ztoc.fbs and
// ztoc/compression/gzip_zinfo.c of soci-snapshotter for zTOCs.
package estargz
