package source

import (
	"os"

	"github.com/sluicefs/sluice/storage"
	"github.com/sluicefs/sluice/storage/backend/localfs"
)

// localBackend reads blobs from those of dirs that are there.
func localBackend(dirs ...string) (storage.Backend, error) {
	var there []string
	for _, d := range dirs {
		if fi, err := os.Stat(d); err == nil && fi.IsDir() {
			there = append(there, d)
		}
	}
	if len(there) == 0 {
		there = dirs[:1]
	}
	return localfs.New(there...)
}
