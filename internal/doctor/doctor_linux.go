package doctor

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Look makes all checks. cacheDir is where fetched data would go.
func Look(cacheDir string) []Finding {
	return []Finding{
		kernel(), device(), mounting(), uring(), passthrough(), overlay(), namespaces(), erofs(), files(), cache(cacheDir), containerd(),
	}
}

func kernel() Finding {
	var u unix.Utsname
	f := Finding{Check: "kernel", Status: OK, Gives: "FUSE over io_uring from 6.14, passthrough from 6.9, FUSE in user namespaces from 4.18"}
	if err := unix.Uname(&u); err != nil {
		f.Status, f.Found = Warn, err.Error()
		return f
	}
	f.Found = unix.ByteSliceToString(u.Release[:])
	return f
}

// The number of /dev/fuse: FUSE's minor number of the miscellaneous devices,
// in include/linux/miscdevice.h.
const (
	fuseMajor = 10
	fuseMinor = 229
)

func device() Finding {
	f := Finding{Check: "/dev/fuse", Gives: "mounts of any kind"}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(fd)
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && st.Rdev != unix.Mkdev(fuseMajor, fuseMinor) {
			f.Status, f.Found = Fail, fmt.Sprintf("is device %d:%d, not %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev), fuseMajor, fuseMinor)
			f.Help = fmt.Sprintf("rm /dev/fuse && mknod -m 666 /dev/fuse c %d %d", fuseMajor, fuseMinor)
			return f
		}
		f.Status, f.Found = OK, "can be opened"
		return f
	}
	f.Status, f.Found = Fail, err.Error()
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		f.Help = "modprobe fuse; in a container: --device /dev/fuse"
	default:
		f.Help = "chmod 666 /dev/fuse, or run as root"
	}
	return f
}

func mounting() Finding {
	f := Finding{Check: "right to mount", Gives: "mounts that other processes see"}
	if os.Geteuid() == 0 {
		f.Status, f.Found = OK, "root"
		return f
	}
	path, err := exec.LookPath("fusermount3")
	if err != nil {
		f.Status, f.Found = Fail, "not root, and no fusermount3 in PATH"
		f.Help = "install the package fuse3, or run as root; 'sluice run' and 'sluice demo' get by with user namespaces"
		return f
	}
	fi, err := os.Stat(path)
	if err != nil || fi.Mode()&os.ModeSetuid == 0 {
		f.Status, f.Found = Fail, path+" is not setuid root"
		f.Help = "chmod u+s " + path
		return f
	}
	f.Status, f.Found = OK, path
	if b, err := os.ReadFile("/etc/fuse.conf"); err != nil || !strings.Contains("\n"+string(b), "\nuser_allow_other") {
		f.Status, f.Found = Warn, path+", without user_allow_other"
		f.Gives += "; user_allow_other is needed for --allow-other"
		f.Help = "add the line user_allow_other to /etc/fuse.conf"
	}
	return f
}

func uring() Finding {
	f := Finding{Check: "FUSE over io_uring", Gives: "a round trip of about 8 µs whatever processor the caller is on, against up to 40 µs"}
	b, err := os.ReadFile("/sys/module/fuse/parameters/enable_uring")
	switch {
	case err != nil:
		f.Status, f.Found, f.Help = Warn, "the kernel does not have it", "a kernel of 6.14 or newer with FUSE_IO_URING"
	case strings.TrimSpace(string(b)) != "Y":
		f.Status, f.Found, f.Help = Warn, "switched off", "echo Y > /sys/module/fuse/parameters/enable_uring"
	default:
		f.Status, f.Found = OK, "switched on"
	}
	if b, err := os.ReadFile("/proc/sys/kernel/io_uring_disabled"); err == nil && f.Status == OK {
		if v := strings.TrimSpace(string(b)); v == "2" || v == "1" && os.Geteuid() != 0 {
			f.Status, f.Found, f.Help = Warn, "io_uring is disabled (kernel.io_uring_disabled="+v+")", "sysctl kernel.io_uring_disabled=0"
		}
	}
	return f
}

func passthrough() Finding {
	f := Finding{Check: "passthrough", Gives: "reads and writes of local files at the speed of the file system below"}
	if os.Geteuid() != 0 {
		f.Status, f.Found, f.Help = Warn, "needs CAP_SYS_ADMIN", "run as root"
		return f
	}
	f.Status, f.Found = OK, "allowed, if the kernel is 6.9 or newer"
	return f
}

func overlay() Finding {
	return filesystem("overlay", "sluice run: a writable layer over an image", "modprobe overlay")
}

func erofs() Finding {
	return filesystem("erofs", "images mounted by the kernel's own driver (sluice image export)", "a kernel with EROFS_FS")
}

func filesystem(name, gives, help string) Finding {
	f := Finding{Check: name, Gives: gives, Status: Warn, Found: "not in /proc/filesystems", Help: help}
	b, err := os.ReadFile("/proc/filesystems")
	if err == nil && strings.Contains(string(b), "\t"+name+"\n") {
		f.Status, f.Found, f.Help = OK, "there", ""
	}
	return f
}

func namespaces() Finding {
	f := Finding{Check: "user namespaces", Gives: "sluice run and demo without root", Status: OK, Found: "allowed"}
	for path, off := range map[string]string{
		"/proc/sys/user/max_user_namespaces":                     "0",
		"/proc/sys/kernel/unprivileged_userns_clone":             "0",
		"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1",
	} {
		if b, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(b)) == off {
			name := strings.ReplaceAll(strings.TrimPrefix(path, "/proc/sys/"), "/", ".")
			f.Status, f.Found, f.Help = Warn, fmt.Sprintf("%s is %s", name, off), "sysctl "+name
		}
	}
	return f
}

func files() Finding {
	const want = 4096
	f := Finding{Check: "open files", Gives: "one descriptor for each file that is open on a read-write mount"}
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		f.Status, f.Found = Warn, err.Error()
		return f
	}
	f.Status, f.Found = OK, fmt.Sprintf("limit %d", l.Max)
	if l.Max < want {
		f.Status, f.Help = Warn, fmt.Sprintf("ulimit -n %d", want)
	}
	return f
}

func cache(dir string) Finding {
	f := Finding{Check: "cache directory", Gives: "data is fetched once, not at each read"}
	at := dir
	for {
		if _, err := os.Stat(at); err == nil || at == "/" || at == "." {
			break
		}
		at = filepath.Dir(at)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(at, &st); err != nil {
		f.Status, f.Found = Warn, fmt.Sprintf("%s: %v", at, err)
		return f
	}
	free := int64(st.Bavail) * st.Bsize
	f.Status, f.Found = OK, fmt.Sprintf("%s, %d MiB free", dir, free>>20)
	if unix.Access(at, unix.W_OK) != nil {
		f.Status, f.Found, f.Help = Fail, at+" is not writable", "--cache-dir DIR"
	} else if free < 1<<30 {
		f.Status, f.Help = Warn, "less than 1 GiB is free: --cache-dir DIR, or sluice cache prune"
	}
	return f
}

func containerd() Finding {
	f := Finding{Check: "containerd", Gives: "containers from images that are not downloaded, with a snapshotter"}
	for _, sock := range []string{"/run/containerd/containerd.sock", "/run/k3s/containerd/containerd.sock"} {
		if _, err := os.Stat(sock); err == nil {
			f.Status, f.Found = OK, sock
			return f
		}
	}
	f.Status, f.Found = OK, "not running here; mounts do not need it"
	return f
}
