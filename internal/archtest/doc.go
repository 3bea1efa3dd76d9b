// Package archtest has no code of its own: its test keeps the map of the
// project, which is who may import whom (docs/architecture.md).
package archtest
