package build

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluicefs/sluice/image/imagetest"
	"github.com/sluicefs/sluice/internal/testenv"
)

// tarfsLines are entries for a tar with files of several chunks.
func tarfsLines() []string {
	return []string{
		"d a", "f a/big " + string(text(1, 300_000)), "f a/one 1", "f a/block " + string(text(2, 512)), "l a/link " + strings.Repeat("x", 600),
		"h hard a/big", "f empty", "d many/" + strings.Repeat("n", 200), "f many/" + strings.Repeat("m", 255) + " m", "f many/" + strings.Repeat("o", 250) + " o",
	}
}

// A tarfs image shows the files of the tar, and its blob is the tar.
func TestTarfs(t *testing.T) {
	layer := archive(t, tarfsLines()...)
	normal, _, normalDir := create(t, Tars(bytesLayer("tar", layer)), Options{})
	want := treeLines(t, normal, blobFiles(normalDir))
	tree, res, dir := create(t, Tars(bytesLayer("tar", layer)), Options{Tarfs: true, ChunkSize: 64 << 10})
	sameLines(t, "tarfs", treeLines(t, tree, blobFiles(dir)), want)
	if len(res.Written) != 1 || res.Written[0].Size != int64(len(layer)) || hashFile(t, res.Written[0].Path) != res.Blobs[0] {
		t.Errorf("blob: got %+v, want the %d bytes of the tar", res.Written, len(layer))
	}
	clean(t, filepath.Join(dir, "image.boot"), dir)
}

func TestIntegrationKernelShowsTarfs(t *testing.T) {
	testenv.Root(t)
	testenv.Filesystem(t, "erofs")
	tree, res, dir := create(t, Tars(bytesLayer("tar", archive(t, tarfsLines()...))), Options{Tarfs: true})
	point := imagetest.MountEROFS(t, filepath.Join(dir, "image.boot"), res.Written[0].Path)
	sameLines(t, "kernel", osLines(t, point), treeLines(t, tree, blobFiles(dir)))
}

// Tarfs layers are merged as others are: one tar for each.
func TestTarfsMerge(t *testing.T) {
	lower, upper := bytesLayer("lower", archive(t, tarfsLines()...)), bytesLayer("upper", archive(t, "d a", "f a/.wh.one", "f new "+string(text(9, 70_000))))
	normal, _, normalDir := create(t, Tars(lower, upper), Options{})
	dir := t.TempDir()
	var layers []MergeLayer
	for i, l := range []Layer{lower, upper} {
		boot := filepath.Join(dir, []string{"one", "two"}[i])
		_, err := Create(t.Context(), Tars(l), Output{Bootstrap: boot, BlobDir: dir}, Options{Tarfs: true, ChunkSize: 8192, Whiteouts: WhiteoutsNone})
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, MergeLayer{Tree: openTree(t, boot)})
	}
	merged := filepath.Join(dir, "merged")
	if _, err := Merge(t.Context(), layers, Output{Bootstrap: merged}, Options{}); err != nil {
		t.Fatal(err)
	}
	sameLines(t, "merged tarfs", treeLines(t, openTree(t, merged), blobFiles(dir)), treeLines(t, normal, blobFiles(normalDir)))
}

func TestTarfsRefused(t *testing.T) {
	layer := bytesLayer("tar", archive(t, "f one 1"))
	for want, opt := range map[string]Options{"v5": {Tarfs: true, Version: 5}, "tar itself": {Tarfs: true, TOC: true}} {
		failing(t, t.Context(), t.TempDir(), want, Tars(layer), opt)
	}
	failing(t, t.Context(), t.TempDir(), "one tar", Tars(layer, layer), Options{Tarfs: true})
	failing(t, t.Context(), t.TempDir(), "of a tar", Dir(t.TempDir()), Options{Tarfs: true})
}
