package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// sample is one measurement. CPU times are microseconds an operation; for
// seqread, seqwrite and readdir an operation is a whole call or listing.
type sample struct {
	Rate     float64 `json:"rate"`
	Server   float64 `json:"server"`
	Total    float64 `json:"total"`
	P50      float64 `json:"p50"`
	Switches float64 `json:"switches"` // of the server's threads, for each operation
}

// measure has a process of its own be the clients of a row: with nothing else
// in it, no garbage collection, and no preemption by signals, which would make
// the kernel interrupt its requests.
func measure(o *options, r *row, s *server) (sample, error) {
	exe, err := os.Executable()
	if err != nil {
		return sample{}, err
	}
	pid := 0
	if s.cmd != nil {
		pid = s.cmd.Process.Pid
	}
	cmd := exec.Command(exe, "-client", r.name, "-time", o.time.String(), s.mount, s.back, strconv.Itoa(pid))
	cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1", "GOGC=off", "GOMAXPROCS="+strconv.Itoa(r.clients+2))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return sample{}, fmt.Errorf("client: %w", err)
	}
	var m sample
	err = json.Unmarshal(out, &m)
	return m, err
}

// runClient is that process: it measures and prints a sample.
func runClient(name string, d time.Duration, mount, back, server string) error {
	r := rowNamed(name)
	pid, err := strconv.Atoi(server)
	if r == nil || err != nil {
		return fmt.Errorf("client: no row %q, or no process %q", name, server)
	}
	m, err := clientSample(r, d, mount, back, pid)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(m)
}

func clientSample(r *row, d time.Duration, mount, back string, pid int) (sample, error) {
	debug.SetGCPercent(-1)
	workers := make([]*worker, r.clients)
	for i := range workers {
		w, err := newWorker(i, mount, back)
		if err != nil {
			return sample{}, err
		}
		workers[i] = w
	}
	if turns := r.warmUp(); turns > 0 {
		for _, w := range workers {
			for i := range turns {
				if _, err := r.op(w, i); err != nil {
					return sample{}, err
				}
			}
		}
	}
	defer os.RemoveAll(filepath.Join(back, "new", "untar"))
	var mu sync.Mutex
	var wg sync.WaitGroup
	var units, ops float64
	var failure error
	var times []time.Duration
	client, srv, sw := selfCPU(), threadTime(pid), switches(pid)
	begin := time.Now()
	for _, w := range workers {
		wg.Go(func() {
			runtime.LockOSThread()
			if r.cpu > 0 {
				var set unix.CPUSet
				set.Set(r.cpu - 1)
				_ = unix.SchedSetaffinity(0, &set) // one processor only: the other row is the same
			}
			sum, mine, n, err := w.work(r, begin, d)
			mu.Lock()
			defer mu.Unlock()
			units += sum
			ops += float64(n)
			times = append(times, mine...)
			failure = errors.Join(failure, err)
		})
	}
	wg.Wait()
	wall := time.Since(begin).Seconds()
	if failure != nil {
		return sample{}, failure
	}
	m := sample{Rate: units / wall}
	m.Server = float64((threadTime(pid) - srv).Nanoseconds()) / 1e3 / ops
	m.Total = m.Server + float64((selfCPU()-client).Microseconds())/ops
	m.Switches = float64(switches(pid)-sw) / ops
	slices.Sort(times)
	m.P50 = float64(times[len(times)/2].Nanoseconds()) / 1e3
	return m, nil
}

// warmUp is how often the operation is done before it is measured.
func (r *row) warmUp() int {
	switch {
	case r.once && !r.prefill:
		return 0
	case r.prefill && !r.once:
		return fileCount
	}
	return 1
}

// work does the row's operation again and again for d.
func (w *worker) work(r *row, begin time.Time, d time.Duration) (sum float64, took []time.Duration, n int, err error) {
	took = make([]time.Duration, 0, 1<<18)
	for last := time.Since(begin); ; {
		n++
		units, err := r.op(w, n)
		if err != nil {
			return sum, took, n, err
		}
		sum += units
		now := time.Since(begin)
		if len(took) < cap(took) {
			took = append(took, now-last)
		}
		last = now
		if r.once || now >= d {
			return sum, took, n, nil
		}
	}
}

// selfCPU is the processor time of this process and its children that ended.
func selfCPU() (d time.Duration) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if unix.Getrusage(who, &u) == nil {
			d += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return d
}

// threadTime is the processor time that the threads of a process have had; 0
// is no process.
func threadTime(pid int) time.Duration {
	return time.Duration(overThreads(pid, "schedstat", func(s string) int64 {
		n, _ := strconv.ParseInt(strings.Fields(s + " 0")[0], 10, 64)
		return n
	}))
}

// switches is how often its threads left the processor.
func switches(pid int) int64 {
	return overThreads(pid, "status", func(s string) (n int64) {
		for line := range strings.Lines(s) {
			if key, value, _ := strings.Cut(line, ":"); strings.HasSuffix(key, "ctxt_switches") {
				v, _ := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
				n += v
			}
		}
		return n
	})
}

func overThreads(pid int, file string, f func(string) int64) (sum int64) {
	if pid == 0 {
		return 0
	}
	names, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/%s", pid, file))
	if err != nil {
		return 0
	}
	for _, name := range names {
		if b, err := os.ReadFile(name); err == nil {
			sum += f(string(b))
		}
	}
	return sum
}
