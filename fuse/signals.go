package fuse

import (
	"context"
	"os"
	"os/signal"
)

// ShutdownOn ends the session when the process gets one of the signals: the
// first one unmounts, waits for files that are open as long as
// MountOptions.UnmountTimeout says, and then aborts; a second one aborts at
// once. It returns at once itself; Serve and Wait return when the session has
// ended. stop gives the signals back.
func (s *Server) ShutdownOn(signals ...os.Signal) (stop func()) {
	c := make(chan os.Signal, 2)
	signal.Notify(c, signals...)
	quit := make(chan struct{})
	go s.shutdownOn(c, quit)
	return func() {
		signal.Stop(c)
		close(quit)
	}
}

func (s *Server) shutdownOn(c <-chan os.Signal, quit <-chan struct{}) {
	select {
	case <-c:
	case <-s.done:
		return
	case <-quit:
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.patience())
	defer cancel()
	go func() {
		select {
		case <-c:
			cancel()
		case <-s.done:
		case <-ctx.Done():
		}
	}()
	if err := s.Shutdown(ctx); err != nil {
		s.e.logger.Printf("fuse: shutdown: %v", err)
	}
}
