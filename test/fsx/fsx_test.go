//go:build linux

package fsx

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/fs/memfs"
	"github.com/sluicefs/sluice/internal/testenv"
)

var (
	ops  = flag.Int("ops", 3000, "operations on each file system")
	seed = flag.Uint64("seed", 1, "of the random numbers")
)

// client is the file that the test binary, started once more, works on.
const client = "SLUICE_FSX_FILE"

func TestMain(m *testing.M) {
	flag.Parse()
	if path := os.Getenv(client); path != "" {
		if err := Run(path, *seed, *ops); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestIntegrationFsx(t *testing.T) {
	testenv.MountFUSE(t)
	second := time.Second
	loopback, err := fs.NewLoopbackRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cached, err := fs.NewLoopbackRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cached.(*fs.LoopbackNode).RootData.NoPassthrough = true
	for _, c := range []struct {
		name string
		root fs.InodeEmbedder
		opts fs.Options
	}{
		{"memfs", memfs.New(memfs.Options{}), fs.Options{EntryTimeout: &second, AttrTimeout: &second}},
		{"loopback", loopback, fs.Options{}},
		{"loopback without passthrough", cached, fs.Options{EntryTimeout: &second, AttrTimeout: &second}},
	} {
		t.Run(c.name, func(t *testing.T) {
			mnt := t.TempDir()
			server, err := fs.Mount(mnt, c.root, &c.opts)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := server.Unmount(); err != nil {
					syscall.Unmount(mnt, 2) // MNT_DETACH
					t.Errorf("unmount: %v", err)
				}
			})
			exe, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(exe, "-ops", strconv.Itoa(*ops), "-seed", strconv.FormatUint(*seed, 10))
			cmd.Env = append(os.Environ(), client+"="+filepath.Join(mnt, "file"))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
