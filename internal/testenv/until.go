package testenv

import (
	"testing"
	"time"
)

// Until polls a condition and ends the test when it does not hold after a
// minute, which is a watchdog and not a measure.
func Until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !cond(); {
		if time.Now().After(end) {
			t.Fatalf("not in a minute: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}
