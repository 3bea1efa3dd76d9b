package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sluicefs/sluice/image/build"
)

// perDir is how many files a directory of the large image has.
const perDir = 1000

// walkMillion makes an image of n empty files, walks it and shows the memory
// of its server.
func walkMillion(work string, n int) (err error) {
	dir := filepath.Join(work, "million")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(writeFiles(w, n)) }()
	boot := filepath.Join(dir, "image.boot")
	layer := build.Layer{Name: "files", Open: func(context.Context) (io.ReadCloser, error) { return r, nil }}
	if _, err := build.Create(context.Background(), build.Tars(layer), build.Output{Bootstrap: boot, BlobDir: dir}, build.Options{}); err != nil {
		return err
	}
	m, err := mountServer(dir, "sluice", boot)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.end()) }()
	before, err := memory(m.cmd.Process.Pid)
	if err != nil {
		return err
	}
	began := time.Now()
	entries, err := find(m.point)
	if err != nil {
		return err
	}
	took := time.Since(began)
	after, err := memory(m.cmd.Process.Pid)
	if err != nil {
		return err
	}
	fmt.Printf("image of %d files: walked %d entries with their attributes in %.1f s\n", n, entries, took.Seconds())
	fmt.Printf("memory of the server: %s before, %s after\n\n", before, after)
	return nil
}

func writeFiles(w io.Writer, n int) error {
	t := tar.NewWriter(w)
	for i := range n {
		if i%perDir == 0 {
			if err := t.WriteHeader(&tar.Header{Name: fmt.Sprintf("d%05d/", i/perDir), Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
				return err
			}
		}
		h := &tar.Header{Name: fmt.Sprintf("d%05d/file-%07d", i/perDir, i), Typeflag: tar.TypeReg, Mode: 0o644, Uid: i % 7}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
	}
	return t.Close()
}

// memory says what a process has in memory, as the kernel counts it.
func memory(pid int) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return "", err
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		if name, rest, ok := strings.Cut(line, ":"); ok && (name == "VmRSS" || name == "RssAnon" || name == "RssFile" || name == "VmHWM") {
			out = append(out, name+" "+strings.Join(strings.Fields(rest), " "))
		}
	}
	return strings.Join(out, ", "), nil
}
