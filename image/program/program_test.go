package program

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"slices"
	"testing"
)

// elfFile makes a small ELF file with an interpreter and libraries.
func elfFile(interp string, libs ...string) []byte {
	const base, dyn, strs = 0x400000, 0x200, 0x400
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

func TestParseELF(t *testing.T) {
	n, err := Parse(bytes.NewReader(elfFile("/lib64/ld.so", "libm.so.6", "libc.so.6")))
	if err != nil {
		t.Fatal(err)
	}
	if n.Interpreter != "/lib64/ld.so" || !slices.Equal(n.Libraries, []string{"libm.so.6", "libc.so.6"}) || n.Machine != elf.EM_X86_64 {
		t.Errorf("got %+v", n)
	}
}

// TestParseAgreesWithTheStandardLibrary compares with debug/elf on a program
// of this machine, if there is one that is linked dynamically.
func TestParseAgreesWithTheStandardLibrary(t *testing.T) {
	for _, path := range []string{"/bin/ls", "/usr/bin/env", "/bin/sh"} {
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		defer f.Close()
		e, err := elf.NewFile(f)
		if err != nil || e.Class != elf.ELFCLASS64 || e.ByteOrder != binary.LittleEndian {
			continue
		}
		want, _ := e.ImportedLibraries()
		got, err := Parse(f)
		if err != nil || !slices.Equal(got.Libraries, want) {
			t.Errorf("%s: got %v, %v, want %v", path, got, err, want)
		}
	}
}

func TestParseScript(t *testing.T) {
	for text, want := range map[string]string{
		"#!/bin/sh\nexit\n":              "/bin/sh",
		"#! /usr/bin/env python3\n":      "/usr/bin/env",
		"#!":                             "",
		"#!\n/bin/sh":                    "",
		"#!/usr/bin/perl -w -T\nprint 1": "/usr/bin/perl",
	} {
		n, err := Parse(bytes.NewReader([]byte(text)))
		if err != nil || n.Interpreter != want {
			t.Errorf("%q: got %+v, %v, want %q", text, n, err, want)
		}
	}
	if n, err := Parse(bytes.NewReader([]byte("hello"))); err == nil {
		t.Errorf("a text: %+v", n)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(elfFile("/lib/ld.so", "libc.so"))
	f.Add([]byte("#!/bin/sh"))
	f.Add(elfFile("")[:70])
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := Parse(bytes.NewReader(b))
		if err == nil && len(n.Libraries) > maxLibraries {
			t.Errorf("%d libraries", len(n.Libraries))
		}
	})
}
