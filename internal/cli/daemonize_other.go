//go:build !linux

package cli

import (
	"context"
	"errors"

	"github.com/spf13/pflag"
)

func daemonize(context.Context, *Env, *pflag.FlagSet, *mountFlags, string, []string) error {
	return errors.New("--daemonize is not supported on this system: sluice mounts on Linux")
}

func ready(*Env) {}
