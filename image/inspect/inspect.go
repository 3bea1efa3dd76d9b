// Package inspect answers questions about an image, one line at a time: the
// commands that "sluice image inspect" takes at its prompt and as --request.
package inspect

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/storage"
)

// Help lists the commands.
const Help = `stats           what the image is and how much it holds
ls [PATH]       entries of a directory
tree [PATH]     all names below a directory
cd PATH         change the directory that paths begin at
stat PATH       attributes, xattrs and chunks of a file
blobs           the blob table
prefetch        what is to be fetched first
chunk OFFSET    chunks stored at the offset of a blob, and the files that have them
icheck INODE    the path of an inode
help            this list
exit            end`

// ErrExit is what the command exit gives.
var ErrExit = errors.New("exit")

// Session is a place in an image from which questions are asked. It is not
// safe for concurrent use.
type Session struct {
	t   image.Tree
	cwd string
}

// New returns a session at the root of t.
func New(t image.Tree) *Session { return &Session{t, "/"} }

// Dir is the directory that relative paths begin at.
func (s *Session) Dir() string { return s.cwd }

// Answer is what a command gives: it can be printed, and encoded as JSON.
type Answer interface {
	// Rows are the lines of a table, the first its head; without a head the
	// first row is nil.
	Rows() [][]string
}

// Ask runs one command. An empty line gives a nil answer.
func (s *Session) Ask(line string) (Answer, error) {
	name, arg, _ := strings.Cut(strings.TrimSpace(line), " ")
	arg = strings.TrimSpace(arg)
	switch name {
	case "":
		return nil, nil
	case "stats":
		return s.stats()
	case "ls":
		return s.list(arg)
	case "tree":
		return s.tree(arg)
	case "cd":
		return s.changeDir(arg)
	case "stat":
		return s.stat(arg)
	case "blobs":
		return s.blobs(), nil
	case "prefetch":
		return s.prefetch()
	case "chunk":
		return s.chunk(arg)
	case "icheck":
		return s.icheck(arg)
	case "help":
		return Text(Help), nil
	case "exit", "quit", "q":
		return nil, ErrExit
	}
	return nil, fmt.Errorf("%q is not a command; try help", name)
}

// Text is an answer in words.
type Text string

// Rows returns the lines.
func (t Text) Rows() [][]string {
	rows := [][]string{nil}
	for l := range strings.SplitSeq(string(t), "\n") {
		rows = append(rows, []string{l})
	}
	return rows
}

func (s *Session) abs(p string) string {
	if strings.HasPrefix(p, "/") {
		return path.Clean(p)
	}
	return path.Join(s.cwd, p)
}

// find returns the absolute path and the attributes of p.
func (s *Session) find(p string) (string, image.Inode, error) {
	var in image.Inode
	p = s.abs(p)
	nid, err := image.Find(s.t, p)
	if err == nil {
		err = s.t.Stat(nid, &in)
	}
	if err != nil {
		return p, in, fmt.Errorf("%s: %w", p, err)
	}
	return p, in, nil
}

func (s *Session) changeDir(p string) (Answer, error) {
	name, in, err := s.find(p)
	if err != nil {
		return nil, err
	}
	if in.Mode&image.TypeMask != image.TypeDirectory {
		return nil, fmt.Errorf("%s: is not a directory", name)
	}
	s.cwd = name
	return nil, nil
}

// Entry is an inode with a name.
type Entry struct {
	Path   string            `json:"path"`
	Inode  uint64            `json:"inode"`
	Mode   string            `json:"mode"` // as ls shows it
	Nlink  uint32            `json:"nlink"`
	UID    uint32            `json:"uid"`
	GID    uint32            `json:"gid"`
	Size   uint64            `json:"size"`
	MTime  time.Time         `json:"mtime"`
	Rdev   string            `json:"rdev,omitempty"`
	Link   string            `json:"link,omitempty"`
	Xattrs map[string][]byte `json:"xattrs,omitempty"`
	Chunks []Chunk           `json:"chunks,omitempty"`
}

