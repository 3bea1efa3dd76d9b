//go:build linux

package fs_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/internal/testenv"
)

// serveDir names the directory on which the test binary, started once more,
// serves a loopback of loopbackOf.
const serveDir, loopbackOf = "SLUICE_TEST_SERVE", "SLUICE_TEST_LOOPBACK"

func TestMain(m *testing.M) {
	if dir := os.Getenv(serveDir); dir != "" {
		os.Exit(serve(dir, os.Getenv(loopbackOf)))
	}
	os.Exit(m.Run())
}

func serve(dir, orig string) int {
	root, err := fs.NewLoopbackRoot(orig)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	server, err := fs.Mount(dir, root, nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin) // the parent says when
	if err := server.Unmount(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// serveElsewhere serves a loopback of orig on mnt in another process, which
// has one processor.
func serveElsewhere(t *testing.T, mnt, orig string) {
	t.Helper()
	testenv.MountFUSE(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), serveDir+"="+mnt, loopbackOf+"="+orig, "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("server: %v", err)
			syscall.Unmount(mnt, 2) // MNT_DETACH
		}
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		t.Fatalf("server: %q, %v", line, err)
	}
}

// TestIntegrationOneProcessor does what is known to deadlock servers in Go
// with one processor: a program is started in a directory of the mount
// (chdir between fork and exec), and with open files of the mount (dup3 in
// the same place, which flushes).
func TestIntegrationOneProcessor(t *testing.T) {
	mnt, orig := t.TempDir(), t.TempDir()
	serveElsewhere(t, mnt, orig)
	if err := os.Mkdir(mnt+"/dir", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(mnt+"/file", []byte("inherited"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		cmd := exec.Command("/bin/sh", "-c", "pwd -P")
		cmd.Dir = mnt + "/dir"
		if out, err := cmd.Output(); err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), "/dir") {
			t.Fatalf("chdir on exec: %q, %v", out, err)
		}
		var files []*os.File
		for range 5 {
			f, err := os.Open(mnt + "/file")
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, f)
		}
		cmd = exec.Command("/bin/sh", "-c", "cat <&7")
		cmd.ExtraFiles = files
		out, err := cmd.Output()
		if err != nil || string(out) != "inherited" {
			t.Fatalf("inherited files: %q, %v", out, err)
		}
		for _, f := range files {
			f.Close()
		}
	}
}
