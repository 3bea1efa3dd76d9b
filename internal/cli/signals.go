package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// endSignals are those that end a command which serves a mount: also the end
// of the terminal, unless nohup(1) said that it does not matter.
func endSignals() []os.Signal {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	return signals
}

// untilEnded returns a context that ends when this process is told to end.
func untilEnded(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, endSignals()...)
}

// surviveClosedOutput keeps this process alive when it writes to a standard
// output or standard error that nobody reads any more: by default that ends a
// Go program, and with it the mounts that it serves. The signal is caught, not
// ignored, since programs started from here would inherit that.
func surviveClosedOutput() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
}
