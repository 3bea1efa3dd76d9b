package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/gzip"

	"github.com/sluicefs/sluice/image/rafs"
)

// targzEntries are files for an archive whose stretches matter: large ones,
// equal ones, many small ones, noise that deflate stores as it is.
func targzEntries() []string {
	noise := make([]byte, 0, 700_000)
	for sum := sha256.Sum256(nil); len(noise) < cap(noise)-32; sum = sha256.Sum256(sum[:]) {
		noise = append(noise, sum[:]...)
	}
	big := string(text(1, 2_400_000))
	lines := []string{"d a", "f a/zeros " + strings.Repeat("\x00", 3_000_000), "f a/big " + big, "f a/noise " + string(noise), "f a/same " + big, "h hard a/big", "l link a/big", "f empty"}
	for i := range 40 {
		lines = append(lines, "f a/small"+string(rune('A'+i))+" "+string(text(uint64(i), 1+i*977)))
	}
	return append(lines, "f last "+string(text(99, 300_000)))
}

// gzipped compresses b, cut into members of that many bytes with changing
// levels.
func gzipped(t testing.TB, b []byte, member int) []byte {
	t.Helper()
	var out bytes.Buffer
	for i := 0; len(b) > 0; i++ {
		z, err := gzip.NewWriterLevel(&out, []int{6, 0, 1, 4, gzip.HuffmanOnly}[i%5])
		if err != nil {
			t.Fatal(err)
		}
		n := min(len(b), member)
		if _, err := z.Write(b[:n]); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		b = b[n:]
	}
	return out.Bytes()
}

func layerOf(r func() io.Reader) Layer {
	return Layer{"archive", func(context.Context) (io.ReadCloser, error) { return io.NopCloser(r()), nil }}
}

// An image that refers to a tar.gz shows the files of the tar, with the
// untouched archive as the blob; the same bytes come whatever cuts the input.
func TestTargzRef(t *testing.T) {
	layer := archive(t, targzEntries()...)
	normal, _, normalDir := create(t, Tars(bytesLayer("tar", layer)), Options{})
	want := treeLines(t, normal, blobFiles(normalDir))
	for _, tt := range []struct {
		name   string
		member int
		opt    Options
	}{
		{"one member", len(layer), Options{TargzRef: true}},
		{"members", 1_700_000, Options{TargzRef: true, ChunkSize: 64 << 10, TOC: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			gz := gzipped(t, layer, tt.member)
			sum := sha256.Sum256(gz)
			id := hex.EncodeToString(sum[:])
			tree, res, dir := create(t, Tars(bytesLayer("tar.gz", gz)), tt.opt)
			if len(res.Blobs) != 1 || res.Blobs[0] != id || len(res.Written) != 1 {
				t.Fatalf("blobs: got %v, wrote %+v; want %s and one index", res.Blobs, res.Written, id)
			}
			info := tree.(*rafs.V6).BlobInfos()[0]
			if info.CompressedSize != uint64(len(gz)) || hex.EncodeToString(info.MetaDigest[:]) != hashFile(t, res.Written[0].Path) || info.MetaSize != uint64(res.Written[0].Size) {
				t.Errorf("blob table: got %+v", info)
			}
			if err := os.WriteFile(filepath.Join(dir, id), gz, 0o600); err != nil {
				t.Fatal(err)
			}
			sameLines(t, "files", treeLines(t, tree, blobFiles(dir)), want)
			clean(t, filepath.Join(dir, "image.boot"), dir)

			tt.opt.Parallel = 1
			_, again, _ := create(t, Tars(layerOf(func() io.Reader { return iotest.HalfReader(bytes.NewReader(gz)) })), tt.opt)
			if a, b := hashFile(t, res.Bootstrap), hashFile(t, again.Bootstrap); a != b || again.Written[0].ID != res.Written[0].ID {
				t.Errorf("made twice: bootstraps %s and %s, indexes %s and %s", a, b, res.Written[0].ID, again.Written[0].ID)
			}
		})
	}
}

// Such images are merged as others are: an archive for each layer.
func TestTargzRefMerge(t *testing.T) {
	lower := archive(t, "d a", "f a/one 1", "f a/two "+string(text(3, 200_000)))
	upper := archive(t, "d a", "f a/.wh.one", "f new "+string(text(9, 70_000)))
	normal, _, normalDir := create(t, Tars(bytesLayer("lower", lower), bytesLayer("upper", upper)), Options{})
	dir := t.TempDir()
	var layers []MergeLayer
	for i, l := range [][]byte{lower, upper} {
		gz := gzipped(t, l, 1<<20)
		boot := filepath.Join(dir, []string{"one", "two"}[i])
		res, err := Create(t.Context(), Tars(bytesLayer(boot, gz)), Output{Bootstrap: boot, BlobDir: dir, volatile: true}, Options{TargzRef: true, Whiteouts: WhiteoutsNone})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, res.Archive), gz, 0o600); err != nil {
			t.Fatal(err)
		}
		tree := openTree(t, boot)
		if err := tree.(*rafs.V6).LoadMeta(t.Context(), backend(t, dir)); err != nil {
			t.Fatal(err)
		}
		layers = append(layers, MergeLayer{Tree: tree})
	}
	merged := filepath.Join(dir, "merged")
	if _, err := Merge(t.Context(), layers, Output{Bootstrap: merged, volatile: true}, Options{}); err != nil {
		t.Fatal(err)
	}
	sameLines(t, "merged", treeLines(t, openTree(t, merged), blobFiles(dir)), treeLines(t, normal, blobFiles(normalDir)))
}

func TestTargzRefOfNothing(t *testing.T) {
	tree, res, _ := create(t, Tars(bytesLayer("tar.gz", gzipped(t, archive(t, "d a", "f a/empty"), 1<<20))), Options{TargzRef: true})
	if got := names(t, tree); len(res.Written) != 0 || !strings.Contains(got, "empty") {
		t.Errorf("got %s, wrote %+v", got, res.Written)
	}
}

func TestTargzRefRefused(t *testing.T) {
	plain := archive(t, "f one 1")
	gz := gzipped(t, archive(t, "f one "+string(text(1, 200_000))), 1<<20)
	layer := bytesLayer("tar.gz", gz)
	for want, opt := range map[string]Options{
		"v5": {TargzRef: true, Version: 5}, "tar.gz itself": {TargzRef: true, InlineMeta: true}, "at most 4194304": {TargzRef: true, ChunkSize: 8 << 20},
	} {
		failing(t, t.Context(), t.TempDir(), want, Tars(layer), opt)
	}
	ref := Options{TargzRef: true}
	failing(t, t.Context(), t.TempDir(), "made of one", Tars(layer, layer), ref)
	failing(t, t.Context(), t.TempDir(), "of a tar", Dir(t.TempDir()), ref)
	failing(t, t.Context(), t.TempDir(), "gzip: bad magic", Tars(bytesLayer("tar", plain)), ref)
	failing(t, t.Context(), t.TempDir(), "unexpected EOF", Tars(bytesLayer("cut", gz[:len(gz)/2])), ref)
	bad := bytes.Clone(gz)
	bad[len(bad)-5] ^= 1 // of the checksum
	failing(t, t.Context(), t.TempDir(), "checksum", Tars(bytesLayer("bad", bad)), ref)
}
