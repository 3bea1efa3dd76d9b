package build

import (
	"encoding/binary"
	"slices"
)

// Small files that follow one another are compressed together, up to the
// batch size and within a slot. Which of them are new only the writer knows
// for certain, but nearly always a worker knows it too: it compresses what it
// takes for the batches, and the writer uses those of its units that have
// just the pieces they ought to, and compresses others itself. So the bytes
// do not depend on what a worker knew.

// unit is a batch as a worker saw it.
type unit struct {
	pieces []int  // in the slot
	comp   []byte // nil if the bytes are stored as they are
}

// ends reports whether a batch of that many bytes ends before a chunk of size
// bytes that is to be stored.
func (o *Options) ends(batch, size int, batched bool) bool {
	return batch > 0 && (!batched || batch+size >= int(o.BatchSize))
}

// compressBatches makes the units of s, whose pieces have their digests.
func (b *builder) compressBatches(s *slot, c *coder) {
	var u unit
	c.batch = c.batch[:0]
	end := func() {
		if len(u.pieces) == 0 {
			return
		}
		if out, ok := c.compress(make([]byte, 0, bound(len(c.batch))), c.batch); ok {
			u.comp = out
		}
		s.units = append(s.units, u)
		u, c.batch = unit{}, c.batch[:0]
	}
	here := make(map[[32]byte]bool, len(s.pieces)) // files of one slot may be equal
	for i := range s.pieces {
		p := &s.pieces[i]
		if p.known || here[p.digest] {
			continue
		}
		here[p.digest] = true
		batched := b.batched(p)
		if b.opt.ends(len(c.batch), p.to-p.at, batched) {
			end()
		}
		if batched {
			u.pieces = append(u.pieces, i)
			c.batch = append(c.batch, s.in[p.at:p.to]...)
		}
	}
	end()
}

// addToBatch puts the piece of that number in the slot into the batch under
// way.
func (w *blobWriter) addToBatch(piece int, plain []byte) {
	w.batch = append(w.batch, plain...)
	w.batchPieces = append(w.batchPieces, piece)
}

// endBatch writes the batch under way, if there is one; units are those of
// its slot.
func (w *blobWriter) endBatch(units []unit) error {
	if len(w.batch) == 0 {
		return nil
	}
	var comp []byte
	i, ok := slices.BinarySearchFunc(units, w.batchPieces[0], func(u unit, first int) int { return u.pieces[0] - first })
	if ok && slices.Equal(units[i].pieces, w.batchPieces) {
		comp = units[i].comp
	} else if out, ok := w.coder.compress(make([]byte, 0, bound(len(w.batch))), w.batch); ok {
		comp = out
	}
	stored := w.batch
	if comp != nil {
		stored = comp
	}
	if err := w.write(stored); err != nil {
		return err
	}
	le := binary.LittleEndian
	c := w.blob.batches
	c = le.AppendUint32(c, uint32(len(stored)))
	c = le.AppendUint32(c, uint32(len(w.batch)))
	w.blob.batches = append(c, make([]byte, 32)...)
	w.contexts++
	w.batch, w.batchPieces = w.batch[:0], w.batchPieces[:0]
	return nil
}
