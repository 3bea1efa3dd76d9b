package converter

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/nydus-snapshotter/pkg/converter"
	"github.com/opencontainers/go-digest"
)

// builder is the binary under the name that makes it nydus-image.
var builder string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "sluice-converter-*")
	if err != nil {
		panic(err)
	}
	builder = filepath.Join(dir, "nydus-image")
	cmd := exec.Command("go", "build", "-o", builder, "./cmd/sluice")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// entry is a tar entry with its content.
type entry struct {
	tar.Header
	data []byte
}

// noise returns n bytes, half of which compress.
func noise(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, seed))
	b := make([]byte, n)
	for i := range n / 2 {
		b[i] = byte(r.Uint32())
	}
	return b
}

// lower and upper are two layers; upper has whiteouts.
func lower() []entry {
	file := func(name string, b []byte) entry {
		return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(b)), Uid: 1000, Gid: 70000}, b}
	}
	dir := func(name string) entry {
		return entry{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}, nil}
	}
	out := []entry{
		dir("dir/"), dir("dir/sub/"), file("dir/big", noise(1, 3_000_000)), file("dir/empty", nil), file("dir/one", []byte("1")),
		dir("etc/"), file("etc/conf", noise(2, 5000)), file("etc/same", noise(1, 3_000_000)),
		{tar.Header{Typeflag: tar.TypeSymlink, Name: "link", Linkname: "dir/one", Mode: 0o777}, nil},
		{tar.Header{Typeflag: tar.TypeFifo, Name: "pipe", Mode: 0o600}, nil},
		{tar.Header{Typeflag: tar.TypeChar, Name: "null", Mode: 0o666, Devmajor: 1, Devminor: 3}, nil},
		{tar.Header{Typeflag: tar.TypeLink, Name: "etc/hard", Linkname: "dir/big"}, nil},
	}
	x := file("xattr", []byte("x"))
	x.PAXRecords = map[string]string{"SCHILY.xattr.user.key": "value", "SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20"}
	out = append(out, x)
	for i := range 300 {
		out = append(out, file(fmt.Sprintf("dir/sub/file-%03d", i), noise(uint64(i), i*37)))
	}
	return out
}

func upper() []entry {
	return []entry{
		{tar.Header{Typeflag: tar.TypeDir, Name: "etc/", Mode: 0o755}, nil},
		{tar.Header{Typeflag: tar.TypeReg, Name: "etc/.wh.conf", Mode: 0o644}, nil},
		{tar.Header{Typeflag: tar.TypeReg, Name: "etc/new", Mode: 0o600, Size: 3}, []byte("new")},
	}
}

