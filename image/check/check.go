// Package check looks for what is wrong in an image: it walks all of the
// metadata and, where blobs are at hand, reads every chunk and compares it
// with its digest.
package check

import (
	"context"
	"fmt"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/storage"
)

// Options say how much to check. The zero value checks the metadata only.
type Options struct {
	Backend     storage.Backend // of the blobs; nil: do not read them
	Workers     int             // chunks read at once, 1 if 0
	MaxProblems int             // listed before the check ends early, 1000 if 0
	Progress    func(Progress)  // called now and then, from one goroutine at a time; may be nil
}

// Progress says how far a check is.
type Progress struct {
	Entries    uint64
	Chunks     uint64 // verified
	ChunkBytes uint64
}

// Problem is one thing that is wrong.
type Problem struct {
	Path string `json:"path,omitempty"` // in the image, "" if it is not one file
	What string `json:"what"`
}

func (p Problem) String() string {
	if p.Path == "" {
		return p.What
	}
	return p.Path + ": " + p.What
}

// Report is the result of a check.
type Report struct {
	Format      string    `json:"format"`
	Entries     uint64    `json:"entries"` // names, the root included
	Inodes      uint64    `json:"inodes"`
	Directories uint64    `json:"directories"`
	Files       uint64    `json:"files"` // names of regular files
	Symlinks    uint64    `json:"symlinks"`
	Specials    uint64    `json:"specials"`     // names of devices, fifos and sockets
	FileBytes   uint64    `json:"file_bytes"`   // of regular files, each name counted
	Chunks      uint64    `json:"chunks"`       // different ones that files use
	Verified    uint64    `json:"verified"`     // chunks read and compared with a digest
	VerifiedLen uint64    `json:"verified_len"` // their uncompressed bytes
	NoDigest    uint64    `json:"no_digest"`    // chunks read that have no digest
	Missing     []string  `json:"missing,omitempty"`
	Problems    []Problem `json:"problems,omitempty"`
	Warnings    []Problem `json:"warnings,omitempty"`   // what real builders leave behind and readers live with
	Incomplete  bool      `json:"incomplete,omitempty"` // ended early: too many problems
}

// OK reports whether nothing is wrong. Blobs that are missing are no fault of
// the image.
func (r *Report) OK() bool { return len(r.Problems) == 0 }

// Run checks the image. The error says that the check could not be made; what
// is wrong with the image is in the report.
func Run(ctx context.Context, t image.Tree, o Options) (*Report, error) {
	if o.MaxProblems == 0 {
		o.MaxProblems = 1000
	}
	c := &checker{ctx: ctx, tree: t, o: o, links: map[uint64]*links{}, r: &Report{Format: t.Info().Format}}
	c.chunks = newChunks(ctx, c)
	if err := c.loadMeta(); err != nil {
		c.problem("", "%v", err)
	}
	c.dir("/", t.Root(), t.Root(), 0)
	c.linkCounts()
	c.overlaps()
	c.records()
	c.prefetch()
	c.chunks.wait()
	c.r.Inodes = uint64(len(c.links))
	return c.r, context.Cause(ctx)
}

// checker is one run. Its fields belong to the goroutine of Run, but for
// those of chunks, which has a lock.
type checker struct {
	ctx    context.Context // of Run
	tree   image.Tree
	o      Options
	r      *Report
	links  map[uint64]*links // by inode
	chunks *chunks
	ext    []storage.Extent
	full   bool // enough problems
}

// links is what is known of an inode that has been met.
type links struct {
	path    string // of the first name
	names   uint32
	nlink   uint32 // as the inode says
	subdirs uint32
	dir     bool
}

func (c *checker) problem(path, format string, args ...any) {
	if c.full {
		return
	}
	if c.chunks.report(Problem{path, fmt.Sprintf(format, args...)}) {
		c.full, c.r.Incomplete = true, true
	}
}

func (c *checker) warn(path, format string, args ...any) {
	if len(c.r.Warnings) < c.o.MaxProblems {
		c.r.Warnings = append(c.r.Warnings, Problem{path, fmt.Sprintf(format, args...)})
	}
}

// stop reports whether to go on no further.
func (c *checker) stop() bool { return c.full || c.ctx.Err() != nil }

func (c *checker) loadMeta() error {
	if l, ok := c.tree.(image.MetaLoader); ok && c.o.Backend != nil {
		return l.LoadMeta(c.ctx, c.o.Backend)
	}
	return nil
}

// linkCounts compares the names that inodes have with what they say.
func (c *checker) linkCounts() {
	if c.stop() {
		return
	}
	for _, nid := range sortedKeys(c.links) {
		l := c.links[nid]
		switch want := 2 + l.subdirs; {
		case l.dir && l.nlink != want && l.nlink != 1:
			c.problem(l.path, "link count is %d, but the directory has %d directories in it", l.nlink, l.subdirs)
		case !l.dir && l.nlink < l.names:
			c.problem(l.path, "link count is %d, but the inode has %d names", l.nlink, l.names)
		case !l.dir && l.nlink > l.names:
			// nydus-image makes a new inode of a hard link into another layer
			// and keeps the count.
			c.warn(l.path, "link count is %d, but the inode has %d names", l.nlink, l.names)
		}
	}
}

// prefetch checks that what is to be fetched first is in the image.
func (c *checker) prefetch() {
	for _, nid := range c.tree.Prefetch() {
		if c.links[nid] == nil && !c.stop() {
			c.problem("", "prefetch table: inode %d is not in the tree", nid)
		}
	}
}
