package cache

import (
	"math/bits"
	"sync"
)

// buffers lends byte slices by size class, powers of two from 4 KiB to 16
// MiB; larger ones are made anew. A slice has one owner at a time.
type buffers struct{ classes [13]sync.Pool }

func class(n int) int {
	if n <= 4096 {
		return 0
	}
	return bits.Len(uint(n-1)) - 12
}

func (p *buffers) get(n int) []byte {
	k := class(n)
	if k >= len(p.classes) {
		return make([]byte, n)
	}
	if b, ok := p.classes[k].Get().(*[]byte); ok {
		return (*b)[:n]
	}
	return make([]byte, n, 4096<<k)
}

func (p *buffers) put(b []byte) {
	if k := class(cap(b)); k < len(p.classes) && cap(b) == 4096<<k {
		b = b[:0]
		p.classes[k].Put(&b)
	}
}
