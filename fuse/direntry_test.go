package fuse

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

func TestDirEntryListRoundTrip(t *testing.T) {
	l := NewDirEntryList(make([]byte, 4096), 5)
	in := []DirEntry{
		{Name: ".", Ino: 1, Mode: S_IFDIR | 0o755},
		{Name: "sieben7", Ino: 0, Mode: S_IFREG | 0o644},
		{Name: "eight888", Ino: 3, Mode: S_IFLNK, Off: 1 << 40},
		{Name: strings.Repeat("x", 255), Ino: 4, Mode: S_IFREG},
	}
	for _, e := range in {
		if !l.AddDirEntry(e) {
			t.Fatalf("no room for %v", &e)
		}
	}
	got, err := ParseDirEntries(l.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	want := []DirEntry{
		{Name: ".", Ino: 1, Mode: S_IFDIR, Off: 6},
		{Name: "sieben7", Ino: FUSE_UNKNOWN_INO, Mode: S_IFREG, Off: 7},
		{Name: "eight888", Ino: 3, Mode: S_IFLNK, Off: 1 << 40},
		{Name: strings.Repeat("x", 255), Ino: 4, Mode: S_IFREG, Off: 1<<40 + 1},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	if l.Offset != 1<<40+1 {
		t.Errorf("offset: got %d", l.Offset)
	}
}

func TestDirEntryListOverflow(t *testing.T) {
	l := NewDirEntryList(make([]byte, 64), 0)
	if !l.Add(0, "first", 1, S_IFREG) {
		t.Fatal("no room for the first")
	}
	before := bytes.Clone(l.Bytes())
	if l.Add(0, strings.Repeat("x", 30), 2, S_IFREG) {
		t.Error("an entry that does not fit was taken")
	}
	if l.AddDirLookupEntry(DirEntry{Name: "p"}) != nil {
		t.Error("a lookup entry that does not fit was taken")
	}
	if !bytes.Equal(l.Bytes(), before) || l.Offset != 1 {
		t.Error("the list changed though there was no room")
	}
	if l.Add(0, "", 1, S_IFREG) {
		t.Error("an empty name was taken")
	}
	if !l.Add(0, "12345678", 3, S_IFREG) {
		t.Error("an entry that fits exactly was refused")
	}
}

func TestDirEntryListPlus(t *testing.T) {
	buf := bytes.Repeat([]byte{0xff}, 1024)
	l := NewDirEntryList(buf, 0)
	out := l.AddDirLookupEntry(DirEntry{Name: "a", Ino: 9, Mode: S_IFREG})
	if *out != (EntryOut{}) {
		t.Fatalf("the room for the answer is not zero: %+v", *out)
	}
	out.NodeId, out.Attr.Size = 42, 7
	if l.AddDirLookupEntry(DirEntry{Name: "b"}) == nil {
		t.Fatal("no room for the second")
	}
	l.FixMode(S_IFDIR | 0o700)
	es, outs, err := ParseDirLookupEntries(l.Bytes())
	if err != nil || len(es) != 2 || len(outs) != 2 {
		t.Fatalf("got %v, %v, %v", es, outs, err)
	}
	if outs[0].NodeId != 42 || outs[0].Size != 7 || outs[1].NodeId != 0 {
		t.Errorf("answers: got %+v", outs)
	}
	if es[1].Mode != S_IFDIR || es[0].Name != "a" {
		t.Errorf("entries: got %v", es)
	}
}

func TestDirEntryListNoAllocs(t *testing.T) {
	buf := make([]byte, 1<<16)
	l := NewDirEntryList(buf, 0)
	if n := testing.AllocsPerRun(100, func() {
		l.reset(buf, 0)
		for range 100 {
			l.AddDirEntry(DirEntry{Name: "some-name", Ino: 1, Mode: S_IFREG})
			l.AddDirLookupEntry(DirEntry{Name: "another", Ino: 2, Mode: S_IFREG}).NodeId = 3
		}
	}); n != 0 {
		t.Errorf("allocations: got %v, want 0", n)
	}
}

func FuzzParseDirEntries(f *testing.F) {
	l := NewDirEntryList(make([]byte, 512), 0)
	l.AddDirEntry(DirEntry{Name: "plain", Ino: 1, Mode: S_IFREG})
	f.Add(bytes.Clone(l.Bytes()))
	l.reset(make([]byte, 512), 0)
	l.AddDirLookupEntry(DirEntry{Name: "plus", Ino: 1, Mode: S_IFDIR}).NodeId = 5
	f.Add(bytes.Clone(l.Bytes()))
	f.Fuzz(func(t *testing.T, b []byte) {
		es, err := ParseDirEntries(b)
		if err == nil {
			l := NewDirEntryList(make([]byte, len(b)), 0)
			for _, e := range es {
				if e.Off == 0 || e.Ino == 0 || e.Mode>>16 != 0 {
					return // what a list does not write
				}
				if !l.AddDirEntry(e) {
					t.Fatalf("%d bytes do not hold what was in them", len(b))
				}
			}
		}
		es, outs, _ := ParseDirLookupEntries(b)
		if len(es) != len(outs) {
			t.Fatalf("%d entries, %d answers", len(es), len(outs))
		}
	})
}
