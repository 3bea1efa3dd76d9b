// Package takeover tests that nobody notices when a daemon is upgraded and
// killed: readers and writers check every byte meanwhile.
//
// The short form runs with the other tests. The long one, whose figures are in
// docs/operations.md, replaces the daemon a hundred times:
//
//	go test ./test/takeover -run TakeOver -v -upgrades 50 -kills 50
package takeover
