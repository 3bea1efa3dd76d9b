package program

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"slices"
	"testing"

	"github.com/sluicefs/sluice/image/imagetest"
)

func TestParseELF(t *testing.T) {
	n, err := Parse(bytes.NewReader(imagetest.Program("/lib64/ld.so", "libm.so.6", "libc.so.6")))
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
	f.Add(imagetest.Program("/lib/ld.so", "libc.so"))
	f.Add([]byte("#!/bin/sh"))
	f.Add(imagetest.Program("")[:70])
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := Parse(bytes.NewReader(b))
		if err == nil && len(n.Libraries) > maxLibraries {
			t.Errorf("%d libraries", len(n.Libraries))
		}
	})
}
