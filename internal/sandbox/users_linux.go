package sandbox

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// EnterName is the name under which the program is started in a new user
// namespace, where it waits for its users and then becomes what it shall be.
const EnterName = "sluice-enter"

// goFD is the pipe on which Enter waits.
const goFD = 3

// Enter is the main function of a process started as EnterName: once the
// namespace has its users it executes this program with the arguments behind
// the name. It returns only when that fails, with the code to exit with.
func Enter() int {
	runtime.LockOSThread() // the parent's death signal belongs to a thread, which is the one that executes
	var b [1]byte
	pipe := os.NewFile(goFD, "pipe")
	if pipe == nil || len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, EnterName+": is started by sluice only")
		return 2
	}
	if _, err := pipe.Read(b[:]); err != nil {
		return 125 // there will be no users; the parent says why
	}
	_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGTERM), 0, 0, 0)
	died := []unix.PollFd{{Fd: goFD}}
	if n, err := unix.Poll(died, 0); n != 0 || err != nil {
		return 125 // before the signal was asked for
	}
	unix.CloseOnExec(goFD)
	err := inheritNone()
	if err == nil {
		err = syscall.Exec("/proc/self/exe", os.Args[1:], os.Environ())
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", EnterName, err)
	return 125
}

// inheritNone takes from this thread what brought its capabilities through the
// execution of Enter: it would bring some to programs that lay them down by
// becoming another user.
func inheritNone() error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return err
	}
	data[0].Inheritable, data[1].Inheritable = 0, 0
	return unix.Capset(&head, &data[0])
}

// idRange are ids of the machine that stand for as many of a namespace.
type idRange struct{ first, count uint32 }

// delegation is what the administrator lets this user have beside his own id.
type delegation struct {
	uidmap, gidmap string // paths of newuidmap(1) and newgidmap(1)
	uids, gids     []idRange
}

// delegated returns what this user has been given in /etc/subuid and
// /etc/subgid, or an error that says what is missing.
func delegated() (d delegation, err error) {
	if d.uidmap, err = exec.LookPath("newuidmap"); err == nil {
		d.gidmap, err = exec.LookPath("newgidmap")
	}
	if err != nil {
		return d, errors.New("newuidmap and newgidmap (package uidmap) are not installed")
	}
	uid := strconv.Itoa(os.Geteuid())
	name := uid
	if u, err := user.LookupId(uid); err == nil {
		name = u.Username
	}
	if d.uids, err = subIDs("/etc/subuid", name, uid); err == nil {
		d.gids, err = subIDs("/etc/subgid", name, uid)
	}
	return d, err
}

// maxRanges bounds the ranges of one user: the kernel takes 340 at most.
const maxRanges = 64

// subIDs returns the ranges that the file gives to a user, who may be in it
// by name or by number: see subuid(5).
func subIDs(path, name, uid string) ([]idRange, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var out []idRange
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan() && len(out) < maxRanges; {
		f := strings.Split(strings.TrimSpace(s.Text()), ":")
		if len(f) != 3 || f[0] != name && f[0] != uid {
			continue
		}
		first, err1 := strconv.ParseUint(f[1], 10, 32)
		count, err2 := strconv.ParseUint(f[2], 10, 32)
		if err1 == nil && err2 == nil && count > 0 && first+count <= math.MaxUint32 {
			out = append(out, idRange{uint32(first), uint32(count)})
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s has no line for %s (such as %s:100000:65536)", path, name, name)
	}
	return out, nil
}

// mapArgs are the arguments of newuidmap for process pid, in which the id own
// becomes root and the ranges what follows.
func mapArgs(pid, own int, ranges []idRange) []string {
	args := []string{strconv.Itoa(pid), "0", strconv.Itoa(own), "1"}
	next := uint64(1)
	for _, r := range ranges {
		if next+uint64(r.count) > math.MaxUint32 {
			break
		}
		args = append(args, strconv.FormatUint(next, 10), strconv.FormatUint(uint64(r.first), 10), strconv.FormatUint(uint64(r.count), 10))
		next += uint64(r.count)
	}
	return args
}

// give gives the user namespace of process pid its users and groups.
func (d delegation) give(pid int) error {
	for _, m := range []struct {
		program string
		args    []string
	}{
		{d.uidmap, mapArgs(pid, os.Geteuid(), d.uids)},
		{d.gidmap, mapArgs(pid, os.Getegid(), d.gids)},
	} {
		out, err := exec.Command(m.program, m.args...).CombinedOutput()
		if text := strings.TrimSpace(string(out)); err != nil && text != "" {
			return errors.New(text)
		} else if err != nil {
			return fmt.Errorf("%s: %w", m.program, err)
		}
	}
	return nil
}

// allCapabilities are the numbers of those that this kernel knows.
func allCapabilities() []uintptr {
	last := uintptr(unix.CAP_LAST_CAP)
	if b, err := os.ReadFile("/proc/sys/kernel/cap_last_cap"); err == nil {
		if n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 6); err == nil {
			last = uintptr(n)
		}
	}
	all := make([]uintptr, last+1)
	for i := range all {
		all[i] = uintptr(i)
	}
	return all
}

// enter starts args as root of a new user namespace that has the users of d.
// cmd is what to start, but for its namespaces; the function that it returns
// is to be called when the process has ended.
func (d delegation) enter(cmd *exec.Cmd) (ended func(), err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd.Args = append([]string{EnterName}, cmd.Args...)
	cmd.ExtraFiles = []*os.File{r}
	cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
	// Without a user a program keeps none of its capabilities but these.
	cmd.SysProcAttr.AmbientCaps = allCapabilities()
	if err := cmd.Start(); err != nil {
		w.Close()
		return nil, err
	}
	if err = d.give(cmd.Process.Pid); err == nil {
		_, err = w.Write([]byte{1})
	}
	if err != nil {
		w.Close()
		_ = cmd.Wait()
		return nil, err
	}
	return func() { w.Close() }, nil
}
