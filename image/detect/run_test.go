package detect_test

import (
	"testing"

	"github.com/sluicefs/sluice/image/imagetest"
)

func TestTreesKeepTheRules(t *testing.T) {
	for _, name := range [...]string{
		"../rafs/testdata/rafs-v6-2.2.boot", "../rafs/testdata/v5-blake3-none-ext.boot", "../rafs/testdata/v5-blake3-lz4-noext.boot",
		"../erofs/testdata/plain.erofs", "../erofs/testdata/chunks.erofs", "../erofs/testdata/lz4.erofs",
		"../erofs/testdata/zstd.erofs", "../erofs/testdata/deflate.erofs",
	} {
		t.Run(name, func(t *testing.T) { imagetest.Run(t, open(t, name)) })
	}
}
