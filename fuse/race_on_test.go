//go:build race

package fuse

// raceEnabled: pools drop values at random then, so allocations cannot be counted.
const raceEnabled = true
