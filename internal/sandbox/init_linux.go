package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Descriptors that Run gives to the child: the configuration to read, and a
// pipe for one line of failure that closes on exec.
const (
	configFD = 3
	failFD   = 4
)

// Init is the main function of a process started as InitName: it sets up the
// root, runs the command in it and returns the command's exit code.
func Init() int {
	// Neither these nor what was inherited from further out is the command's.
	_ = unix.CloseRange(configFD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	fail := os.NewFile(failFD, "failure pipe")
	in := os.NewFile(configFD, "configuration")
	if fail == nil || in == nil {
		fmt.Fprintln(os.Stderr, InitName+": is started by sluice only")
		return 2
	}
	var c Config
	err := json.NewDecoder(in).Decode(&c)
	in.Close()
	if err == nil {
		err = prepare(c)
	}
	code := 125
	if err == nil {
		code, err = supervise(c, func() { fail.Close() })
	}
	if err != nil {
		fmt.Fprint(fail, err)
		return 125
	}
	return code
}

// prepare sets everything up and enters the root.
func prepare(c Config) error {
	if len(c.Args) == 0 {
		return errors.New("no command")
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	root, err := prepareRoot(c)
	if err != nil {
		return err
	}
	if err := mountSystem(root); err != nil {
		return err
	}
	if c.Hostname != "" {
		_ = unix.Sethostname([]byte(c.Hostname)) // a name is not worth failing for
	}
	return enter(root)
}

// prepareRoot mounts what will be the root and returns where.
func prepareRoot(c Config) (string, error) {
	base := c.Base
	state := c.State
	if state == "" {
		if err := unix.Mount("tmpfs", base, "tmpfs", 0, "mode=700"); err != nil {
			return "", fmt.Errorf("mount memory for what is written: %w", err)
		}
		state = base
	}
	root := filepath.Join(base, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		return "", err
	}
	if c.ReadOnly {
		if err := unix.Mount(c.Root, root, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return "", fmt.Errorf("bind %s: %w", c.Root, err)
		}
		return root, nil
	}
	upper, work := filepath.Join(state, "upper"), filepath.Join(state, "work")
	for _, d := range []string{upper, work} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return "", err
		}
	}
	return root, mountOverlay(c.Root, upper, work, root)
}

func mountOverlay(lower, upper, work, root string) error {
	escape := strings.NewReplacer(`\`, `\\`, ":", `\:`, ",", `\,`).Replace
	opts := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", escape(lower), escape(upper), escape(work))
	ways := []string{opts, opts + ",userxattr"}
	if inUserNamespace() {
		// There the kernel takes the first, too, but cannot store what makes
		// renamed and removed directories right.
		slices.Reverse(ways)
	}
	err := unix.Mount("overlay", root, "overlay", 0, ways[0])
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) {
		err = unix.Mount("overlay", root, "overlay", 0, ways[1])
	}
	if err != nil {
		return fmt.Errorf("mount overlay: %w", err)
	}
	return nil
}

// inUserNamespace reports whether this is another user namespace than the
// machine's own, which has all ids.
func inUserNamespace() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && !slices.Equal(strings.Fields(string(b)), []string{"0", "0", "4294967295"})
}

// devices are the ones that programs expect; they are the host's.
var devices = []string{"null", "zero", "full", "random", "urandom", "tty"}

// mountSystem gives root its /proc, /sys, /dev and /tmp. What the root has
// no place for is left out, as nothing can be made in a read-only one.
func mountSystem(root string) error {
	place := func(name string) (string, bool) {
		p := filepath.Join(root, name)
		_ = os.Mkdir(p, 0o755)
		fi, err := os.Lstat(p) // a link would lead out of the root
		return p, err == nil && fi.IsDir()
	}
	if p, ok := place("proc"); ok {
		if err := unix.Mount("proc", p, "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
			return fmt.Errorf("mount proc: %w", err)
		}
	}
	if p, ok := place("sys"); ok {
		if err := unix.Mount("/sys", p, "", unix.MS_BIND|unix.MS_REC, ""); err == nil {
			_ = unix.Mount("", p, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
		}
	}
	if p, ok := place("dev"); ok {
		if err := mountDev(p); err != nil {
			return err
		}
	}
	if p, ok := place("tmp"); ok {
		if err := unix.Mount("tmpfs", p, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"); err != nil {
			return fmt.Errorf("mount tmp: %w", err)
		}
	}
	for _, f := range []string{"resolv.conf", "hosts"} {
		bindHostFile(root, f)
	}
	return nil
}

// bindHostFile shows the host's /etc/name if the root has such a file, so
// that names resolve as on the host.
func bindHostFile(root, name string) {
	p := filepath.Join(root, "etc", name)
	etc, err := os.Lstat(filepath.Dir(p))
	if err != nil || !etc.IsDir() {
		return
	}
	if fi, err := os.Lstat(p); err == nil && fi.Mode().IsRegular() {
		_ = unix.Mount("/etc/"+name, p, "", unix.MS_BIND, "")
	}
}

func mountDev(dev string) error {
	if err := unix.Mount("tmpfs", dev, "tmpfs", unix.MS_NOSUID, "mode=755"); err != nil {
		return fmt.Errorf("mount dev: %w", err)
	}
	for _, name := range devices {
		p := filepath.Join(dev, name)
		f, err := os.OpenFile(p, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
		if err != nil {
			return err
		}
		f.Close()
		if err := unix.Mount("/dev/"+name, p, "", unix.MS_BIND, ""); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("bind /dev/%s: %w", name, err)
		}
	}
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(target, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	for _, dir := range []string{"shm", "pts"} {
		if err := os.Mkdir(filepath.Join(dev, dir), 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("tmpfs", filepath.Join(dev, "shm"), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"); err != nil {
		return fmt.Errorf("mount dev/shm: %w", err)
	}
	if err := unix.Mount("devpts", filepath.Join(dev, "pts"), "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"); err == nil {
		_ = os.Symlink("pts/ptmx", filepath.Join(dev, "ptmx"))
	}
	return nil
}

// enter makes root the root of this process, and lets go of the old one.
func enter(root string) error {
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	// The old root lies over the new one now, both at "/".
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach old root: %w", err)
	}
	return os.Chdir("/")
}

// lookPath finds a command in the root by the PATH of env.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			path = v
		}
	}
	for dir := range strings.SplitSeq(path, ":") {
		p := filepath.Join("/", dir, name)
		if fi, err := os.Stat(p); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", fmt.Errorf("%s: not found in the image (PATH %s)", name, path)
}
