package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// load is the busy processes beside the measured ones.
type load struct{ procs []*exec.Cmd }

// startLoad starts n of them; they work in dir until stop, or until this
// process is gone.
func startLoad(n int, dir string) (*load, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	l := &load{}
	for i := range n {
		cmd := exec.Command(exe, "-busy", strconv.Itoa(os.Getpid()), filepath.Join(dir, fmt.Sprintf("load-%d", i)))
		cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			l.stop()
			return nil, err
		}
		l.procs = append(l.procs, cmd)
	}
	if n > 0 {
		time.Sleep(time.Second) // until the scheduler has spread them
	}
	return l, nil
}

func (l *load) stop() {
	for _, p := range l.procs {
		_ = p.Process.Kill()
	}
	for _, p := range l.procs {
		_ = p.Wait() // it was killed
	}
	l.procs = nil
}

// The turns of a busy process. Together they take some 10 ms, most of it
// computing, with copying and calls of the kernel between, and a short wait as
// for a disk.
const (
	busyHash  = 512 << 10 // bytes hashed
	busyCopy  = 8 << 20   // bytes copied
	busyFiles = 20        // files written, read and removed
	busyWait  = 500 * time.Microsecond
)

// runBusy is one of the processes; parent is who started it.
func runBusy(parent, file string) error {
	pid, err := strconv.Atoi(parent)
	if err != nil {
		return err
	}
	a, b := make([]byte, busyCopy), make([]byte, busyCopy)
	for os.Getppid() == pid {
		sum := sha256.Sum256(a[:busyHash])
		copy(a, sum[:])
		copy(b, a)
		for range busyFiles {
			if err := busyFile(file, b[:64<<10]); err != nil {
				return err
			}
		}
		time.Sleep(busyWait)
	}
	return nil
}

func busyFile(name string, data []byte) error {
	if err := os.WriteFile(name, data, 0o600); err != nil {
		return err
	}
	_, err := os.ReadFile(name)
	return errors.Join(err, unix.Unlink(name))
}
