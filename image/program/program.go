// Package program tells what a program of an image will need when it is
// started: its interpreter and the shared libraries that its loader will look
// for, by what the program itself says. A lazy mount fetches them at once,
// where else one after another would be found missing, each a round trip.
//
// It is a forecast and nothing more: what it cannot parse, or does not find
// where loaders look by default, is left out.
package program

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"strings"
)

// Needs is what a program says of itself.
type Needs struct {
	Interpreter string   // path, "" if it has none
	Libraries   []string // names, or paths if they have slashes
	Machine     elf.Machine
	Script      bool // it is a text that its interpreter reads
}

// Limits of what is believed.
const (
	maxHeaders   = 128     // program headers
	maxDynamic   = 1 << 16 // bytes of the dynamic section
	maxStrings   = 4 << 20 // offset of a name in the string table
	maxName      = 4096
	maxLibraries = 256
)

// errForeign says that a file is neither a script nor a program of this form.
var errForeign = errors.New("neither a script nor an ELF file of 64 bits, little endian")

// Is reports whether a file that begins with head, some 64 bytes, may be a
// program or a library.
func Is(head []byte) bool {
	return bytes.HasPrefix(head, []byte(elf.ELFMAG)) || bytes.HasPrefix(head, []byte("#!"))
}

// Parse reads what a script or an ELF file needs: its interpreter, and the
// libraries that its dynamic section names.
func Parse(r io.ReaderAt) (*Needs, error) {
	var head [256]byte
	n, err := r.ReadAt(head[:], 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	b := head[:n]
	switch {
	case bytes.HasPrefix(b, []byte("#!")):
		return script(b), nil
	case len(b) >= 64 && bytes.HasPrefix(b, []byte(elf.ELFMAG)) && b[elf.EI_CLASS] == byte(elf.ELFCLASS64) && b[elf.EI_DATA] == byte(elf.ELFDATA2LSB):
		return parseELF(r, b)
	}
	return nil, errForeign
}

// script takes the interpreter from the first line of a script.
func script(b []byte) *Needs {
	line, _, _ := bytes.Cut(b[2:], []byte("\n"))
	words := strings.Fields(string(line))
	if len(words) == 0 {
		return &Needs{Script: true}
	}
	return &Needs{Interpreter: words[0], Script: true}
}

// segment is a program header.
type segment struct {
	kind               elf.ProgType
	offset, addr, size uint64
}

var le = binary.LittleEndian

func parseELF(r io.ReaderAt, head []byte) (*Needs, error) {
	out := &Needs{Machine: elf.Machine(le.Uint16(head[18:]))}
	const entry = 56
	at, count := le.Uint64(head[32:]), int(le.Uint16(head[56:]))
	if int(le.Uint16(head[54:])) != entry || count > maxHeaders || at > 1<<40 {
		return nil, errForeign
	}
	table := make([]byte, count*entry)
	if _, err := r.ReadAt(table, int64(at)); err != nil {
		return nil, err
	}
	var all []segment
	for b := table; len(b) >= entry; b = b[entry:] {
		all = append(all, segment{elf.ProgType(le.Uint32(b)), le.Uint64(b[8:]), le.Uint64(b[16:]), le.Uint64(b[32:])})
	}
	for _, s := range all {
		var err error
		switch s.kind {
		case elf.PT_INTERP:
			out.Interpreter, err = name(r, s.offset)
		case elf.PT_DYNAMIC:
			err = out.dynamic(r, s, all)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// dynamic reads the dynamic section.
func (out *Needs) dynamic(r io.ReaderAt, s segment, all []segment) error {
	if s.size > maxDynamic || s.offset > 1<<40 {
		return errForeign
	}
	b := make([]byte, s.size)
	if _, err := r.ReadAt(b, int64(s.offset)); err != nil {
		return err
	}
	var names []uint64
	strs := uint64(0)
entries:
	for ; len(b) >= 16; b = b[16:] {
		switch value := le.Uint64(b[8:]); elf.DynTag(le.Uint64(b)) {
		case elf.DT_NEEDED:
			if names = append(names, value); len(names) > maxLibraries || value > maxStrings {
				return errForeign
			}
		case elf.DT_STRTAB:
			strs = value
		case elf.DT_NULL:
			break entries
		}
	}
	for _, s := range all {
		if s.kind != elf.PT_LOAD || strs < s.addr || strs-s.addr >= s.size {
			continue
		}
		for _, n := range names {
			lib, err := name(r, s.offset+strs-s.addr+n)
			if err != nil {
				return err
			}
			out.Libraries = append(out.Libraries, lib)
		}
		return nil
	}
	return nil
}

// name reads the string at off, which ends with a zero.
func name(r io.ReaderAt, off uint64) (string, error) {
	if off > 1<<40 {
		return "", errForeign
	}
	var b [maxName]byte
	for n := 64; n <= len(b); n *= 4 {
		got, err := r.ReadAt(b[:n], int64(off))
		if s, _, ok := bytes.Cut(b[:got], []byte{0}); ok {
			return string(s), nil
		}
		if err != nil {
			return "", err
		}
	}
	return "", errForeign
}
