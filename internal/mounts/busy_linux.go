package mounts

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// User is a process that keeps a mount busy.
type User struct {
	PID     int    `json:"pid"`
	Command string `json:"command"`
	What    string `json:"what"` // how: "working directory /m/x", "open file /m/y", …
}

// String returns the user as a person would read it.
func (u User) String() string { return fmt.Sprintf("%s (pid %d, %s)", u.Command, u.PID, u.What) }

// Users returns the processes that have something open on the mount m, as
// far as this user may see them. It looks only at /proc and asks the mount
// nothing, so it does not hang on one that does not answer.
func Users(m Info) []User {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil
	}
	var out []User
	for _, dir := range dirs {
		what := usage(dir, m)
		if what == "" {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(dir))
		comm, _ := os.ReadFile(dir + "/comm")
		out = append(out, User{PID: pid, Command: strings.TrimSpace(string(comm)), What: what})
	}
	return out
}

// usage says in which way the process in dir uses m, or "".
func usage(dir string, m Info) string {
	for _, l := range [...]struct{ link, what string }{
		{"cwd", "working directory"}, {"root", "root directory"}, {"exe", "running program"},
	} {
		if target, err := os.Readlink(dir + "/" + l.link); err == nil && m.Mountpoint != "/" && Within(target, m.Mountpoint) {
			return l.what + " " + target
		}
	}
	if fd := openFile(dir, m); fd != "" {
		return "open file " + fd
	}
	if f := mapped(dir, m); f != "" {
		return "mapped file " + f
	}
	return ""
}

// openFile returns the name of a descriptor that is open on m.
func openFile(dir string, m Info) string {
	fds, err := os.ReadDir(dir + "/fdinfo")
	if err != nil {
		return ""
	}
	want := fmt.Sprintf("\nmnt_id:\t%d\n", m.ID)
	for _, fd := range fds {
		b, err := os.ReadFile(dir + "/fdinfo/" + fd.Name())
		if err == nil && strings.Contains(string(b), want) {
			target, _ := os.Readlink(dir + "/fd/" + fd.Name())
			return target
		}
	}
	return ""
}

// mapped returns the name of a file of m's file system that is mapped.
func mapped(dir string, m Info) string {
	major, minor, ok := strings.Cut(m.Dev, ":")
	if !ok {
		return ""
	}
	a, err1 := strconv.Atoi(major)
	b, err2 := strconv.Atoi(minor)
	if err1 != nil || err2 != nil {
		return ""
	}
	f, err := os.Open(dir + "/maps")
	if err != nil {
		return ""
	}
	defer f.Close()
	dev := fmt.Sprintf("%02x:%02x", a, b)
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		if p := strings.Fields(sc.Text()); len(p) >= 6 && p[3] == dev {
			return p[5]
		}
	}
	return ""
}
