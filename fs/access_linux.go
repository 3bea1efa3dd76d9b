package fs

import (
	"os"
	"strconv"
	"strings"
)

// inGroup reports whether gid is a supplementary group of a process.
func inGroup(pid, gid uint32) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(int(pid)) + "/status")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if list, ok := strings.CutPrefix(line, "Groups:"); ok {
			for _, g := range strings.Fields(list) {
				if n, err := strconv.ParseUint(g, 10, 32); err == nil && uint32(n) == gid {
					return true
				}
			}
		}
	}
	return false
}
