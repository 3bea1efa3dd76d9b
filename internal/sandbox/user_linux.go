package sandbox

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// account is whom the command runs as.
type account struct {
	uid, gid uint32
	groups   []uint32 // beside gid
	home     string
}

// lookupUser finds out whom spec means: "", "user" or "user:group", each a
// name or a number, as in the USER of a Dockerfile. Names are looked up in
// the files of the image.
func lookupUser(spec, passwd, group string) (account, error) {
	name, groupName, hasGroup := strings.Cut(spec, ":")
	if name == "" {
		name = "0"
	}
	a := account{home: "/"}
	n, numErr := strconv.ParseUint(name, 10, 32)
	a.uid = uint32(n)
	found := false
	err := eachLine(passwd, 7, func(f []string) {
		uid, err1 := strconv.ParseUint(f[2], 10, 32)
		gid, err2 := strconv.ParseUint(f[3], 10, 32)
		if found || err1 != nil || err2 != nil || f[0] != name && (numErr != nil || uid != n) {
			return
		}
		found = true
		name, a.uid, a.gid, a.home = f[0], uint32(uid), uint32(gid), f[5]
	})
	if err != nil && numErr != nil || !found && numErr != nil {
		return a, fmt.Errorf("user %s: not in the image's /etc/passwd", name)
	}
	if a.uid == 0 && !found {
		a.home = "/root"
	}
	if hasGroup {
		if a.gid, err = lookupGroup(groupName, group); err != nil {
			return a, err
		}
	}
	if !found || hasGroup {
		return a, nil
	}
	_ = eachLine(group, 4, func(f []string) {
		gid, err := strconv.ParseUint(f[2], 10, 32)
		if err == nil && slices.Contains(strings.Split(f[3], ","), name) && len(a.groups) < maxGroups {
			a.groups = append(a.groups, uint32(gid))
		}
	})
	return a, nil
}

// maxGroups bounds the groups of a user, well below NGROUPS_MAX.
const maxGroups = 1024

func lookupGroup(name, path string) (uint32, error) {
	n, numErr := strconv.ParseUint(name, 10, 32)
	if numErr == nil {
		return uint32(n), nil
	}
	gid, found := uint32(0), false
	_ = eachLine(path, 3, func(f []string) {
		if v, err := strconv.ParseUint(f[2], 10, 32); err == nil && f[0] == name && !found {
			gid, found = uint32(v), true
		}
	})
	if !found {
		return 0, fmt.Errorf("group %s: not in the image's /etc/group", name)
	}
	return gid, nil
}

// eachLine calls f with the fields of each line that has n or more.
func eachLine(path string, n int, f func(fields []string)) error {
	// The file is the image's: opening a pipe would wait for a writer.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	if fi, err := file.Stat(); err != nil || !fi.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	s := bufio.NewScanner(file)
	for s.Scan() {
		if fields := strings.Split(s.Text(), ":"); len(fields) >= n {
			f(fields)
		}
	}
	return s.Err()
}
