//go:build !race

package fuse

// raceEnabled says whether the race detector is built in.
const raceEnabled = false
