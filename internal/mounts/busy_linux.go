package mounts

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
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
// nothing. A look at a process that hangs in the kernel may hang as well: after
// a second what has been found until then is returned.
func Users(m Info) []User {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil
	}
	found := make(chan User, len(dirs))
	var looking sync.WaitGroup
	slots := make(chan struct{}, 64)
	for _, dir := range dirs {
		// One of these may stay behind for as long as its process waits.
		looking.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			what := usage(dir, m)
			if what == "" {
				what = mapped(dir, m)
			}
			if what != "" {
				pid, _ := strconv.Atoi(filepath.Base(dir))
				comm, _ := os.ReadFile(dir + "/comm")
				found <- User{PID: pid, Command: strings.TrimSpace(string(comm)), What: what}
			}
		})
	}
	done := make(chan struct{})
	go func() { looking.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(lookPatience):
	}
	var out []User
	for {
		select {
		case u := <-found:
			out = append(out, u)
		default:
			slices.SortFunc(out, func(a, b User) int { return a.PID - b.PID })
			return out
		}
	}
}

const lookPatience = 2 * time.Second

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

// mapped says which file of m's file system is mapped, or "".
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
			return "mapped file " + p[5]
		}
	}
	return ""
}
