package cli

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
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

// cleanAtEnd returns clean for the caller to call when it is done. If a signal
// ends this process before, clean is called as well, and the process then ends
// by that signal as it would have.
func cleanAtEnd(clean func()) (done func()) {
	signals := make(chan os.Signal, 1)
	for _, sig := range endSignals() {
		if !signal.Ignored(sig) { // as of a job in the background
			signal.Notify(signals, sig)
		}
	}
	stop := make(chan struct{})
	go func() {
		select {
		case sig := <-signals:
			clean()
			endBy(sig)
		case <-stop:
		}
	}()
	var once sync.Once
	return func() {
		once.Do(func() {
			signal.Stop(signals)
			close(stop)
			clean()
		})
	}
}

// endBy ends this process by the signal, which it no longer handles.
func endBy(sig os.Signal) {
	signal.Reset(sig)
	if self, err := os.FindProcess(os.Getpid()); err == nil && self.Signal(sig) == nil {
		time.Sleep(time.Second) // it comes to any of the threads, at any moment
	}
	os.Exit(exitFailed)
}

// surviveClosedOutput keeps this process alive when it writes to a standard
// output or standard error that nobody reads any more: by default that ends a
// Go program, and with it the mounts that it serves. The signal is caught, not
// ignored, since programs started from here would inherit that.
func surviveClosedOutput() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
}