// archive writes the entries as a tar.
func archive(t *testing.T, entries []entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := e.Header
		h.ModTime = time.Unix(1_600_000_000, 0)
		if h.PAXRecords != nil {
			h.Format = tar.FormatPAX
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zipped(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// describe lists the entries of a tar in the order of names, so that two
// tars with the same files compare equal whatever their order; the names of
// one hard link are put together.
func describe(t *testing.T, r io.Reader) []string {
	t.Helper()
	content := map[string]string{}
	groups := map[string][]string{}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.Trim(strings.TrimPrefix(h.Name, "./"), "/")
		if name == "" || name == "." {
			continue
		}
		if h.Typeflag == tar.TypeLink {
			target := strings.Trim(strings.TrimPrefix(h.Linkname, "./"), "/")
			if groups[target] == nil {
				t.Errorf("%s is a link to %s, which does not come before it", name, target)
			}
			groups[target] = append(groups[target], name)
			continue
		}
		groups[name] = []string{name}
		b, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		var xattrs []string
		for k, v := range h.PAXRecords {
			if strings.HasPrefix(k, "SCHILY.xattr.") {
				xattrs = append(xattrs, fmt.Sprintf("%s=%x", k, v))
			}
		}
		slices.Sort(xattrs)
		content[name] = fmt.Sprintf("%c %o %d:%d %d %d:%d %d >%s %x %v", h.Typeflag, h.Mode&0o7777, h.Uid, h.Gid, h.Size,
			h.Devmajor, h.Devminor, h.ModTime.Unix(), h.Linkname, sha256.Sum256(b), xattrs)
	}
	var out []string
	for name, c := range content {
		slices.Sort(groups[name])
		out = append(out, fmt.Sprint(groups[name], " ", c))
	}
	slices.Sort(out)
	return out
}

func same(t *testing.T, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("got %d entries, want %d", len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("entry %d\ngot  %s\nwant %s", i, got[i], want[i])
		}
	}
}

// blobReader is a blob in memory.
type blobReader struct{ *bytes.Reader }

func (blobReader) Close() error { return nil }

var _ content.ReaderAt = blobReader{}

func pack(t *testing.T, layer []byte, opt converter.PackOption) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	opt.WorkDir, opt.BuilderPath = t.TempDir(), builder
	var blob bytes.Buffer
	w, err := converter.Pack(ctx, &blob, opt)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(w, bytes.NewReader(layer)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return blob.Bytes()
}

func TestPackMergeUnpack(t *testing.T) {
	layer := archive(t, lower())
	want := describe(t, bytes.NewReader(layer))
	for _, opt := range []converter.PackOption{
		{FsVersion: "6"},
		{FsVersion: "5"},
		{FsVersion: "6", Compressor: "lz4_block", ChunkSize: "0x10000"},
		{FsVersion: "6", Compressor: "none"},
		{FsVersion: "5", Compressor: "lz4_block", AlignedChunk: true},
	} {
		t.Run(fmt.Sprintf("v%s-%s", opt.FsVersion, opt.Compressor), func(t *testing.T) {
			blob := pack(t, zipped(t, layer), opt)
			if again := pack(t, layer, opt); !bytes.Equal(blob, again) {
				t.Errorf("packed again: got other bytes")
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			for _, stream := range []bool{false, true} {
				var out bytes.Buffer
				err := converter.Unpack(ctx, blobReader{bytes.NewReader(blob)}, &out, converter.UnpackOption{
					WorkDir: t.TempDir(), BuilderPath: builder, Stream: stream,
				})
				if err != nil {
					t.Fatal(err)
				}
				same(t, describe(t, &out), want)
			}

			second := pack(t, archive(t, upper()), opt)
			var boot bytes.Buffer
			digests, err := converter.Merge(ctx, []converter.Layer{
				{Digest: digest.FromBytes(blob), ReaderAt: blobReader{bytes.NewReader(blob)}},
				{Digest: digest.FromBytes(second), ReaderAt: blobReader{bytes.NewReader(second)}},
			}, &boot, converter.MergeOption{WorkDir: t.TempDir(), BuilderPath: builder, FsVersion: opt.FsVersion})
			if err != nil {
				t.Fatal(err)
			}
			if want := []digest.Digest{digest.FromBytes(blob), digest.FromBytes(second)}; !slices.Equal(digests, want) {
				t.Errorf("blobs of the merged image: got %v, want %v", digests, want)
			}
			same(t, unpackMerged(t, boot.Bytes(), map[string][]byte{
				digest.FromBytes(blob).Encoded(): blob, digest.FromBytes(second).Encoded(): second,
			}), merged(t))
		})
	}
}

// merged describes both layers on top of each other.
func merged(t *testing.T) []string {
	t.Helper()
	var all []entry
	for _, e := range lower() {
		if e.Name != "etc/conf" && e.Name != "etc/" {
			all = append(all, e)
		}
	}
	for _, e := range upper() {
		if e.Name != "etc/.wh.conf" {
			all = append(all, e)
		}
	}
	return describe(t, bytes.NewReader(archive(t, all)))
}

// unpackMerged writes a merged bootstrap and its blobs to a directory and
// unpacks them.
func unpackMerged(t *testing.T, boot []byte, blobs map[string][]byte) []string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "image.boot")
	if err := os.WriteFile(path, boot, 0o600); err != nil {
		t.Fatal(err)
	}
	for id, b := range blobs {
		if err := os.WriteFile(filepath.Join(dir, id), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "out.tar")
	if b, err := exec.Command(builder, "unpack", "--bootstrap", path, "--blob-dir", dir, "--output", out).CombinedOutput(); err != nil {
		t.Fatalf("unpack: %v: %s", err, b)
	}
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return describe(t, f)
}
