//go:build race

package fs

// raceEnabled: the race detector allocates, and empties pools at random.
const raceEnabled = true
