package sys

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

// groupExec is S_IXGRP, which package syscall lacks on other systems.
const groupExec = 0o010

// WithoutSetID returns the mode of a regular file of the group fileGID once a
// process whose primary group is gid has written to it: without set-id bits.
// Without the execution bit of the group the set-group-id bit means something
// else, and stays if a member of the group writes.
func WithoutSetID(mode, fileGID, gid, pid uint32) uint32 {
	if mode&groupExec != 0 || mode&syscall.S_ISGID != 0 && gid != fileGID && !InGroup(pid, fileGID) {
		mode &^= syscall.S_ISGID
	}
	return mode &^ syscall.S_ISUID
}

// InGroup reports whether gid is a supplementary group of a process, which
// only Linux tells.
func InGroup(pid, gid uint32) bool {
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
