package cache

import (
	"fmt"
	"testing"

	"github.com/sluicefs/sluice/storage"
)

// BenchmarkRead reads what is in the cache and in the kernel's page cache.
func BenchmarkRead(b *testing.B) {
	t := newTestBlob(1, 64, 1<<20, storage.None, true)
	c, err := Open(b.TempDir(), Options{Log: quiet})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	r := c.Reader(backendOf(t), ReaderOptions{})
	defer r.Close()
	ext, _ := t.file(0, 64)
	if err := r.Prefetch(b.Context(), ext); err != nil {
		b.Fatal(err)
	}
	r.settle()
	for _, size := range []int{4 << 10, 128 << 10, 512 << 10} {
		b.Run(fmt.Sprintf("size=%dk", size>>10), func(b *testing.B) {
			p := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				e := ext[i%64 : i%64+1]
				if err := r.ReadExtents(b.Context(), p, e); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}
