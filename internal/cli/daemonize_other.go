//go:build !linux

package cli

import (
	"context"
	"errors"
)

func daemonize(context.Context, *Env, *mountFlags, string, []string) error {
	return errors.New("--daemonize is not supported on this system: sluice mounts on Linux")
}

func ready(*Env) {}
