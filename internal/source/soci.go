package source

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sluicefs/sluice/image/estargz"
	"github.com/sluicefs/sluice/storage"
)

// A SOCI index says of the layers of a plain image where in them
// decompression can start, so that the image can be mounted without being
// fetched. There are two kinds. The second names the image and is named by
// its manifest: who trusts the image's digest can trust it. One of the first
// is only a referrer, which whoever may push to the repository can add; it is
// used for an image that was named by its tag, which the same people can move.
const (
	sociType      = "application/vnd.amazon.soci.index.v1+json"
	sociInImage   = "com.amazon.soci.index-digest"          // annotation of the image
	sociOfImage   = "com.amazon.soci.image-manifest-digest" // of the index
	sociLayer     = "com.amazon.soci.image-layer-digest"    // of a zTOC in it
	sociTableType = "application/octet-stream"
	sociSaved     = "soci.json" // the index, when all that is needed beside it is there
	maxZTOC       = 256 << 20
)

// sociIndex returns the SOCI index of the image, nil if there is none.
func (r *repository) sociIndex(ctx context.Context, d *description) ([]byte, error) {
	if digest := d.manifest.Annotations[sociInImage]; digest != "" {
		m, err := r.manifest(ctx, digest)
		if err != nil {
			return nil, err
		}
		if of := m.Annotations[sociOfImage]; of != "" && of != d.digest.String() {
			return nil, fmt.Errorf("SOCI index %s is of the image %s", digest, of)
		}
		return m.Raw, nil
	}
	if r.pinned() {
		return nil, nil
	}
	list, err := r.Referrers(ctx, d.digest.String(), sociType)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	digest := list[len(list)-1].Digest
	m, err := r.manifest(ctx, digest)
	if err != nil {
		return nil, err
	}
	var index v1.Manifest
	if err := json.Unmarshal(m.Raw, &index); err != nil {
		return nil, fmt.Errorf("SOCI index: %w", err)
	}
	if index.Subject == nil || index.Subject.Digest != d.digest {
		return nil, fmt.Errorf("SOCI index %s is not of this image", digest)
	}
	return m.Raw, nil
}

// tables are the zTOCs that an index has, by the layers that they are of.
func tables(index []byte) (map[v1.Hash]v1.Descriptor, error) {
	var m v1.Manifest
	if err := json.Unmarshal(index, &m); err != nil {
		return nil, fmt.Errorf("SOCI index: %w", err)
	}
	all := map[v1.Hash]v1.Descriptor{}
	for _, l := range m.Layers {
		if h, err := v1.NewHash(l.Annotations[sociLayer]); err == nil && string(l.MediaType) == sociTableType {
			all[h] = l
		}
	}
	return all, nil
}

// fetchSOCI brings what mounting the image by its SOCI index needs into dir:
// the zTOCs, and the layers that have none, which are small or can not be
// indexed. It reports false if there is no index.
func (i *Image) fetchSOCI(ctx context.Context, r *repository, d *description, dir string, o *Options) (bool, error) {
	index, err := r.sociIndex(ctx, d)
	if err != nil || index == nil {
		return false, err
	}
	zs, err := tables(index)
	if err != nil {
		return false, err
	}
	var whole []v1.Descriptor
	size, indexed := int64(0), 0
	for _, l := range d.manifest.Layers {
		if z, ok := zs[l.Digest]; ok {
			b, err := r.small(ctx, z, maxZTOC)
			if err == nil {
				err = writeAtomic(filepath.Join(dir, z.Digest.Hex+".ztoc"), b)
			}
			if err != nil {
				return false, fmt.Errorf("zTOC of layer %s: %w", l.Digest, err)
			}
			indexed++
		} else if !estargz.Lazy([]estargz.Layer{tocLayer(l)}) {
			whole = append(whole, l)
			size += l.Size
		}
	}
	if indexed == 0 {
		return false, nil
	}
	i.fetchAheadLists(ctx, r, index, dir, o)
	done, end := func(int64) {}, func() {}
	if o.Fetching != nil && size > 0 {
		done, end = o.Fetching(i.Ref.Text, size)
	}
	for _, l := range whole {
		if err = fetchLayer(ctx, r.open, l, dir, done); err != nil {
			break
		}
	}
	end()
	if err != nil {
		return false, err
	}
	return true, writeAtomic(filepath.Join(dir, sociSaved), index)
}

