//go:build !linux

package sandbox

import (
	"context"
	"errors"
	"os"
)

var errUnsupported = errors.New("running images is not supported on this system: it needs Linux namespaces")

// Run fails.
func Run(context.Context, Config, Streams) (Result, error) { return Result{}, errUnsupported }

// AsRoot fails.
func AsRoot(context.Context, []string, string, func(error)) (int, error) { return 1, errUnsupported }

// EnterName is as on Linux, but never used.
const EnterName = "sluice-enter"

// Enter fails.
func Enter() int { return 2 }

// Init fails.
func Init() int { return 2 }

// IsTerminal reports false.
func IsTerminal(*os.File) bool { return false }

// ForwardedFrom returns nothing: no command runs.
func ForwardedFrom(*os.File) []os.Signal { return nil }

// FromTerminal returns nothing: no command runs.
func FromTerminal(*os.File) []os.Signal { return nil }
