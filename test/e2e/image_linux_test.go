package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/image/build"
	"github.com/sluicefs/sluice/image/ocirafs"
	"github.com/sluicefs/sluice/internal/registry"
	"github.com/sluicefs/sluice/storage"
)

// source makes a tree with one of everything, to make images of.
func (b *bench) source() string {
	b.t.Helper()
	dir := b.mkdir("src")
	random := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	write := func(name string, p []byte, mode os.FileMode) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			b.t.Fatal(err)
		}
		if err := os.WriteFile(path, p, mode); err != nil {
			b.t.Fatal(err)
		}
	}
	write("hello.txt", []byte("hello\n"), 0o644)
	write("empty", nil, 0o600)
	write("bin/large", data, 0o755)
	write("bin/other", data[300000:700000], 0o755)
	write("bin/text", bytes.Repeat([]byte("a line of text that is easy to compress\n"), 20000), 0o644)
	for i := range 300 {
		write(fmt.Sprintf("many/file-%03d", i), data[i*1000:i*1000+500+i], 0o644)
	}
	write("deep/a/b/c/d/e/f", []byte("deep"), 0o444)
	check := func(err error) {
		b.t.Helper()
		if err != nil {
			b.t.Fatal(err)
		}
	}
	check(os.Link(filepath.Join(dir, "hello.txt"), filepath.Join(dir, "bin/hard")))
	check(os.Symlink("../hello.txt", filepath.Join(dir, "bin/soft")))
	check(os.Symlink(strings.Repeat("long/", 200), filepath.Join(dir, "bin/longlink")))
	sparse, err := os.Create(filepath.Join(dir, "sparse"))
	check(err)
	_, err = sparse.WriteAt([]byte("end"), 3<<20)
	check(err)
	check(sparse.Close())
	if os.Geteuid() == 0 {
		check(unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		check(unix.Mkfifo(filepath.Join(dir, "fifo"), 0o640))
		check(os.Chown(filepath.Join(dir, "empty"), 12, 345))
		_ = unix.Setxattr(filepath.Join(dir, "hello.txt"), "user.note", []byte("a value"), 0) // not everywhere
	}
	check(os.Chtimes(filepath.Join(dir, "empty"), time.Unix(1, 2), time.Unix(1234567890, 987654321)))
	return dir
}

// image builds a small-chunked image of src into dir and returns the paths
// of its bootstrap and its blob.
func (b *bench) image(src, dir string, c storage.Compressor) (boot, blob string) {
	b.t.Helper()
	out := b.mkdir(dir)
	res, err := build.Create(b.t.Context(), build.Dir(src), build.Output{
		Bootstrap: filepath.Join(out, "image.boot"), BlobDir: out,
	}, build.Options{ChunkSize: 64 << 10, Compressor: c, Parallel: 2})
	if err != nil {
		b.t.Fatal(err)
	}
	if len(res.Written) != 1 {
		b.t.Fatalf("%d blobs were written, want 1", len(res.Written))
	}
	return res.Bootstrap, res.Written[0].Path
}

// push pushes an image to a registry and returns its source.
func (b *bench) push(addr, boot, blob string) string {
	b.t.Helper()
	img, err := ocirafs.New(ocirafs.Image{Bootstrap: boot, Blobs: []string{blob}})
	if err != nil {
		b.t.Fatal(err)
	}
	ref, err := name.ParseReference(addr + "/test/image:latest")
	if err != nil {
		b.t.Fatal(err)
	}
	if err := ocirafs.Push(b.t.Context(), ref, img); err != nil {
		b.t.Fatal(err)
	}
	return "docker://" + ref.String()
}

// registry starts a registry in this process.
func (b *bench) registry(o registry.Options) *registry.Server {
	b.t.Helper()
	r, err := registry.Start(b.mkdir("registry"), o)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { r.Close() })
	return r
}

// compare compares a mounted tree with the directory that it was made of.
func (b *bench) compare(src, mnt string) {
	b.t.Helper()
	want := files(b.t, src)
	sameFiles(b.t, files(b.t, mnt), want)
	inodes := map[uint64]uint64{}
	for name := range want {
		if name == "." {
			continue
		}
		w, g := entry(b.t, filepath.Join(src, name)), entry(b.t, filepath.Join(mnt, name))
		if other, ok := inodes[w.Ino]; ok && other != g.Ino {
			b.t.Errorf("%s: hard links are different inodes", name)
		}
		inodes[w.Ino] = g.Ino
		g.Ino = w.Ino
		if w.Mode&unix.S_IFMT == unix.S_IFDIR {
			g.Size, g.Nlink = w.Size, w.Nlink // as the file system has it
		}
		if w != g {
			b.t.Errorf("%s: attributes\n got %+v\nwant %+v", name, g, w)
		}
	}
}

func xattr(t *testing.T, path, name string) string {
	t.Helper()
	buf := make([]byte, 100)
	n, err := unix.Getxattr(path, name, buf)
	if err != nil {
		return err.Error()
	}
	return string(buf[:n])
}