// fetchLayer writes the uncompressed layer l to dir.
func fetchLayer(ctx context.Context, open opener, l v1.Descriptor, dir string, done func(int64)) (err error) {
	rc, err := open(ctx, l)
	if err != nil {
		return err
	}
	defer rc.Close()
	stored := bufio.NewReaderSize(&counted{rc, done}, 1<<16)
	plain, err := decompress(stored)
	if err != nil {
		return fmt.Errorf("layer %s: %w", l.Digest, err)
	}
	defer plain.Close()
	f, err := os.CreateTemp(dir, ".layer-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = io.Copy(f, plain)
	if err == nil {
		_, err = io.Copy(io.Discard, stored) // the digest is checked at the end
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("layer %s: %w", l.Digest, err)
	}
	return os.Rename(f.Name(), filepath.Join(dir, l.Digest.Hex+".tar"))
}

func tocLayer(l v1.Descriptor) estargz.Layer {
	return estargz.Layer{ID: l.Digest.Hex, Size: l.Size, Annotations: l.Annotations}
}

// openSOCI opens the image by what fetchSOCI has brought into dir.
func (i *Image) openSOCI(ctx context.Context, d *description, dir string) error {
	index, err := os.ReadFile(filepath.Join(dir, sociSaved))
	if err != nil {
		return err
	}
	zs, err := tables(index)
	if err != nil {
		return err
	}
	local, err := localBackend(dir)
	if err != nil {
		return err
	}
	b := &sociBackend{Backend: i.Backend, local: local, layers: map[string]string{}}
	var layers []estargz.Layer
	contents := map[v1.Hash][]byte{}
	for _, l := range d.manifest.Layers {
		e := tocLayer(l)
		if z, ok := zs[l.Digest]; ok {
			if e.ZTOC, err = readTable(filepath.Join(dir, z.Digest.Hex+".ztoc"), z); err != nil {
				return err
			}
			b.layers[estargz.SOCIBlob(e.ID, e.ZTOC)] = e.ID
			contents[l.Digest] = e.ZTOC
		} else if !estargz.Lazy([]estargz.Layer{e}) {
			f, err := os.Open(filepath.Join(dir, e.ID+".tar"))
			if err != nil {
				return err
			}
			defer f.Close()
			fi, err := f.Stat()
			if err != nil {
				return err
			}
			e.ID, e.Size, e.Tar = e.ID+".tar", fi.Size(), f
			b.layers[e.ID] = ""
		}
		layers = append(layers, e)
	}
	tree, err := estargz.Open(ctx, b, layers)
	if err != nil {
		return err
	}
	if i.Ahead, err = ahead(index, d, tree.Blobs(), contents, dir); err != nil {
		return errors.Join(err, tree.Close())
	}
	i.Tree, i.Backend = tree, b
	i.closers = append(i.closers, tree)
	if c, ok := local.(io.Closer); ok {
		i.closers = append(i.closers, c)
	}
	return nil
}

// readTable reads a zTOC and compares it with its digest.
func readTable(path string, z v1.Descriptor) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err == nil && sha256Hex(b) != z.Digest.Hex {
		err = fmt.Errorf("%s: does not have its digest", path)
	}
	return b, err
}

// sociBackend reads the blobs of an image that is mounted by a SOCI index:
// layers at the origin, or uncompressed on this machine.
type sociBackend struct {
	storage.Backend
	local  storage.Backend
	layers map[string]string // name of a blob -> its layer, "" for one that is local
}

// at returns where a blob is, and how it is called there.
func (s *sociBackend) at(blob string) (storage.Backend, string) {
	switch layer, ok := s.layers[blob]; {
	case !ok:
		return s.Backend, blob
	case layer == "":
		return s.local, blob
	default:
		return s.Backend, layer
	}
}

// ReadAt is that of storage.Backend.
func (s *sociBackend) ReadAt(ctx context.Context, blob string, p []byte, off int64) error {
	b, name := s.at(blob)
	return b.ReadAt(ctx, name, p, off)
}

// Size is that of storage.Backend.
func (s *sociBackend) Size(ctx context.Context, blob string) (int64, error) {
	b, name := s.at(blob)
	return b.Size(ctx, name)
}
