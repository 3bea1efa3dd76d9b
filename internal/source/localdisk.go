package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sluicefs/sluice/storage/backend/localdisk"
)

// diskBootstrap is the partition that has the bootstrap of the image on a
// disk. The others are named as package localdisk says.
const diskBootstrap = "image.boot"

// OpenDisk opens a disk, or a file like one, with blobs in its partitions; one
// without a table of partitions is a blob as a whole, the only one of its
// image.
func OpenDisk(path string) (*localdisk.Backend, error) {
	b, err := localdisk.Open(path, localdisk.Options{})
	if errors.Is(err, localdisk.ErrNoTable) {
		return localdisk.Open(path, localdisk.Options{Raw: true})
	}
	return b, err
}

// fromDisk opens an image whose bootstrap and blobs are partitions.
func (i *Image) fromDisk(ctx context.Context, o *Options) (string, error) {
	b, err := localdisk.Open(i.Ref.Name, localdisk.Options{})
	if err != nil {
		return "", err
	}
	i.use(b)
	boot, err := i.fetchBootstrap(ctx, b, diskBootstrap, filepath.Join(o.CacheDir, "bootstraps"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("it has no partition called %s (a bootstrap that lies elsewhere is the source to give, and the disk its --blob-dir)", diskBootstrap)
	}
	return boot, err
}

// device reports whether path is a block device.
func device(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().Type() == fs.ModeDevice
}
