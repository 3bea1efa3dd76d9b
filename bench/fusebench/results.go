package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// result is what was measured of one server in one row: medians, and the
// samples, of which those of the same index were taken in the same round.
type result struct {
	Row       string   `json:"row"`
	Server    string   `json:"server"`
	Unit      string   `json:"unit"`
	Rate      float64  `json:"rate"`          // operations, MB or entries a second
	ServerCPU float64  `json:"server_cpu_us"` // microseconds of the server for each operation
	TotalCPU  float64  `json:"total_cpu_us"`  // and of the client
	P50       float64  `json:"p50_us"`
	Switches  float64  `json:"switches"` // times that a thread of the server left its processor, for each operation
	Samples   []sample `json:"samples"`
}

// results is a whole table, and where it was made.
type results struct {
	Machine string   `json:"machine"`
	Rows    []result `json:"rows"`
	Loaded  *results `json:"loaded,omitempty"` // the same beside busy processes
}

func (r *result) summarize() {
	median := func(f func(*sample) float64) float64 {
		return middle(len(r.Samples), func(i int) float64 { return f(&r.Samples[i]) })
	}
	r.Rate = median(func(s *sample) float64 { return s.Rate })
	r.ServerCPU = median(func(s *sample) float64 { return s.Server })
	r.TotalCPU = median(func(s *sample) float64 { return s.Total })
	r.P50 = median(func(s *sample) float64 { return s.P50 })
	r.Switches = median(func(s *sample) float64 { return s.Switches })
}

// middle is the median of f(0) to f(n-1); 0 of none.
func middle(n int, f func(i int) float64) float64 {
	if n == 0 {
		return 0
	}
	v := make([]float64, n)
	for i := range v {
		v[i] = f(i)
	}
	slices.Sort(v)
	return v[n/2]
}

// put takes the place of rows measured before; the order is that of the rows.
func (all *results) put(fresh []result) {
	for _, r := range fresh {
		all.Rows = slices.DeleteFunc(all.Rows, func(old result) bool { return old.Row == r.Row && old.Server == r.Server })
		all.Rows = append(all.Rows, r)
	}
	slices.SortStableFunc(all.Rows, func(a, b result) int { return rowIndex(a.Row) - rowIndex(b.Row) })
}

// encode writes JSON, a line for each server in a row.
func (all *results) encode() ([]byte, error) {
	b, err := all.append(nil)
	return append(b, '\n'), err
}

func (all *results) append(b []byte) ([]byte, error) {
	machine, err := json.Marshal(all.Machine)
	if err != nil {
		return nil, err
	}
	b = fmt.Appendf(b, "{\n\"machine\": %s,\n\"rows\": [", machine)
	for i := range all.Rows {
		r := all.Rows[i]
		r.Samples = slices.Clone(r.Samples)
		for k := range r.Samples {
			r.Samples[k].round()
		}
		r.summarize()
		line, err := json.Marshal(r)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, '\n'), line...)
	}
	b = append(b, "\n]"...)
	if all.Loaded != nil {
		if b, err = all.Loaded.append(append(b, ",\n\"loaded\": "...)); err != nil {
			return nil, err
		}
	}
	return append(b, "\n}"...), nil
}

// round leaves the digits that mean something.
func (s *sample) round() {
	for _, v := range []*float64{&s.Rate, &s.Server, &s.Total, &s.P50, &s.Switches} {
		*v = math.Round(*v*1000) / 1000
	}
}

func rowIndex(name string) int {
	return slices.IndexFunc(rows, func(r row) bool { return r.name == name })
}

func (all *results) find(row, server string) *result {
	for i := range all.Rows {
		if r := &all.Rows[i]; r.Row == row && r.Server == server {
			return r
		}
	}
	return nil
}

// ratio is the median of r's share of base within each round.
func ratio(r, base *result, f func(*sample) float64) float64 {
	return middle(min(len(r.Samples), len(base.Samples)), func(i int) float64 {
		return f(&r.Samples[i]) / f(&base.Samples[i])
	})
}

