// Command sluice serves files on demand; see "sluice --help".
package main

import (
	"context"
	"os"

	"github.com/sluicefs/sluice/internal/cli"
)

func main() {
	os.Exit(cli.Main(context.Background(), cli.OSEnv(), os.Args))
}
