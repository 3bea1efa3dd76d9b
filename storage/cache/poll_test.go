package cache

import "time"

// pause is between two looks at a condition that is waited for.
func pause() { time.Sleep(time.Millisecond) }
