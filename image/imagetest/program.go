package imagetest

import (
	"debug/elf"
	"encoding/binary"
)

// Program returns a small ELF file, of 1,536 bytes, with an interpreter and the
// libraries that it needs. It does not run.
func Program(interp string, libs ...string) []byte {
	const base, dyn, strs = 0x400000, 0x200, 0x400
	le := binary.LittleEndian
	b := make([]byte, 0x600)
	copy(b, elf.ELFMAG)
	b[elf.EI_CLASS], b[elf.EI_DATA] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB)
	le.PutUint16(b[18:], uint16(elf.EM_X86_64))
	le.PutUint64(b[32:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 3)
	header := func(k int, typ elf.ProgType, off, addr, size uint64) {
		p := b[64+56*k:]
		le.PutUint32(p, uint32(typ))
		le.PutUint64(p[8:], off)
		le.PutUint64(p[16:], addr)
		le.PutUint64(p[32:], size)
	}
	header(0, elf.PT_LOAD, 0, base, uint64(len(b)))
	header(1, elf.PT_DYNAMIC, dyn, base+dyn, 16*uint64(len(libs)+2))
	header(2, elf.PT_INTERP, 0x180, base+0x180, uint64(len(interp)+1))
	copy(b[0x180:], interp)
	at, d := 1, b[dyn:]
	entry := func(tag elf.DynTag, v uint64) {
		le.PutUint64(d, uint64(tag))
		le.PutUint64(d[8:], v)
		d = d[16:]
	}
	for _, l := range libs {
		entry(elf.DT_NEEDED, uint64(at))
		at += copy(b[strs+at:], l) + 1
	}
	entry(elf.DT_STRTAB, base+strs)
	entry(elf.DT_NULL, 0)
	return b
}
