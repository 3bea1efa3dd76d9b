package daemon

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"reflect"
	"strings"
	"testing"
)

// A state of another version, or one that was damaged, is refused with the
// reason.
func TestStateRefused(t *testing.T) {
	s := &savedState{Mountpoint: "/m", Specs: []Spec{{Path: "/a", Source: "x", UIDMap: []string{"0:1:2"}}}, Session: []byte{1, 2}}
	good, err := s.encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decodeState(good); err != nil || !reflect.DeepEqual(got, s) {
		t.Fatalf("there and back: %+v, %v", got, err)
	}
	sealed := func(b []byte) []byte { // with the right checksum
		return binary.LittleEndian.AppendUint32(b[:len(b)-4], crc32.Checksum(b[:len(b)-4], castagnoli))
	}
	for _, c := range []struct {
		why, reason string
		spoil       func(b []byte) []byte
	}{
		{"newer", "version 2", func(b []byte) []byte { b[8] = 2; return sealed(b) }},
		{"older", "version 0", func(b []byte) []byte { b[8] = 0; return sealed(b) }},
		{"of nydusd", "not of this program", func([]byte) []byte { return []byte("a versionize stream of another daemon") }},
		{"cut", "announced", func(b []byte) []byte { return b[:len(b)-1] }},
		{"flipped", "checksum", func(b []byte) []byte { b[20] ^= 1; return b }},
		{"no JSON", "saved state", func(b []byte) []byte { b[16] = 'x'; return sealed(b) }},
		{"empty", "not of this program", func([]byte) []byte { return nil }},
	} {
		if _, err := decodeState(c.spoil(bytes.Clone(good))); err == nil || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s: got %v, want %q", c.why, err, c.reason)
		}
	}
}

func FuzzDecodeState(f *testing.F) {
	s := &savedState{Mountpoint: "/m", Specs: []Spec{{Path: "/a", Source: "x"}}, Leaving: []left{{Slot: 7}}}
	b, err := s.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[stateHead : len(b)-4])
	f.Add([]byte(`{"specs":[{"path":1}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		_, _ = decodeState(body)
		// a body that the checksum vouches for
		b := append([]byte(stateMagic), 1, 0, 0, 0)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(body)))
		b = append(b, body...)
		b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
		s, err := decodeState(b)
		if err != nil {
			return
		}
		again, err := s.encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeState(again)
		if err != nil {
			t.Fatal(err)
		}
		if third, err := got.encode(); err != nil || !bytes.Equal(third, again) {
			t.Errorf("there and back: %q, %v, want %q", third, err, again)
		}
	})
}
