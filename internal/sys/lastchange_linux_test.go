package sys

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func ctimeAt(at time.Duration) *unix.Statx_t {
	return &unix.Statx_t{Ctime: unix.StatxTimestamp{Sec: int64(at / time.Second), Nsec: uint32(at % time.Second)}}
}

// TestLastChange goes through looks at given times of a file that was
// changed at given times.
func TestLastChange(t *testing.T) {
	const s = time.Second
	var c LastChange
	for _, step := range []struct {
		name      string
		ctime     time.Duration
		now       time.Duration
		unchanged bool
	}{
		{"first look", 10 * s, 20 * s, false},
		{"no change", 10 * s, 20*s + 1, true},
		{"changed", 21 * s, 21*s + Settled, false},
		{"no change since", 21 * s, 22 * s, true},
		{"changed just now", 30 * s, 30*s + Settled/2, false},
		{"perhaps changed within the tick", 30 * s, 31 * s, false},
		{"settled", 30 * s, 31*s + 1, true},
		{"ahead of the clock", 50 * s, 40 * s, false},
		{"still ahead", 50 * s, 41 * s, false},
	} {
		if got := c.None(ctimeAt(step.ctime), int64(step.now)); got != step.unchanged {
			t.Errorf("%s: unchanged = %t, want %t", step.name, got, step.unchanged)
		}
	}
}
