package build

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"runtime"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/rafs"
	"github.com/sluicefs/sluice/storage"
)

// Defaults of [Options].
const (
	DefaultChunkSize = 1 << 20
	DefaultMemory    = 256 << 20 // bytes of buffers
)

// Whiteouts says how the layers of a source mark what they remove.
type Whiteouts int

// The whiteout conventions. WhiteoutsOCI are names that begin with ".wh.",
// WhiteoutsOverlayfs character devices 0/0 and the attribute
// trusted.overlay.opaque; with WhiteoutsNone such files are files.
const (
	WhiteoutsOCI Whiteouts = iota
	WhiteoutsOverlayfs
	WhiteoutsNone
)

// Prefetch says what becomes of the paths in [Options.PrefetchPaths]. In all
// cases their chunks stand first in the blob.
type Prefetch int

// The prefetch policies: PrefetchFS lists the paths in the bootstrap's
// prefetch table, PrefetchBlob records the length of the leading part only.
const (
	PrefetchNone Prefetch = iota
	PrefetchFS
	PrefetchBlob
)

// Chunking says where a file is cut into chunks.
type Chunking int

// The ways to cut. FixedChunks ends a chunk at every multiple of the chunk
// size. ContentChunks (v5) ends it where the bytes say so, so that files that
// differ by an insertion share the chunks behind it; see [Options.ChunkSize].
const (
	FixedChunks Chunking = iota
	ContentChunks
)

// Options are the settings of an image. The zero value gives RAFS v6 with
// 1 MiB chunks, stored uncompressed, hashed with BLAKE3.
type Options struct {
	Version int // RAFS version, 6 or 5; 0 means 6
	// ChunkSize is the size of the largest chunk in bytes, a power of two
	// from 4 KiB to 16 MiB; 0 means 1 MiB. ContentChunks have an eighth of it
	// on average and, but for a file's last, at least a thirty-second.
	ChunkSize  uint32
	Chunking   Chunking
	BatchSize  uint32 // v6: small chunks are compressed together up to this many bytes; 0: not
	Compressor storage.Compressor
	Level      int // of zstd, 1 (fastest) to 4; 0 means 1
	Digester   storage.Algorithm

	InlineMeta   bool // the bootstrap becomes part of the blob as well
	TOC          bool // the blob ends with a table of contents and holds its chunks' digests
	AlignedChunk bool // v5: chunks start at 4 KiB multiples of the uncompressed space, as always in v6
	Repeatable   bool // owners and the root's time do not count
	NullHoles    bool // a chunk within a hole has no address at all; nydusd does not read that
	Tarfs        bool // the image's data is the tar file itself (v6, one uncompressed tar)
	TargzRef     bool // the image's data is the tar.gz file itself (v6, one tar, no Compressor): its blob, which is not written, has the file's SHA-256 as its id
	Stargz       bool // the tars are eStargz layers: leave out what such a layer keeps for itself

	Whiteouts     Whiteouts
	Prefetch      Prefetch
	PrefetchPaths []string // files or directories, "/" being all; in this order

	Parent image.Tree   // lowest layers: the source is put on top of it
	Dicts  []image.Tree // chunks of these are referred to and not stored again

	BlobID   string // name of the blob, where its SHA-256 is not wanted; one layer only
	Parallel int    // workers; 0 means one for each CPU
	Memory   int64  // bytes of buffers; 0 means 256 MiB

	// Progress is told bytes of file data as they are done; it is called
	// often and from one goroutine. Total is called once if it is known.
	Progress func(bytes int64)
	Total    func(bytes int64)
	Warn     func(string) // nil: warnings are dropped
}

