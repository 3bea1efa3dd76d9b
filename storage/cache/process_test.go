package cache

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/sluicefs/sluice/storage"
)

// TestMain makes the test program a process that fills a cache, for tests
// that kill one.
func TestMain(m *testing.M) {
	if dir := os.Getenv("SLUICE_TEST_FILL"); dir != "" {
		fillForEver(dir)
	}
	os.Exit(m.Run())
}

// processBlob is the blob that processes read.
func processBlob() *testBlob { return newTestBlob(77, 60, 40_000, storage.Zstd, true) }

// fillForEver reads the blob chunk by chunk, drops it and begins again, and
// says so after each chunk.
func fillForEver(dir string) {
	b := processBlob()
	for {
		c, err := Open(dir, Options{Log: quiet})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		r := c.Reader(backendOf(b), ReaderOptions{Window: -1})
		for i := range b.chunks {
			ext, want := b.file(i, i+1)
			if err := r.ReadExtents(context.Background(), make([]byte, len(want)), ext); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
			fmt.Println("read", i)
		}
		r.Close()
		c.Close()
		if c, err = Open(dir, Options{Log: quiet}); err == nil {
			c.Trim(0)
			c.Close()
		}
	}
}

// TestKilledProcesses kills processes that share a cache, in the middle of
// reading and evicting, and looks at what the next one finds.
func TestKilledProcesses(t *testing.T) {
	dir := t.TempDir()
	b := processBlob()
	for _, lines := range []int{1, 7, 61, 130} {
		var wg sync.WaitGroup
		for range 2 {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "SLUICE_TEST_FILL="+dir)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				defer cmd.Wait()
				defer cmd.Process.Kill()
				s := bufio.NewScanner(out)
				for range lines {
					if !s.Scan() || !strings.HasPrefix(s.Text(), "read ") {
						t.Errorf("process that fills the cache: %q", s.Text())
						return
					}
				}
			})
		}
		wg.Wait()
		_, r := openTest(t, dir, Options{}, &memBackend{}, ReaderOptions{})
		for i := range b.chunks {
			if ext, want := b.file(i, i+1); r.Present(&b.chunks[i]) {
				read(t, r, ext, want)
			}
		}
		_, r = openTest(t, dir, Options{}, backendOf(b), ReaderOptions{})
		ext, want := b.file(0, len(b.chunks))
		read(t, r, ext, want)
	}
}
