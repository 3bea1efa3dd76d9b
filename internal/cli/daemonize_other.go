//go:build !linux

package cli

import (
	"context"
	"errors"

	"github.com/spf13/pflag"

	"github.com/sluicefs/sluice/internal/source"
)

func daemonize(context.Context, *Env, *pflag.FlagSet, *mountFlags, string, source.Ref, []string) error {
	return errors.New("--daemonize is not supported on this system: sluice mounts on Linux")
}

func sourceArgument(_ *Env, arg string) string { return arg }

func ready(*Env) {}
