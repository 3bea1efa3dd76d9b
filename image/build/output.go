package build

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sluicefs/sluice/internal/sys"
)

// Output says where the files of an image go. A path may name a pipe or a
// device: that is written as it comes, without a temporary file.
type Output struct {
	Bootstrap string // path of the bootstrap, "" if it is not wanted as a file
	BlobDir   string // directory in which blobs get their id as name
	Blob      string // path of the blob, for images of one layer; wins over BlobDir

	// volatile leaves out the waiting for the disk: for tests that make many
	// images and survive no power cut.
	volatile bool
}

// outputSet is the files that a build is writing.
type outputSet struct {
	Output
	files []*outFile
	blob  *outFile // of Output.Blob if that is a pipe: opened at once
}

// outFile is a file that has no name, or a temporary one, until commit.
type outFile struct {
	*bufio.Writer
	f    *os.File
	temp string // its name now; "" if it has none, or is a pipe
	name string // final path, for messages the directory while it is not known
	pipe bool
	// inDir: name is still the directory, the writer adds the last element.
	inDir bool
	off   int64
}

// Write counts what is written.
func (o *outFile) Write(p []byte) (int, error) {
	n, err := o.Writer.Write(p)
	o.off += int64(n)
	if err != nil {
		return n, &Error{Op: "write", Path: o.name, Err: bare(err)}
	}
	return n, nil
}

// bare takes the operation and the path off an error of package os.
func bare(err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		return p.Err
	}
	if l := (*os.LinkError)(nil); errors.As(err, &l) {
		return l.Err
	}
	return err
}

func (o Output) begin() (*outputSet, error) {
	if o.Bootstrap == "" && o.Blob == "" && o.BlobDir == "" {
		return nil, errors.New("no output is named")
	}
	s := &outputSet{Output: o}
	if o.Blob != "" {
		if fi, err := os.Stat(o.Blob); err == nil && !fi.Mode().IsRegular() && !fi.IsDir() {
			if s.blob, err = s.create(o.Blob); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// create opens a new file that commit will call path.
func (s *outputSet) create(path string) (*outFile, error) {
	final, f, err := sys.Output(path)
	if err != nil {
		return nil, &Error{Op: "write", Path: path, Err: bare(err)}
	}
	if f != nil {
		o := &outFile{Writer: bufio.NewWriterSize(f, 1<<18), f: f, name: path, pipe: true}
		s.files = append(s.files, o)
		return o, nil
	}
	o, err := s.createIn(filepath.Dir(final))
	if err == nil {
		o.name, o.inDir = final, false
	}
	return o, err
}

// newBlob opens the file for a blob, nil if none is wanted.
func (s *outputSet) newBlob() (*outFile, error) {
	switch {
	case s.blob != nil:
		return s.blob, nil
	case s.Blob != "":
		return s.create(s.Blob)
	case s.BlobDir != "":
		return s.createIn(s.BlobDir)
	}
	return nil, nil
}

// createIn opens a new file in dir, whose name is to be set before commit.
func (s *outputSet) createIn(dir string) (*outFile, error) {
	f, temp, err := openTemp(dir)
	if err != nil {
		return nil, &Error{Op: "write", Path: dir, Err: bare(err)}
	}
	o := &outFile{Writer: bufio.NewWriterSize(f, 1<<18), f: f, temp: temp, name: dir, inDir: true}
	s.files = append(s.files, o)
	return o, nil
}

// discard closes the file, which has no final name yet, for good.
func (o *outFile) discard() {
	o.f.Close()
	if o.temp != "" {
		os.Remove(o.temp)
	}
}

// commit makes all files durable, then gives them their names, the last one
// created (the bootstrap) last.
func (s *outputSet) commit() error {
	for _, o := range s.files {
		err := o.Flush()
		if err == nil && !o.pipe && !s.volatile {
			err = o.f.Sync()
		}
		if err != nil {
			return &Error{Op: "write", Path: o.name, Err: bare(err)}
		}
	}
	dirs := map[string]bool{}
	for _, o := range s.files {
		if !o.pipe {
			if err := o.publish(); err != nil {
				return &Error{Op: "write", Path: o.name, Err: bare(err)}
			}
			o.temp = ""
			if !s.volatile {
				dirs[filepath.Dir(o.name)] = true
			}
		}
		if err := o.f.Close(); err != nil {
			return &Error{Op: "write", Path: o.name, Err: bare(err)}
		}
	}
	s.files = nil
	for dir := range dirs {
		if err := syncDir(dir); err != nil {
			return &Error{Op: "write", Path: dir, Err: bare(err)}
		}
	}
	return nil
}

// abort removes what commit has not published.
func (s *outputSet) abort() {
	for _, o := range s.files {
		o.discard()
	}
	s.files = nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