// fill checks o and puts the defaults in place of zeros.
func (o *Options) fill() error {
	if o.Version == 0 {
		o.Version = 6
	}
	if o.ChunkSize == 0 {
		o.ChunkSize = DefaultChunkSize
	}
	if o.Parallel <= 0 {
		o.Parallel = runtime.GOMAXPROCS(0)
	}
	if o.Memory <= 0 {
		o.Memory = DefaultMemory
	}
	if o.Level == 0 {
		o.Level = 1
	}
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	if o.Progress == nil {
		o.Progress = func(int64) {}
	}
	if o.Total == nil {
		o.Total = func(int64) {}
	}
	switch {
	case o.Version != 5 && o.Version != 6:
		return fmt.Errorf("RAFS version %d is not supported: it is 5 or 6", o.Version)
	case o.ChunkSize < rafs.MinChunkSize || o.ChunkSize > rafs.MaxChunkSize || bits.OnesCount32(o.ChunkSize) != 1:
		return fmt.Errorf("chunk size %d is not a power of two from 4096 to 16777216", o.ChunkSize)
	case o.BatchSize != 0 && (o.BatchSize < rafs.MinChunkSize || o.BatchSize > rafs.MaxChunkSize || bits.OnesCount32(o.BatchSize) != 1):
		return fmt.Errorf("batch size %d is not 0 or a power of two from 4096 to 16777216", o.BatchSize)
	case o.BatchSize != 0 && o.Version == 5:
		return fmt.Errorf("batch chunks are not supported in RAFS v5")
	case o.TOC && o.Version == 5:
		return fmt.Errorf("a table of contents is not supported in RAFS v5 blobs")
	case o.NullHoles && o.Version == 5:
		return fmt.Errorf("holes without chunks are not supported in RAFS v5")
	case o.Chunking != FixedChunks && o.Chunking != ContentChunks:
		return fmt.Errorf("chunking %d is not known", o.Chunking)
	case o.Chunking == ContentChunks && o.Version == 6:
		return errVariable
	case o.Level < 1 || o.Level > 4:
		return fmt.Errorf("compression level %d is not between 1 and 4", o.Level)
	}
	if err := errors.Join(o.checkTarfs(), o.checkTargzRef()); err != nil {
		return err
	}
	return checkCodec(o.Compressor, o.Digester)
}

func checkCodec(c storage.Compressor, d storage.Algorithm) error {
	if c != storage.None && c != storage.LZ4Block && c != storage.Zstd {
		return fmt.Errorf("compressor %v is not supported for writing: there are none, lz4_block, zstd", c)
	}
	if d != storage.BLAKE3 && d != storage.SHA256 {
		return fmt.Errorf("digester %v is not known: there are blake3, sha256", d)
	}
	return nil
}

// Error says what a build was doing to which file when it failed.
type Error struct {
	Op   string // "read", "write", "open", ...
	Path string // in the source, or of an output
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("%s %s: %v", e.Op, image.OneLine(e.Path), e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// Source is where files come from: [Dir], [Tars].
type Source interface {
	// load puts names and attributes into b.tree and gives the data of
	// regular files to b.feed, a layer after another.
	load(ctx context.Context, b *builder) error
}

// Result says what a build has written.
type Result struct {
	Version       int
	Bootstrap     string   // path, or "" when it lies in the blob only
	BootstrapSize int64    // bytes
	Blobs         []string // ids in the order of the blob table
	Written       []Blob   // the blobs that this build wrote
	Archive       string   // id of the tar.gz that the image's data stays in, "" for other images
	Inodes        uint64
	Files         uint64 // regular files
	DataSize      int64  // bytes of regular files, hard links once
	Chunks        uint64 // chunks that the files have
	DedupChunks   uint64 // of them, those that were stored before
	DedupSize     int64  // bytes saved by that, uncompressed
}

// Blob is a blob that has been written.
type Blob struct {
	ID               string
	Path             string
	Size             int64 // of the file
	SHA256           [32]byte
	CompressedSize   int64 // of the chunks
	UncompressedSize int64
	Chunks           uint32
	TOCDigest        [32]byte // zeros without a table of contents
	TOCSize          uint32
}

// Create builds an image of src into out and returns what it wrote. When it
// fails there is no output, and the error names the file that is to blame
// (see [Error]).
func Create(ctx context.Context, src Source, out Output, opt Options) (*Result, error) {
	if err := opt.fill(); err != nil {
		return nil, err
	}
	set, err := out.begin()
	if err != nil {
		return nil, err
	}
	defer set.abort()
	b, err := newBuilder(ctx, &opt, set)
	if err != nil {
		return nil, err
	}
	if err := src.load(ctx, b); err != nil {
		b.stop()
		return nil, err
	}
	res, err := b.finish()
	if err != nil {
		return nil, err
	}
	if err := set.commit(); err != nil {
		return nil, err
	}
	return res, nil
}
