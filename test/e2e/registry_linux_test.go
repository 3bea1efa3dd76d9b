package e2e

import (
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/sluicefs/sluice/storage"
)

// freeAddr returns an address on loopback that nobody listens on just now.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Debian's docker-registry, the reference implementation, as a process.
func TestIntegrationDistributionRegistry(t *testing.T) {
	b := mountBench(t)
	addr := b.distribution("")
	src, mnt := b.source(), b.mkdir("mnt")
	boot, blob := b.image(src, "img", storage.Zstd)
	ref := b.push(addr, boot, blob)
	b.ok("mount", "-d", "--prefetch=all", ref, mnt)
	b.compare(src, mnt)
	b.until("everything to be fetched ahead", func() bool { return b.stats(mnt).Image.Prefetch == "done" })
	b.ok("umount", mnt)
}

// Interrupted at whatever point, the demonstration leaves nothing behind.
func TestIntegrationDemoInterrupted(t *testing.T) {
	b := mountBench(t)
	goroot := b.mkdir("goroot")
	for _, dir := range []string{"bin", "src/runtime", "pkg/tool"} {
		b.mkdir("goroot/" + dir)
	}
	// A "go" that never ends, so that the interruption finds it mounted.
	if err := os.WriteFile(goroot+"/bin/go", []byte("#!/bin/sh\necho running > $HOME/../../running\nexec sleep 1000\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	tmp := b.mkdir("tmp")
	cmd := b.command("demo", "--goroot", goroot)
	cmd.Env = append(cmd.Env, "TMPDIR="+tmp)
	var errout strings.Builder
	cmd.Stderr = &errout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b.until("the mounted program to run", func() bool {
		_, err := os.Stat(tmp + "/running")
		return err == nil
	})
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(errout.String(), "interrupted") {
		t.Errorf("exit: %v\n%s", err, errout.String())
	}
	if left, _ := os.ReadDir(tmp); len(left) != 1 || left[0].Name() != "running" {
		t.Errorf("left behind: %v", left)
	}
}
