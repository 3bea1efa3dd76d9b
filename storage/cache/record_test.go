package cache

import (
	"bytes"
	"testing"

	"github.com/sluicefs/sluice/storage"
)

func FuzzParseRecord(f *testing.F) {
	r := record{state: synced, offset: 4096, size: 100, digest: storage.Digest{Sum: [32]byte{1}, Algorithm: storage.SHA256}, access: 7}
	f.Add(r.append(nil, 9), uint64(9))
	r.state, r.boot, r.flags = written, 5, inExtra|ownDigest
	f.Add(r.append(nil, 1), uint64(1))
	f.Add(make([]byte, recordSize), uint64(0))
	f.Fuzz(func(t *testing.T, b []byte, id uint64) {
		r := parseRecord(b, id)
		if r.state == absent {
			return
		}
		if r.offset < 0 || r.size == 0 || r.size > maxChunkSize {
			t.Errorf("record %+v", r)
		}
		if !bytes.Equal(r.append(nil, id), b[:recordSize]) {
			t.Errorf("record %+v is written in another way than it was read", r)
		}
		if r := parseRecord(b, id+1); r.state != absent {
			t.Error("record of one file is believed of another")
		}
	})
}