// Chunk is a range of a file and where it is stored.
type Chunk struct {
	FileOffset         int64  `json:"file_offset"`
	Length             int64  `json:"length"`
	Hole               bool   `json:"hole,omitempty"`
	Blob               string `json:"blob,omitempty"`
	Index              uint32 `json:"index"`
	Offset             int64  `json:"offset"` // stored range in the blob
	Size               uint32 `json:"size"`
	UncompressedOffset int64  `json:"uncompressed_offset"`
	UncompressedSize   uint32 `json:"uncompressed_size"`
	Compressed         bool   `json:"compressed"`
	Digest             string `json:"digest,omitempty"`
}

func describe(e *storage.Extent) Chunk {
	c := Chunk{FileOffset: e.FileOffset, Length: e.Length, Hole: e.Hole()}
	if c.Hole {
		return c
	}
	ch := &e.Chunk
	c.Blob, c.Index, c.Offset, c.Size = ch.Blob.ID, ch.Index, ch.Offset, ch.Size
	if g := ch.Group; g != nil {
		c.Offset, c.Size = g.Offset, g.Size
	}
	c.UncompressedOffset, c.UncompressedSize = ch.UncompressedOffset, ch.UncompressedSize
	c.Compressed = ch.Flags&storage.Compressed != 0
	if ch.Flags&storage.HasDigest != 0 {
		c.Digest = ch.Digest.String()
	}
	return c
}

// modeText returns the mode as ls shows it.
func modeText(mode uint32) string {
	b := []byte("?rwxrwxrwx")
	b[0] = "?pc?d?b?-?l?s???"[mode>>12&15]
	for i := range 9 {
		if mode&(1<<(8-i)) == 0 {
			b[i+1] = '-'
		}
	}
	for _, x := range [...]struct {
		bit    uint32
		at     int
		letter string // with and without execute
	}{{0o4000, 3, "sS"}, {0o2000, 6, "sS"}, {0o1000, 9, "tT"}} {
		switch {
		case mode&x.bit == 0:
		case b[x.at] == 'x':
			b[x.at] = x.letter[0]
		default:
			b[x.at] = x.letter[1]
		}
	}
	return string(b)
}

// entry describes an inode; with all, its xattrs and chunks as well.
func (s *Session) entry(p string, in *image.Inode, all bool) (Entry, error) {
	e := Entry{
		Path: p, Inode: in.NID, Mode: modeText(in.Mode), Nlink: in.Nlink, UID: in.UID, GID: in.GID, Size: in.Size,
		MTime: time.Unix(in.MTime, int64(in.MTimeNsec)).UTC(),
	}
	var err error
	switch in.Mode & image.TypeMask {
	case image.TypeSymlink:
		var target []byte
		target, err = s.t.Readlink(in.NID)
		e.Link = string(target)
	case 0o020000, 0o060000:
		e.Rdev = fmt.Sprintf("%d:%d", in.Rdev>>8&0xfff, in.Rdev&0xff|in.Rdev>>12&0xfff00)
	case image.TypeRegular:
		if all {
			var ext []storage.Extent
			ext, err = s.t.Extents(nil, in.NID, 0, int64(in.Size))
			for i := range ext {
				e.Chunks = append(e.Chunks, describe(&ext[i]))
			}
		}
	}
	if err == nil && all {
		e.Xattrs, err = s.xattrs(in.NID)
	}
	return e, err
}

func (s *Session) xattrs(nid uint64) (map[string][]byte, error) {
	all := map[string][]byte{}
	err := s.t.ListXattr(nid, func(prefix string, suffix []byte) bool {
		all[prefix+string(suffix)] = nil
		return true
	})
	for name := range all {
		if err != nil {
			break
		}
		all[name], err = s.t.Xattr(nid, name)
	}
	return all, err
}

func (s *Session) stat(p string) (Answer, error) {
	name, in, err := s.find(p)
	if err != nil {
		return nil, err
	}
	e, err := s.entry(name, &in, true)
	return Stat(e), err
}

func number(arg, what string) (uint64, error) {
	n, err := strconv.ParseUint(arg, 0, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not %s", arg, what)
	}
	return n, nil
}

func (s *Session) icheck(arg string) (Answer, error) {
	nid, err := number(arg, "the number of an inode")
	if err != nil {
		return nil, err
	}
	p, err := image.PathOf(s.t, nid)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("inode %d has no name in the image", nid)
	}
	if err != nil {
		return nil, err
	}
	return s.stat(p)
}
