package stall

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestTurnStolenOnlyWhileHandling(t *testing.T) {
	var turn Turn
	a := turn.Begin()
	if !turn.End(a) {
		t.Error("end of an untouched turn: got false, want true")
	}
	if turn.Steal(a) {
		t.Error("steal of an ended turn: got true, want false")
	}
	b := turn.Begin()
	if a == b {
		t.Errorf("tickets: got %d twice", a)
	}
	if !turn.Steal(b) || turn.Steal(b) {
		t.Error("steal twice: want true, then false")
	}
	if turn.End(b) {
		t.Error("end of a stolen turn: got true, want false")
	}
}

func TestTurnLook(t *testing.T) {
	var turn Turn
	look := func(name string, wantMoved, wantInside, wantStuck bool) {
		t.Helper()
		if _, moved, inside, stuck := turn.Look(); moved != wantMoved || inside != wantInside || stuck != wantStuck {
			t.Errorf("%s: got %v %v %v, want %v %v %v", name, moved, inside, stuck, wantMoved, wantInside, wantStuck)
		}
	}
	look("fresh", false, false, false)
	k := turn.Begin()
	look("begun", true, true, false)
	look("same turn", false, true, true)
	turn.End(k)
	look("ended", true, false, false)
	turn.Begin()
	look("next turn", true, true, false)
}

func TestMonitorSleepsAndWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks, active atomic.Int32
		m := Start(time.Millisecond, func() bool {
			looks.Add(1)
			return active.Load() != 0
		})
		defer m.Stop()
		time.Sleep(time.Second)
		synctest.Wait()
		n := looks.Load()
		if n > idleLooks+1 {
			t.Errorf("looks at nothing: got %d, want at most %d", n, idleLooks+1)
		}
		active.Store(1)
		m.Wake()
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if got := looks.Load() - n; got < 90 {
			t.Errorf("looks in 100 periods of activity: got %d", got)
		}
	})
}
