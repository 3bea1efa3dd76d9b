// Fusebench puts this project's FUSE library beside its peers: the same
// workload on each, one after the other, several times over, and the medians.
//
//	go run ./fusebench                                  all rows, to the terminal
//	go run ./fusebench -rows getattr1,stat8 -rounds 11
//	go run ./fusebench -libfuse DIR                     also libfuse built in DIR (its io_uring mode)
//	go run ./fusebench -ext4 DIR                        also DIR, on an ext4, beside the tmpfs
//	go run ./fusebench -md table.md -json table.json
//	go run ./fusebench -load 4 -md table.md -json table.json
//	go run ./fusebench -rows seqread -add -md table.md -json table.json
//
// With -add the rows measured take the place of the same ones in the JSON
// file, and the table is made of all that are there: so a table can be made in
// pieces.
//
// It needs root, /dev/fuse, and for the rings
// /sys/module/fuse/parameters/enable_uring. libfuse of the distribution is
// compiled from the examples of the package libfuse3-dev if gcc is there.
//
// Every server is a process of its own over the same directory of a tmpfs, so
// that only the way through FUSE is measured. The client is a process of its
// own too, whose system calls go past Go's scheduler: what it takes is what a
// client in C would. Peers get the same time-outs (0 for metadata, 10 s for
// data and trees), the same largest request (1 MiB) and their own defaults
// otherwise.
//
// With -load N as many busy processes run beside servers and clients, and the
// figures go to a table of their own.
//
// -profile FILE has each server of this project write a CPU profile to
// FILE.NAME, for go tool pprof.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 5, "rounds; the medians count")
	flag.DurationVar(&o.time, "time", 400*time.Millisecond, "time of one measurement")
	flag.StringVar(&o.libfuse, "libfuse", "", "directory with libfuse's built examples (passthrough_ll, memfs_ll or hello_ll)")
	flag.StringVar(&o.ext4, "ext4", "", "directory on an ext4, for its native figures")
	flag.StringVar(&o.rows, "rows", "", "rows to measure, by name (default all)")
	flag.StringVar(&o.servers, "servers", "", "servers to measure, by name (default all that can be had)")
	flag.StringVar(&o.markdown, "md", "", "write the table to this file")
	flag.StringVar(&o.json, "json", "", "write the samples to this file")
	flag.BoolVar(&o.add, "add", false, "keep the other rows of the JSON file")
	flag.StringVar(&o.dir, "dir", "/dev/shm", "directory on a tmpfs to work in")
	flag.StringVar(&o.profile, "profile", "", "write CPU profiles of this project's servers to this file and their name")
	flag.IntVar(&o.load, "load", 0, "busy processes beside the measured ones; the figures have a table of their own")
	busy := flag.String("busy", "", "internal: be a busy process of this parent (FILE)")
	serve := flag.String("serve", "", "internal: be this server (NAME MOUNTPOINT DIRECTORY)")
	client := flag.String("client", "", "internal: be the clients of this row (MOUNTPOINT DIRECTORY PID)")
	flag.Parse()
	var err error
	switch {
	case *busy != "":
		err = runBusy(*busy, flag.Arg(0))
	case *serve != "":
		err = runServer(*serve, flag.Arg(0), flag.Arg(1), o.profile)
	case *client != "":
		err = runClient(*client, o.time, flag.Arg(0), flag.Arg(1), flag.Arg(2))
	default:
		err = run(&o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fusebench:", err)
		os.Exit(1)
	}
}

type options struct {
	rounds, load                 int
	time                         time.Duration
	libfuse, ext4, rows, servers string
	markdown, json, dir, profile string
	add                          bool
}

func run(o *options) error {
	if os.Geteuid() != 0 {
		return errors.New("needs root, to mount and to drop caches")
	}
	var all results
	if o.add {
		b, err := os.ReadFile(o.json)
		if err == nil {
			err = json.Unmarshal(b, &all)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%s: %w", o.json, err)
		}
	}
	table := &all
	if o.load > 0 {
		if all.Loaded == nil {
			all.Loaded = &results{}
		}
		table = all.Loaded
	}
	if o.rows != "none" {
		if err := table.measure(o); err != nil {
			return err
		}
	}
	if o.markdown != "" {
		if err := all.write(o.markdown); err != nil {
			return err
		}
	}
	if o.json != "" {
		b, err := all.encode()
		if err != nil {
			return err
		}
		return os.WriteFile(o.json, b, 0o644)
	}
	return nil
}

// measure adds the rows that were asked for.
func (all *results) measure(o *options) error {
	work, err := os.MkdirTemp(o.dir, "fusebench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	back := filepath.Join(work, "back")
	if err := prepare(back); err != nil {
		return err
	}
	kinds := findServers(o, work)
	for _, k := range kinds {
		if k.back != "" {
			defer os.RemoveAll(k.back)
			if err := prepare(k.back); err != nil {
				return err
			}
		}
	}
	busy, err := startLoad(o.load, work)
	if err != nil {
		return err
	}
	defer busy.stop()
	all.Machine = machine()
	if o.load > 0 {
		all.Machine = fmt.Sprintf("%d busy processes on %s", o.load, all.Machine)
	}
	for i := range rows {
		r := &rows[i]
		if o.rows != "" && !slices.Contains(strings.Split(o.rows, ","), r.name) {
			continue
		}
		if _, err := exec.LookPath(r.needs); r.needs != "" && err != nil {
			fmt.Fprintf(os.Stderr, "row %s: left out: %v\n", r.name, err)
			continue
		}
		res, err := measureRow(o, r, kinds, work, back)
		if err != nil {
			return fmt.Errorf("row %s: %w", r.name, err)
		}
		all.put(res)
		part := results{Rows: res}
		fmt.Print(part.table(textStyle))
		fmt.Print(part.floors(textStyle))
	}
	return nil
}

// measureRow mounts every server that can do the row and measures them in
// turn, round after round.
func measureRow(o *options, r *row, kinds []kind, work, back string) ([]result, error) {
	var live []*server
	var out []result
	defer func() {
		for _, s := range live {
			s.stop()
		}
	}()
	for i := range kinds {
		k := &kinds[i]
		if k.modes&r.mode == 0 {
			continue
		}
		s, err := startServer(o, k, r.mode, filepath.Join(work, "mnt-"+k.name), back)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: left out: %v\n", k.name, err)
			continue
		}
		live = append(live, s)
		out = append(out, result{Row: r.name, Server: k.name, Unit: r.unit})
	}
	for range o.rounds {
		for i, s := range live {
			if r.fresh {
				if err := s.restart(); err != nil {
					return nil, err
				}
			}
			m, err := measure(o, r, s)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.kind.name, err)
			}
			out[i].Samples = append(out[i].Samples, m)
		}
	}
	for i := range out {
		out[i].summarize()
	}
	return out, nil
}
