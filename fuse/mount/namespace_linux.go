package mount

import (
	"os"
	"os/exec"
	"syscall"
)

// Namespace makes cmd run, once started, as root of a user namespace and in a
// mount namespace of its own, where it may mount FUSE with the methods API and
// Syscall: what an ordinary user does who has no fusermount3. The caller's own
// ids are root's inside, and no others exist there. What is mounted is seen by
// cmd and its children only, and goes when the last of them ends; other
// processes reach it through /proc/PID/root.
//
// A Go process cannot move itself (it has many threads), so a server starts
// itself anew: cmd is usually /proc/self/exe with the same arguments and a mark
// in the environment. Passthrough is not to be had there: it takes
// CAP_SYS_ADMIN in the initial namespace.
//
// Starting fails with EPERM where the administrator forbids unprivileged user
// namespaces (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces,
// or a security module).
func Namespace(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	a := cmd.SysProcAttr
	a.Cloneflags |= syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS
	a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	a.GidMappingsEnableSetgroups = false
}
