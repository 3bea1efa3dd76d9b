package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/image/detect"
	"github.com/sluicefs/sluice/image/direct"
)

// compare does what is done without lazy mounting: it downloads all of the
// image and unpacks it.
func (s *state) compare(ctx context.Context) error {
	s.opts.Progress.Step("for comparison, downloading and unpacking all of it", s.report.ImageBytes)
	dir := filepath.Join(s.opts.Dir, "download")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	start := time.Now()
	for _, id := range s.image.Blobs {
		if err := s.download(ctx, id, filepath.Join(dir, id)); err != nil {
			return err
		}
	}
	s.report.Download = time.Since(start)
	start = time.Now()
	if err := unpack(ctx, s.image.Bootstrap, dir, filepath.Join(s.opts.Dir, "unpacked")); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	s.report.Unpack = time.Since(start)
	return nil
}

func (s *state) download(ctx context.Context, id, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.reg.Addr+"/v2/demo/go/blobs/sha256:"+id, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("download %s: status %d", id, resp.StatusCode)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.MultiWriter(f, progressWriter{s.opts.Progress}), resp.Body)
	return errors.Join(err, f.Close())
}

type progressWriter struct{ p Progress }

func (w progressWriter) Write(b []byte) (int, error) {
	w.p.Add(int64(len(b)))
	return len(b), nil
}

// unpack writes the files of an image below out.
func unpack(ctx context.Context, bootstrap, blobs, out string) error {
	tree, err := detect.Open(bootstrap, nil)
	if err != nil {
		return err
	}
	defer tree.Close()
	b, err := direct.OpenDir(blobs)
	if err != nil {
		return err
	}
	defer b.Close()
	u := unpacker{ctx: ctx, tree: tree, from: direct.NewReader(b), out: out}
	if err := os.Mkdir(out, 0o700); err != nil {
		return err
	}
	err = image.Walk(tree, func(path string, nid uint64, _ uint8) bool {
		u.err = u.one(path, nid)
		return u.err == nil && ctx.Err() == nil
	})
	return errors.Join(u.err, err, ctx.Err())
}

type unpacker struct {
	ctx  context.Context
	tree image.Tree
	from *direct.Reader
	out  string
	err  error
}

func (u *unpacker) one(path string, nid uint64) error {
	var in image.Inode
	if err := u.tree.Stat(nid, &in); err != nil {
		return err
	}
	// The image was made here a moment ago: its names are not hostile.
	target := filepath.Join(u.out, path)
	switch in.Mode & image.TypeMask {
	case image.TypeDirectory:
		return os.MkdirAll(target, 0o700)
	case image.TypeSymlink:
		link, err := u.tree.Readlink(nid)
		if err != nil {
			return err
		}
		return os.Symlink(string(link), target)
	case image.TypeRegular:
		f, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, os.FileMode(in.Mode&0o777)|0o200)
		if err != nil {
			return err
		}
		return errors.Join(u.from.Copy(u.ctx, f, u.tree, nid, int64(in.Size)), f.Close())
	}
	return nil
}
