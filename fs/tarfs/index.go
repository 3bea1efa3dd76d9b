package tarfs

import (
	"bytes"
	"crypto/sha256"
	"encoding/gob"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sluicefs/sluice/storage/codec/seek"
)

// index is what is kept of an archive: a gob behind a magic and a SHA-256 of
// it. An index that is damaged, or of another version, is as good as none.
type index struct {
	Members []member
	Seek    *seek.Index // nil for a tar that is not compressed
}

const indexMagic = "sluice tar index 1\n"

// cacheFile is where the index of an archive is kept: under a name that
// changes with the archive. "" is nowhere.
func cacheFile(dir, name string, st fs.FileInfo) string {
	if dir == "" {
		return ""
	}
	abs, err := filepath.Abs(name)
	if err != nil {
		return ""
	}
	key := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d\x00%d\x00%d", abs, st.Size(), st.ModTime().UnixNano(), inode(st)))
	return filepath.Join(dir, hex.EncodeToString(key[:16])+".tarindex")
}

// load returns the index in the file name, nil if there is none that can be
// used.
func load(name string, format seek.Format) *index {
	if name == "" {
		return nil
	}
	data, err := os.ReadFile(name)
	if err != nil || !bytes.HasPrefix(data, []byte(indexMagic)) || len(data) < len(indexMagic)+sha256.Size {
		return nil
	}
	data = data[len(indexMagic):]
	sum := sha256.Sum256(data[sha256.Size:])
	if !bytes.Equal(sum[:], data[:sha256.Size]) {
		return nil
	}
	x := &index{}
	if gob.NewDecoder(bytes.NewReader(data[sha256.Size:])).Decode(x) != nil {
		return nil
	}
	if (x.Seek == nil) != (format == 0) {
		return nil
	}
	return x
}

// save writes the index under its name, whole or not at all.
func (x *index) save(name string) error {
	if name == "" {
		return nil
	}
	var data bytes.Buffer
	if err := gob.NewEncoder(&data).Encode(x); err != nil {
		return err
	}
	sum := sha256.Sum256(data.Bytes())
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".tarindex-*")
	if err != nil {
		return err
	}
	_, err1 := f.WriteString(indexMagic)
	_, err2 := f.Write(append(sum[:], data.Bytes()...))
	err = errors.Join(err1, err2, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