// style is how a line of a table is written: to the terminal or as markdown.
type style func(b *strings.Builder, cells ...string)

func textStyle(b *strings.Builder, cells ...string) {
	for i, c := range cells {
		switch {
		case i < 2:
			fmt.Fprintf(b, "%-16s", c)
		default:
			fmt.Fprintf(b, " %12s", c)
		}
	}
	b.WriteByte('\n')
}

func markdownStyle(b *strings.Builder, cells ...string) {
	b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}

func (all *results) table(line style) string {
	var b strings.Builder
	line(&b, tableHead...)
	return b.String() + all.lines(line)
}

var tableHead = []string{"row", "server", "rate", "unit", "server µs", "total µs", "p50 µs", "switches", "x rate", "x cpu"}

func (all *results) lines(line style) string {
	var b strings.Builder
	for i := range all.Rows {
		r := &all.Rows[i]
		x, xCPU := "", ""
		if base := all.find(r.Row, "go-fuse"); base != nil {
			x, xCPU = fmt.Sprintf("%.2f", ratio(r, base, kinds[rate].of)), fmt.Sprintf("%.2f", ratio(r, base, kinds[cpu].of))
		}
		one := func(v float64) string { return fmt.Sprintf("%.1f", v) }
		line(&b, r.Row, r.Server, fmt.Sprintf("%.0f", r.Rate), r.Unit, one(r.ServerCPU), one(r.TotalCPU), one(r.P50), one(r.Switches), x, xCPU)
	}
	return b.String()
}

// markdown is all that goes into the document.
func (all *results) markdown() string {
	rule := func(n int) string { return strings.Repeat("|---", n) + "|\n" }
	head := func(cells []string) string {
		var b strings.Builder
		markdownStyle(&b, cells...)
		return b.String() + rule(len(cells))
	}
	return all.Machine + "\n\n### Floors\n\n" + head(floorHead) + all.floorLines(markdownStyle) +
		"\n### All figures\n\n\"x\" are ratios to go-fuse within a round (median).\n\n" + head(tableHead) + all.lines(markdownStyle)
}

// A table stands between two such lines of the file; the rest is prose.
const (
	quietMark  = "fusebench"
	loadedMark = "fusebench, loaded,"
)

// write puts the tables into the document.
func (all *results) write(file string) error {
	if len(all.Rows) > 0 {
		if err := writeTable(file, quietMark, all.markdown()); err != nil {
			return err
		}
	}
	if all.Loaded == nil {
		return nil
	}
	return writeTable(file, loadedMark, all.Loaded.markdown())
}

// writeTable puts text in the place of the table of that mark in file, at the
// end if there is none, or makes the file.
func writeTable(file, mark, text string) error {
	begin, end := "<!-- "+mark+" begins -->\n", "<!-- "+mark+" ends -->\n"
	text = begin + text + end
	old, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	before, rest, found := strings.Cut(string(old), begin)
	_, after, ended := strings.Cut(rest, end)
	if found && !ended {
		return fmt.Errorf("%s: the line %q is missing", file, strings.TrimSpace(end))
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
	model := "processor of unknown kind"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := strings.Cut(string(b), "model name\t: "); ok {
			model, _, _ = strings.Cut(rest, "\n")
		}
	}
	return fmt.Sprintf("%d processors (%s, a system call takes %d ns), Linux %s, %s, load %s.",
		runtime.NumCPU(), model, callTime().Nanoseconds(), unix.ByteSliceToString(u.Release[:]), runtime.Version(),
		strings.Join(strings.Fields(string(load) + " ? ? ?")[:3], " "))
}

// callTime is how long the quickest system call takes here: it bounds what
// can be reached, and differs by a factor of ten between machines.
func callTime() time.Duration {
	const n = 20000
	begin := time.Now()
	for range n {
		unix.RawSyscallNoError(unix.SYS_GETPPID, 0, 0, 0)
	}
	return time.Since(begin) / n
}
