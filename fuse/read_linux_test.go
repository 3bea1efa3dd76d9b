package fuse

import (
	"testing"

	"github.com/sluicefs/sluice/splice"
)

func TestReadResultPipe(t *testing.T) {
	used := splice.Used()
	for _, room := range []int{16, 3} { // the second leaves bytes in the pipe
		p, err := splice.Get()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		r := ReadResultPipe(p, 5)
		got, st := r.Bytes(make([]byte, room))
		if want := "hello"[:min(5, room)]; !st.Ok() || string(got) != want {
			t.Errorf("got %q, %v, want %q", got, st, want)
		}
		r.Done()
		r.Done() // a second call must not give the pair back twice
	}
	if got := splice.Used(); got != used {
		t.Errorf("pairs in use: got %d, want %d", got, used)
	}
	p, err := splice.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer splice.Done(p)
	if n, err := p.Read(make([]byte, 8)); n > 0 || err == nil {
		t.Errorf("a pair from the pool holds bytes: %d, %v", n, err)
	}
}
