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
// The tree is on the heap, at some 200 bytes for an entry and 250 for a chunk.
//
// Sources: docs/estargz.md of stargz-snapshotter; storage/pkg/chunked of
// containers/storage for zstd:chunked.
package estargz
