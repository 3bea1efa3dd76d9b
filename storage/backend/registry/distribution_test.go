package registry

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluicefs/sluice/internal/testenv"
	"github.com/sluicefs/sluice/storage/storagetest"
)

// distribution starts the registry of the distribution project as a process
// of its own and returns where it listens.
func distribution(t *testing.T) string {
	t.Helper()
	program := testenv.Program(t, "docker-registry", "docker-registry")
	dir := t.TempDir()
	// The registry takes no port 0: this one was free a moment ago.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: %s\nhttp:\n  addr: %s\n", filepath.Join(dir, "data"), addr)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "serve", config)
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	logged := make(chan struct{})
	go func() {
		defer close(logged)
		for s := bufio.NewScanner(out); s.Scan(); {
			t.Log(s.Text())
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-logged
		cmd.Wait()
	})
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if res, err := http.Get("http://" + addr + "/v2/"); err == nil {
			res.Body.Close()
			return addr
		}
		if time.Now().After(end) {
			t.Fatal("docker-registry does not answer")
		}
	}
}

func TestIntegrationConformanceWithDistribution(t *testing.T) {
	addr := distribution(t)
	storagetest.Run(t, func(t *testing.T) storagetest.Place {
		b, err := New(Options{Repository: addr + "/some/repo", CertsDirs: noFiles})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		return storagetest.Place{Backend: b, Put: func(t *testing.T, data []byte) string {
			return push(t, "http://"+addr+"/v2/some/repo", data)
		}}
	})
}
