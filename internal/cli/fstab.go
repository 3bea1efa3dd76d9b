package cli

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// ignoredOptions are fstab options that mean something to mount(8) or init
// only, or are what a mount is anyway.
var ignoredOptions = []string{
	"defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev",
	"exec", "async", "atime", "relatime", "norelatime", "nostrictatime",
	"diratime", "rw", "default_permissions", "nonempty", "lazytime", "nolazytime",
}

// kernelOptions are handed to the kernel as they are. Without suid and dev a
// mount has nosuid and nodev.
var kernelOptions = []string{"nosuid", "suid", "nodev", "dev", "noexec", "noatime", "nodiratime", "strictatime", "sync", "dirsync"}

// applyOptions carries the options of -o over to the flags that they stand
// for. An option name may have '_' for the '-' of the flag.
func (f *mountFlags) applyOptions() error {
	for _, o := range f.options {
		name, value, _ := strings.Cut(strings.TrimSpace(o), "=")
		switch {
		case name == "", slices.Contains(ignoredOptions, name), strings.HasPrefix(name, "x-"), name == "comment":
			continue
		case slices.Contains(kernelOptions, name):
			f.kernel = append(f.kernel, name)
			continue
		}
		if err := f.applyOption(strings.ReplaceAll(name, "_", "-"), value); err != nil {
			return usageError{fmt.Errorf("-o %s: %w", o, err)}
		}
	}
	return nil
}

func (f *mountFlags) applyOption(name, value string) (err error) {
	text := map[string]*string{
		"type": &f.kind, "blob-dir": &f.blobDir, "platform": &f.platform, "cache-dir": &f.cacheDir,
		"cache-size": &f.quota, "on-outage": &f.onOutage, "prefetch": &f.prefetch, "profile": &f.profile,
		"io": &f.transport, "passthrough": &f.passthrough, "log": &f.log,
		"endpoint": &f.endpoint, "region": &f.region,
	}
	truth := map[string]*bool{
		"ro": &f.readOnly, "read-only": &f.readOnly, "allow-other": &f.allowOther, "plain-http": &f.plainHTTP,
		"verify": &f.verify, "debug": &f.debug, "share-locks": &f.shareLocks,
	}
	numbers := map[string]*int64{"uid": &f.uid, "gid": &f.gid}
	if p := text[name]; p != nil && value != "" {
		*p = value
		return nil
	}
	if p := truth[name]; p != nil {
		*p = value == "" || value == "1" || value == "true" || value == "yes"
		return nil
	}
	if p := numbers[name]; p != nil {
		*p, err = strconv.ParseInt(value, 10, 64)
		return err
	}
	if name == "cache-timeout" {
		f.cacheTimeout, err = time.ParseDuration(value)
		return err
	}
	return fmt.Errorf("option is unknown")
}

// newMountHelperCmd is the face that mount(8) calls as mount.fuse.sluice:
// "mount -t fuse.sluice SOURCE DIR -o OPTIONS", also from /etc/fstab. It
// returns when the mount is ready.
func newMountHelperCmd(env *Env) *cobra.Command {
	var f mountFlags
	var fake, verbose, sloppy, nomtab bool
	var fstype string
	cmd := &cobra.Command{
		Use:   "mount.fuse.sluice SOURCE DIR",
		Short: "Mount an image or directory; called by mount(8)",
		Long: `The helper that mount(8) calls for file systems of type fuse.sluice. Install it
as a link to sluice in /sbin. A line of /etc/fstab is then, for example:
  docker://registry.example/python:3  /mnt/python  fuse.sluice  ro,nofail,_netdev  0 0`,
		Args: needArgs(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if fake {
				return nil
			}
			f.daemonize = true
			return runMount(cmd.Context(), env, cmd.Flags(), &f, args)
		},
	}
	f.add(cmd.Flags(), env)
	for _, p := range []struct {
		short string
		v     *bool
		help  string
	}{{"f", &fake, "check only"}, {"v", &verbose, "no effect"}, {"s", &sloppy, "no effect"}, {"n", &nomtab, "no effect"}} {
		cmd.Flags().BoolVarP(p.v, "mount-"+p.short, p.short, false, p.help+" (as mount(8) passes it)")
	}
	cmd.Flags().StringVarP(&fstype, "mount-type", "t", "", "type, as mount(8) passes it")
	return cmd
}

// isHelperCall reports whether args are those of "sluice SOURCE DIR -o …",
// which mount.fuse(8) uses for the type fuse.sluice where no helper of that
// name is installed.
func isHelperCall(root *cobra.Command, args []string) bool {
	if len(args) < 4 || !slices.Contains(args, "-o") || strings.HasPrefix(args[1], "-") {
		return false
	}
	if c, _, err := root.Find(args[1:2]); err == nil && c != root {
		return false
	}
	fi, err := os.Stat(args[2])
	return err == nil && fi.IsDir()
}
