package fstest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// ACLSetGID sets, as their owner, the ACLs of a file and a directory in mnt, a
// directory of a file system mounted with ACLs: the set-group-id bit goes if the
// owner is not in the group, and only then. All users are let through to mnt. It
// takes root.
func ACLSetGID(t *testing.T, mnt string) {
	t.Helper()
	letIn(mnt)
	const access = "system.posix_acl_access"
	acl := []byte("\x02\x00\x00\x00" + // version, then tag, rwx and no id for owner, group and others
		"\x01\x00\x07\x00\xff\xff\xff\xff" + "\x04\x00\x07\x00\xff\xff\xff\xff" + "\x20\x00\x07\x00\xff\xff\xff\xff")
	const foreign = 4321
	for _, gid := range []int{nobody, foreign} {
		for _, name := range []string{"file", "dir"} {
			path := filepath.Join(mnt, fmt.Sprint(name, gid))
			mk := func() error { return os.WriteFile(path, nil, 0o600) }
			if name == "dir" {
				mk = func() error { return os.Mkdir(path, 0o700) }
			}
			check(t, errors.Join(mk(), os.Chown(path, nobody, gid), unix.Chmod(path, 0o2755)))
			err := asNobody(func() error { return unix.Setxattr(path, access, acl, 0) })
			if errors.Is(err, unix.EOPNOTSUPP) {
				t.Log("the file system below has no ACLs")
				return
			}
			var st unix.Stat_t
			check(t, errors.Join(err, unix.Stat(path, &st)))
			want := uint32(0o2777)
			if gid == foreign {
				want = 0o777
			}
			if got := st.Mode & 0o7777; got != want {
				t.Errorf("%s of group %d: mode %o, want %o", name, gid, got, want)
			}
		}
	}
}
