package testenv

import (
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"testing"
	"time"
)

// Worker starts a command that works until its standard input ends, and has
// listen read what it says on standard output. stop ends it and waits; its error
// has what the command said on standard error.
func Worker(t testing.TB, cmd *exec.Cmd, listen func(out io.Reader)) (stop func() error) {
	t.Helper()
	var errs bytes.Buffer
	cmd.Stderr = &errs
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		listen(out)
	}()
	return func() error {
		in.Close()
		watchdog := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
		defer watchdog.Stop()
		<-heard
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("%w: %s", err, errs.String())
		}
		return nil
	}
}
