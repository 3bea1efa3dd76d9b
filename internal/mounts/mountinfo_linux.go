package mounts

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Info is a line of /proc/self/mountinfo: proc_pid_mountinfo(5).
type Info struct {
	ID         int    // of the mount
	Dev        string // "major:minor" of the file system
	Mountpoint string
	Type       string // "fuse.sluice"
	Source     string
	Options    string // of the mount
}

// Sluice reports whether the mount is one of sluice's.
func (i Info) Sluice() bool { return i.Type == "fuse.sluice" }

// Lookup returns the topmost mount at mountpoint, an absolute path without
// links; ok is false if nothing is mounted there.
func Lookup(mountpoint string) (info Info, ok bool, err error) {
	all, err := ReadInfo("/proc/self/mountinfo")
	if err != nil {
		return Info{}, false, err
	}
	for _, m := range all {
		if m.Mountpoint == mountpoint {
			info, ok = m, true // a later one covers an earlier one
		}
	}
	return info, ok, nil
}

// ReadInfo returns the mounts in a mountinfo file.
func ReadInfo(path string) ([]Info, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read mount table: %w", err)
	}
	defer f.Close()
	var out []Info
	sc := bufio.NewScanner(f)
	sc.Buffer(make([]byte, 0, 4096), 1<<20)
	for sc.Scan() {
		if m, ok := ParseInfo(sc.Text()); ok {
			out = append(out, m)
		}
	}
	return out, sc.Err()
}

// ParseInfo decodes one line of a mountinfo file.
func ParseInfo(line string) (Info, bool) {
	head, tail, ok := strings.Cut(line, " - ")
	if !ok {
		return Info{}, false
	}
	h, t := strings.Fields(head), strings.Fields(tail)
	if len(h) < 6 || len(t) < 2 {
		return Info{}, false
	}
	id, err := strconv.Atoi(h[0])
	if err != nil {
		return Info{}, false
	}
	return Info{ID: id, Dev: h[2], Mountpoint: unescape(h[4]), Options: h[5], Type: t[0], Source: unescape(t[1])}, true
}

// unescape undoes the octal escapes of blanks and backslashes.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
