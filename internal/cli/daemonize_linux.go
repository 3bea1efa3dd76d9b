package cli

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/sluicefs/sluice/internal/serve"
	"github.com/sluicefs/sluice/internal/source"
)

// readyFD is the environment variable that names the descriptor on which a
// background process says that it is ready.
const readyFD = "SLUICE_READY_FD"

// sourceText is the environment variable that has the source of a background
// process when other users shall not see it among its arguments.
const sourceText = "SLUICE_MOUNT_SOURCE"

// daemonize runs the same mount in a background process, and returns when it
// is ready or has failed.
func daemonize(ctx context.Context, env *Env, flags *pflag.FlagSet, f *mountFlags, dir string, ref source.Ref, args []string) error {
	point, err := serve.Mountpoint(args[1])
	if err != nil {
		return err
	}
	path := f.log
	if path == "" {
		path = filepath.Join(dir, logName(point))
	}
	logFile, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("log file: %w", err)
	}
	defer logFile.Close()
	from, _ := logFile.Seek(0, io.SeekEnd)
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe", foregroundArgs(flags, f.kernel, ref.Text, point, path)...)
	cmd.Args[0] = "sluice"
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.ExtraFiles = []*os.File{w}
	cmd.Env = append(os.Environ(), readyFD+"=3")
	if ref.Text != args[0] {
		cmd.Env = append(cmd.Env, sourceText+"="+args[0])
	}
	cmd.Dir, _ = os.Getwd()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("start in the background: %w", err)
	}
	ctx, stop := untilEnded(ctx)
	defer stop()
	// A caller that gives up takes the process along.
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })()
	words := newEcho(env.Stderr, path, from)
	b, _ := io.ReadAll(io.LimitReader(r, 16))
	words.end(string(b) == "ready")
	if string(b) == "ready" {
		fmt.Fprintln(env.Stderr, printable(fmt.Sprintf("%s is mounted on %s (process %d, log %s)", ref, point, cmd.Process.Pid, path)))
		return cmd.Process.Release()
	}
	waitErr := cmd.Wait()
	return errors.New(lastLine(path, from, waitErr))
}

// logName is what the log of the mount on point is called.
func logName(point string) string {
	name := strings.ReplaceAll(strings.Trim(point, "/"), "/", "-")
	const longest = 200 // a file's name has 255 bytes at most
	if len(name) > longest {
		h := fnv.New64a()
		h.Write([]byte(name))
		name = fmt.Sprintf("%s-%x", strings.ToValidUTF8(name[:longest], ""), h.Sum64())
	}
	return name + ".log"
}

// sourceArgument is the source that the arguments name, or the one that
// daemonize has kept out of them.
func sourceArgument(env *Env, arg string) string {
	if text := env.Getenv(sourceText); text != "" && env.Getenv(readyFD) != "" {
		os.Unsetenv(sourceText)
		return text
	}
	return arg
}

// ready tells the process that waits in daemonize.
func ready(env *Env) {
	fd, err := strconv.Atoi(env.Getenv(readyFD))
	if err != nil || fd < 3 {
		return
	}
	os.Unsetenv(readyFD)
	if f := os.NewFile(uintptr(fd), "ready"); f != nil {
		_, _ = f.WriteString("ready")
		f.Close()
	}
}

// lastLine returns the last line that was written to the log behind from,
// without the program's name: why the background process gave up.
func lastLine(path string, from int64, err error) string {
	f, openErr := os.Open(path)
	if openErr != nil {
		return fmt.Sprint(err)
	}
	defer f.Close()
	b, _ := io.ReadAll(io.NewSectionReader(f, from, 1<<20))
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	last := strings.TrimPrefix(lines[len(lines)-1], "sluice: ")
	if last == "" {
		return fmt.Sprintf("the background process ended: %v", err)
	}
	return last
}

// notForeground are flags that the background process is not given: those
// that have done their work, and those that only the helper of mount(8) has.
var notForeground = []string{"daemonize", "log", "options", "help", "mount-f", "mount-v", "mount-s", "mount-n", "mount-type"}

// foregroundArgs are the arguments of the background process: every flag as
// it stands, the options of -o included.
func foregroundArgs(flags *pflag.FlagSet, kernel []string, src, point, log string) []string {
	args := []string{"mount", "--log=" + log}
	flags.VisitAll(func(f *pflag.Flag) {
		if slices.Contains(notForeground, f.Name) {
			return
		}
		values := []string{f.Value.String()}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		for _, v := range values {
			args = append(args, "--"+f.Name+"="+v)
		}
	})
	for _, k := range kernel {
		args = append(args, "-o", k)
	}
	return append(args, "--", src, point)
}
