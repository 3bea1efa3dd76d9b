package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// mode is how the servers of a row are set up.
type mode int

const (
	null  mode = 1 << iota // a root that answers GETATTR from memory
	meta                   // loopback, nothing cached
	data                   // loopback, attributes and entries cached for 10 s
	trees                  // as data, for whole trees
	fixed                  // files that never change: all cached, nothing opened
	own                    // as the server comes: names and attributes for a second
)

// row is a line of the table. op is one operation, number i of client c, on the
// mount at dir; it returns how many units it did.
type row struct {
	name    string
	unit    string
	mode    mode
	clients int
	cpu     int    // 1 + the processor that the clients are bound to
	fresh   bool   // mounted anew for each measurement
	once    bool   // one operation is a measurement
	prefill bool   // what the operation uses is used before: once for a tree, else all files
	needs   string // a program that has to be there
	op      func(w *worker, i int) (float64, error)
}

const (
	fileCount  = 1000
	smallSize  = 4096
	bigSize    = 64 << 20
	entryCount = 10000
	chunk      = 1 << 20
)

var rows = []row{
	{name: "getattr1", unit: "ops/s", mode: null, clients: 1, op: opGetattr},
	{name: "getattr1-cpu0", unit: "ops/s", mode: null, clients: 1, cpu: 1, op: opGetattr},
	{name: "getattr1-cpu1", unit: "ops/s", mode: null, clients: 1, cpu: 2, op: opGetattr},
	{name: "getattr8", unit: "ops/s", mode: null, clients: 8, op: opGetattr},
	{name: "stat1", unit: "ops/s", mode: meta, clients: 1, op: opStat},
	{name: "stat8", unit: "ops/s", mode: meta, clients: 8, op: opStat},
	{name: "stat-warm", unit: "ops/s", mode: fixed, clients: 1, prefill: true, op: opStat},
	{name: "open", unit: "ops/s", mode: meta, clients: 1, op: opOpen},
	{name: "open-warm", unit: "ops/s", mode: fixed, clients: 1, prefill: true, op: opOpen},
	{name: "openread", unit: "ops/s", mode: meta, clients: 1, op: opOpenRead},
	{name: "openread-warm", unit: "ops/s", mode: fixed, clients: 1, prefill: true, op: opOpenRead},
	{name: "create", unit: "ops/s", mode: meta, clients: 1, op: opCreate},
	{name: "direct1", unit: "ops/s", mode: data, clients: 1, op: opDirect},
	{name: "direct8", unit: "ops/s", mode: data, clients: 8, op: opDirect},
	{name: "seqread", unit: "MB/s", mode: data, clients: 1, op: opSeqRead},
	{name: "seqwrite", unit: "MB/s", mode: data, clients: 1, op: opSeqWrite},
	{name: "seqread-128k", unit: "MB/s", mode: data, clients: 1, op: opSeqRead128},
	{name: "seqwrite-128k", unit: "MB/s", mode: data, clients: 1, op: opSeqWrite128},
	{name: "readdir", unit: "entries/s", mode: data, clients: 1, op: opReaddir},
	{name: "readdir-warm", unit: "entries/s", mode: fixed, clients: 1, prefill: true, op: opReaddir},
	{name: "stat-own", unit: "ops/s", mode: own, clients: 1, op: opStat},
	{name: "open-own", unit: "ops/s", mode: own, clients: 1, op: opOpen},
	{name: "create-own", unit: "ops/s", mode: own, clients: 1, op: opCreate},
	{name: "readdir-own", unit: "entries/s", mode: own, clients: 1, op: opReaddir},
	{name: "find", unit: "trees/s", mode: trees, clients: 1, fresh: true, once: true, op: opFind},
	{name: "tar", unit: "trees/s", mode: trees, clients: 1, fresh: true, once: true, op: opTar},
	{name: "git", unit: "trees/s", mode: trees, clients: 1, fresh: true, once: true, needs: "git", op: opGit},
	{name: "git-warm", unit: "trees/s", mode: trees, clients: 1, once: true, prefill: true, needs: "git", op: opGit},
	{name: "untar", unit: "trees/s", mode: trees, clients: 1, fresh: true, once: true, op: opUntar},
}

func rowNamed(name string) *row {
	for i := range rows {
		if rows[i].name == name {
			return &rows[i]
		}
	}
	return nil
}

// prepare makes the files that the rows work on.
func prepare(back string) error {
	for _, d := range []string{"small", "many", "new", "tree"} {
		if err := os.MkdirAll(filepath.Join(back, d), 0o755); err != nil {
			return err
		}
	}
	block := make([]byte, smallSize)
	for i := range fileCount {
		if err := os.WriteFile(filepath.Join(back, "small", smallName(i)), block, 0o644); err != nil {
			return err
		}
	}
	for i := range entryCount {
		if err := os.WriteFile(filepath.Join(back, "many", fmt.Sprintf("entry-%05d", i)), nil, 0o644); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(back, "big"), make([]byte, bigSize), 0o644); err != nil {
		return err
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("the Go sources are the tree that is copied: go env GOROOT: %w", err)
	}
	src := filepath.Join(strings.TrimSpace(string(root)), "src", "cmd", "compile")
	if _, err := os.Stat(src); err != nil {
		return fmt.Errorf("the tree to copy is missing: %w", err)
	}
	if err := os.CopyFS(filepath.Join(back, "tree", "src"), os.DirFS(src)); err != nil {
		return err
	}
	if err := exec.Command("tar", "-C", filepath.Join(back, "tree"), "-cf", filepath.Join(back, "tree.tar"), "src").Run(); err != nil {
		return err
	}
	return prepareRepository(filepath.Join(back, "repo"), src)
}

// prepareRepository commits the files of src, if git is there.
func prepareRepository(dir, src string) error {
	if _, err := exec.LookPath("git"); err != nil {
		return nil
	}
	if err := os.CopyFS(filepath.Join(dir, "src"), os.DirFS(src)); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"init", "-q"}, {"add", "-A"},
		{"-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "-q", "-m", "all"},
	} {
		if out, err := exec.Command("git", append([]string{"-C", dir}, args...)...).CombinedOutput(); err != nil {
			return fmt.Errorf("git %s: %w: %s", args[0], err, out)
		}
	}
	return nil
}

func smallName(i int) string { return fmt.Sprintf("f%04d", i) }
