package fs_test

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fs"
	"github.com/sluicefs/sluice/fs/fstest"
	"github.com/sluicefs/sluice/internal/testenv"
)

// acl encodes entries of tag, permissions and id in the form of
// system.posix_acl_*: linux/posix_acl_xattr.h.
func acl(entries ...[3]uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
		b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
		b = binary.LittleEndian.AppendUint32(b, e[2])
	}
	return b
}

// TestIntegrationLoopbackACL gives a directory a default ACL and looks at what
// files made in it get, on the mount and on the file system below.
func TestIntegrationLoopbackACL(t *testing.T) {
	opts := &fs.Options{}
	opts.EnableAcl = true
	opts.MountOptions.Options = []string{"default_permissions"}
	mnt, orig := mountLoopback(t, opts)
	const none = ^uint32(0)
	// user::rwx user:1234:rwx group::r-x mask::rwx other::---
	def := acl([3]uint32{1, 7, none}, [3]uint32{2, 7, 1234}, [3]uint32{4, 5, none}, [3]uint32{16, 7, none}, [3]uint32{32, 0, none})
	modes := map[string]uint32{}
	for name, dir := range map[string]string{"below": orig, "mount": mnt} {
		sub := filepath.Join(dir, name)
		if err := os.Mkdir(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		err := unix.Setxattr(sub, "system.posix_acl_default", def, 0)
		if errors.Is(err, unix.EOPNOTSUPP) && name == "below" {
			t.Log("the file system below has no ACLs")
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(sub, "f")
		fd, err := unix.Open(file, unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o666)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		var st unix.Stat_t
		if err := unix.Stat(file, &st); err != nil {
			t.Fatal(err)
		}
		modes[name] = st.Mode
		got := make([]byte, 200)
		n, err := unix.Getxattr(file, "system.posix_acl_access", got)
		if err != nil || n != len(def) {
			t.Errorf("%s: access ACL of the new file: %d bytes, %v, want %d", name, n, err, len(def))
		}
	}
	if modes["mount"] != modes["below"] {
		t.Errorf("mode of a file under a default ACL: got %o, want %o as below", modes["mount"], modes["below"])
	}
}

func TestIntegrationLoopbackACLSetGID(t *testing.T) {
	testenv.Root(t)
	opts := &fs.Options{}
	opts.EnableAcl, opts.AllowOther = true, true
	opts.MountOptions.Options = []string{"default_permissions"}
	mnt, _ := mountLoopback(t, opts)
	fstest.ACLSetGID(t, mnt)
}
