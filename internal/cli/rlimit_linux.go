package cli

import "golang.org/x/sys/unix"

// raiseFileLimit lets the process have n open files, or as many as it may; 0
// leaves the limit as it is.
func raiseFileLimit(n uint64) {
	var l unix.Rlimit
	if n == 0 || unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil || l.Cur >= n {
		return
	}
	want := unix.Rlimit{Cur: n, Max: max(n, l.Max)}
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &want) != nil {
		want = unix.Rlimit{Cur: min(n, l.Max), Max: l.Max}
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &want) // as it was, then
	}
}
