package sys

import (
	"errors"
	"runtime"
	"sync"
	"testing"
)

func TestKick(t *testing.T) {
	stop := make(chan struct{})
	var busy sync.WaitGroup
	for range 2 { // collections and signals while processes are made
		busy.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_ = make([]byte, 1<<16)
					runtime.Gosched()
				}
			}
		})
	}
	var kicks sync.WaitGroup
	for range 4 {
		kicks.Go(func() {
			for range 20 {
				k, err := StartKick([]byte("/\x00"), 0, 2)
				if err == nil {
					err = k.Wait()
				}
				if err != nil && !errors.Is(err, ErrUnreachableCPU) {
					t.Error(err)
				}
			}
		})
	}
	kicks.Wait()
	close(stop)
	busy.Wait()
	k, err := StartKick([]byte("/\x00"), 1023, 1)
	if err == nil {
		err = k.Wait()
	}
	if !errors.Is(err, ErrUnreachableCPU) {
		t.Errorf("kick on a processor that is not there: got %v, want %v", err, ErrUnreachableCPU)
	}
	if _, err := StartKick([]byte("/"), 0, 1); err == nil {
		t.Error("a path that does not end was taken")
	}
}

func TestStartPoll(t *testing.T) {
	k, err := StartPoll([]byte("/dev/null\x00"))
	if err == nil {
		err = k.Wait()
	}
	if err != nil {
		t.Error(err)
	}
	if _, err := StartPoll([]byte("/")); err == nil {
		t.Error("a path that does not end was taken")
	}
}
