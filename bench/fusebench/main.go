// Fusebench puts this project's FUSE library beside its peers: the same
// workload on each, one after the other, several times over, and the medians.
//
//	go run ./fusebench                                  all rows, to the terminal
//	go run ./fusebench -rows getattr1,stat8 -rounds 11
//	go run ./fusebench -libfuse DIR                     also libfuse built in DIR (its io_uring mode)
//	go run ./fusebench -md table.md -json table.json
//
// It needs root, /dev/fuse, and for the rings
// /sys/module/fuse/parameters/enable_uring. libfuse of the distribution is
// compiled from the examples of the package libfuse3-dev if gcc is there.
//
// Every server is a process of its own over the same directory of a tmpfs, so
// that only the way through FUSE is measured. Peers get the same time-outs
// (0 for metadata, 10 s for data and trees), the same largest request (1 MiB)
// and their own defaults otherwise.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 5, "rounds; the medians count")
	flag.DurationVar(&o.time, "time", 400*time.Millisecond, "time of one measurement")
	flag.StringVar(&o.libfuse, "libfuse", "", "directory with libfuse's built examples (passthrough_ll, hello_ll)")
	flag.StringVar(&o.rows, "rows", "", "rows to measure, by name (default all)")
	flag.StringVar(&o.servers, "servers", "", "servers to measure, by name (default all that can be had)")
	flag.StringVar(&o.markdown, "md", "", "write the table to this file")
	flag.StringVar(&o.json, "json", "", "write the medians to this file")
	flag.StringVar(&o.dir, "dir", "/dev/shm", "directory on a tmpfs to work in")
	flag.StringVar(&o.profile, "profile", "", "serve only: write a CPU profile here")
	serve := flag.String("serve", "", "internal: be this server (NAME MOUNTPOINT DIRECTORY)")
	flag.Parse()
	var err error
	if *serve != "" {
		err = runServer(*serve, flag.Arg(0), flag.Arg(1), o.profile)
	} else {
		err = run(&o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fusebench:", err)
		os.Exit(1)
	}
}

type options struct {
	rounds                       int
	time                         time.Duration
	libfuse, rows, servers       string
	markdown, json, dir, profile string
}

// result is the medians of one server in one row.
type result struct {
	Row       string  `json:"row"`
	Server    string  `json:"server"`
	Rate      float64 `json:"rate"`            // operations (or bytes, or entries) a second
	ServerCPU float64 `json:"server_cpu_us"`   // microseconds of the server for each operation
	TotalCPU  float64 `json:"total_cpu_us"`    // and of the client
	P50       float64 `json:"p50_us"`          // 0 where single calls are not timed
	Ratio     float64 `json:"ratio_to_gofuse"` // median of the ratios of rate within each round
	CPURatio  float64 `json:"cpu_ratio_to_gofuse"`
	Unit      string  `json:"unit"`
}

func run(o *options) error {
	if os.Geteuid() != 0 {
		return errors.New("needs root, to mount and to drop caches")
	}
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
	var all []result
	for _, r := range rows {
		if o.rows != "" && !slices.Contains(strings.Split(o.rows, ","), r.name) {
			continue
		}
		res, err := measureRow(o, &r, kinds, work, back)
		if err != nil {
			return fmt.Errorf("row %s: %w", r.name, err)
		}
		all = append(all, res...)
		fmt.Print(table(res, false))
	}
	if o.markdown != "" {
		if err := writeTable(o.markdown, machine()+table(all, true)); err != nil {
			return err
		}
	}
	if o.json != "" {
		b, err := json.MarshalIndent(all, "", "\t")
		if err != nil {
			return err
		}
		return os.WriteFile(o.json, b, 0o644)
	}
	return nil
}

// measureRow mounts every server that can do the row and measures them in
// turn, round after round.
func measureRow(o *options, r *row, kinds []kind, work, back string) ([]result, error) {
	samples := map[string][]sample{}
	var names []string
	var live []*server
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
		s, err := startServer(k, r.mode, filepath.Join(work, "mnt-"+k.name), back)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: left out: %v\n", k.name, err)
			continue
		}
		live = append(live, s)
		names = append(names, k.name)
	}
	for range o.rounds {
		for _, s := range live {
			if r.fresh {
				if err := s.restart(); err != nil {
					return nil, err
				}
			}
			m, err := measure(o, r, s)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.kind.name, err)
			}
			samples[s.kind.name] = append(samples[s.kind.name], m)
		}
	}
	var out []result
	for _, name := range names {
		list := samples[name]
		base := samples["go-fuse"]
		res := result{Row: r.name, Server: name, Unit: r.unit,
			Rate:      median(list, func(i int) float64 { return list[i].rate }),
			ServerCPU: median(list, func(i int) float64 { return list[i].server }),
			TotalCPU:  median(list, func(i int) float64 { return list[i].total }),
			P50:       median(list, func(i int) float64 { return list[i].p50 }),
		}
		if len(base) == len(list) {
			res.Ratio = median(list, func(i int) float64 { return list[i].rate / base[i].rate })
			res.CPURatio = median(list, func(i int) float64 { return list[i].total / base[i].total })
		}
		out = append(out, res)
	}
	return out, nil
}

func median(list []sample, f func(int) float64) float64 {
	v := make([]float64, len(list))
	for i := range list {
		v[i] = f(i)
	}
	slices.Sort(v)
	if len(v) == 0 {
		return 0
	}
	return v[len(v)/2]
}

func table(res []result, markdown bool) string {
	var b strings.Builder
	line := "%-12s %-16s %12s %-9s %10s %10s %8s %8s %8s\n"
	if markdown {
		line = "| %s | %s | %s | %s | %s | %s | %s | %s | %s |\n"
	}
	fmt.Fprintf(&b, line, "row", "server", "rate", "unit", "server µs", "total µs", "p50 µs", "x rate", "x cpu")
	if markdown {
		b.WriteString("|---|---|---|---|---|---|---|---|---|\n")
	}
	for _, r := range res {
		fmt.Fprintf(&b, line, r.Row, r.Server, fmt.Sprintf("%.0f", r.Rate), r.Unit, fmt.Sprintf("%.1f", r.ServerCPU), fmt.Sprintf("%.1f", r.TotalCPU),
			fmt.Sprintf("%.1f", r.P50), fmt.Sprintf("%.2f", r.Ratio), fmt.Sprintf("%.2f", r.CPURatio))
	}
	return b.String()
}

// The table stands between these lines of the file; the rest is prose.
const (
	tableBegin = "<!-- fusebench begins -->\n"
	tableEnd   = "<!-- fusebench ends -->\n"
)

// writeTable puts text in the place of the table in file, or makes the file.
func writeTable(file, text string) error {
	text = tableBegin + text + tableEnd
	old, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	before, rest, found := strings.Cut(string(old), tableBegin)
	_, after, ended := strings.Cut(rest, tableEnd)
	if found && !ended {
		return fmt.Errorf("%s: the line %q is missing", file, strings.TrimSpace(tableEnd))
	}
	if !found {
		before = string(old)
	}
	return os.WriteFile(file, []byte(before+text+after), 0o644)
}

// machine says where the figures come from.
func machine() string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	load, _ := os.ReadFile("/proc/loadavg")
	return fmt.Sprintf("%d processors, Linux %s, %s, load %s. \"x\" are ratios to go-fuse within a round (median).\n\n",
		runtime.NumCPU(), unix.ByteSliceToString(u.Release[:]), runtime.Version(), strings.Join(strings.Fields(string(load))[:3], " "))
}
