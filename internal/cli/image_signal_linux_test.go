package cli

import (
	"archive/tar"
	"bytes"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// childOutput is the environment variable that makes TestImageCreateInterrupted
// a child which runs "sluice image create" with this output directory.
const childOutput = "SLUICE_TEST_IMAGE_OUTPUT"

// An image command that a signal ends leaves no empty directory that it has
// made, and ends by the signal.
func TestImageCreateInterrupted(t *testing.T) {
	if dir := os.Getenv(childOutput); dir != "" {
		os.Exit(Main(t.Context(), OSEnv(), []string{"sluice", "image", "create", "-", "-q", "-o", dir}))
	}
	var half bytes.Buffer
	w := tar.NewWriter(&half)
	if err := w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	half.Write(make([]byte, 1<<19))
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			// A signal that this process ignores, as a job in the background
			// does, would be ignored by the child; one that it catches is not.
			caught := make(chan os.Signal, 1)
			signal.Notify(caught, sig)
			defer signal.Stop(caught)
			top := t.TempDir()
			dir := filepath.Join(top, "new", "image")
			child := exec.Command(os.Args[0], "-test.run=^TestImageCreateInterrupted$")
			child.Env = append(os.Environ(), childOutput+"="+dir)
			stdin, err := child.StdinPipe() // stays open: the archive never ends
			if err != nil {
				t.Fatal(err)
			}
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- child.Wait() }()
			t.Cleanup(func() { child.Process.Kill() })
			if _, err := stdin.Write(half.Bytes()); err != nil { // more than a pipe holds: it is being read
				t.Fatal(err)
			}
			if _, err := os.Stat(dir); err != nil {
				t.Fatalf("the child reads the archive without an output directory: %v", err)
			}
			if err := child.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			select {
			case <-ended:
			case <-time.After(time.Minute):
				t.Fatal("the child has not ended")
			}
			if ws := child.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != sig {
				t.Errorf("the child ended with %v, want by %v", child.ProcessState, sig)
			}
			if left, err := os.ReadDir(top); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}
