package erofs_test

import (
	"os"
	"testing"

	"github.com/sluicefs/sluice/image/detect"
)

// Digests that mkfs.erofs keeps in attributes of no namespace are not shown,
// as the kernel does not. The image is mkfs.erofs 1.9.3 --xattr-inode-digest
// of a directory with the file "f".
func TestXattrsOfTheFormatItself(t *testing.T) {
	const name = "testdata/inode-digest.erofs"
	if b, err := os.ReadFile(name); err != nil || len(b) != 4096 {
		t.Fatalf("image: got %d bytes, %v", len(b), err)
	}
	im, err := detect.Open(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	nid, err := im.Lookup(im.Root(), "f")
	if err != nil {
		t.Fatal(err)
	}
	err = im.ListXattr(nid, func(prefix string, suffix []byte) bool {
		t.Errorf("got %s%s, want no attribute", prefix, suffix)
		return true
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := im.Xattr(nid, "erofs.fingerprint.v1"); err == nil {
		t.Error("value of a hidden attribute: got no error")
	}
}
