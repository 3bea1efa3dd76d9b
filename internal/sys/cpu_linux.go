package sys

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// PossibleCPUs is the number of processors that this kernel may ever bring
// up: one more than the highest number in
// /sys/devices/system/cpu/possible.
func PossibleCPUs() (int, error) {
	const file = "/sys/devices/system/cpu/possible"
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	list := strings.TrimSpace(string(b))
	last := list[strings.LastIndexAny(list, ",-")+1:]
	n, err := strconv.Atoi(last)
	if err != nil || n < 0 || n >= 1<<16 {
		return 0, fmt.Errorf("%s: %q is no list of processors", file, list)
	}
	return n + 1, nil
}

// Runnable reports whether the thread tid of this process runs or waits for a
// processor, rather than sleeps. It is false if that cannot be told.
func Runnable(tid int) bool {
	b, err := os.ReadFile("/proc/self/task/" + strconv.Itoa(tid) + "/stat")
	if err != nil {
		return false
	}
	// The state follows the name, which is in brackets and may hold any.
	_, after, ok := strings.Cut(string(b[max(0, bytes.LastIndexByte(b, ')')):]), ") ")
	return ok && strings.HasPrefix(after, "R")
}

// BindThread binds the calling thread to one processor. The caller has locked
// its goroutine to the thread, and lets the thread end with the goroutine.
func BindThread(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	if !set.IsSet(cpu) {
		return unix.EINVAL // beyond what the set can hold
	}
	return unix.SchedSetaffinity(0, &set)
}
