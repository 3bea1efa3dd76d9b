package passthrough

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/fs/fstest"
	"github.com/sluicefs/sluice/fuse"
	"github.com/sluicefs/sluice/internal/testenv"
)

// mount shows a new directory, and returns the mount and that directory.
func mount(t *testing.T, o Options) (mnt, orig string) {
	t.Helper()
	testenv.MountFUSE(t)
	mnt, orig = t.TempDir(), t.TempDir()
	if o.Table != "" {
		o.Table = filepath.Join(t.TempDir(), o.Table)
	}
	f, err := New(orig, o)
	if err != nil {
		t.Fatal(err)
	}
	server, err := fuse.NewServer(f, mnt, &fuse.MountOptions{
		FsName: "passthrough", AllowOther: os.Geteuid() == 0, EnableAcl: true, Options: []string{"default_permissions"},
		ExtraCapabilities: fuse.CAP_HANDLE_KILLPRIV_V2 | fuse.CAP_SETXATTR_EXT | fuse.CAP_READDIRPLUS_AUTO,
	})
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve()
	watchdog := time.AfterFunc(2*time.Minute, func() {
		t.Error("the test takes too long: the mount is aborted")
		server.Abort()
	})
	t.Cleanup(func() {
		watchdog.Stop()
		if err := server.Unmount(); err != nil {
			syscall.Unmount(mnt, unix.MNT_DETACH)
			t.Errorf("unmount: %v", err)
		}
		server.Wait()
		if o.Table != "" {
			if _, err := os.Stat(o.Table); !os.IsNotExist(err) {
				t.Errorf("the table is left: %v", err)
			}
		}
	})
	if err := server.WaitMount(); err != nil {
		t.Fatal(err)
	}
	return mnt, orig
}

func TestIntegrationConformance(t *testing.T) {
	for name, o := range map[string]Options{
		"auto":           {},
		"table":          {Table: "nodes"},
		"none":           {Cache: CacheNone},
		"always":         {Cache: CacheAlways, NoPassthrough: true},
		"no passthrough": {NoPassthrough: true, Table: "nodes"},
	} {
		t.Run(name, func(t *testing.T) {
			mnt, _ := mount(t, o)
			opts := fstest.Options{}
			if o.Cache == CacheNone && o.NoPassthrough {
				opts.Without = []fstest.Feature{fstest.Mmap}
			}
			fstest.Run(t, mnt, opts)
		})
	}
}

func TestIntegrationSetID(t *testing.T) {
	testenv.Root(t)
	for name, o := range map[string]Options{
		"auto": {}, "no passthrough": {NoPassthrough: true}, "always": {Cache: CacheAlways, NoPassthrough: true}, "none": {Cache: CacheNone},
	} {
		t.Run(name, func(t *testing.T) {
			mnt, orig := mount(t, o)
			for _, dir := range []string{"sub", "native"} {
				if err := os.Mkdir(filepath.Join(orig, dir), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			fstest.SetID(t, filepath.Join(mnt, "sub"), filepath.Join(orig, "sub"), filepath.Join(orig, "native"), !o.NoPassthrough)
		})
	}
}

func TestIntegrationACLSetGID(t *testing.T) {
	testenv.Root(t)
	mnt, _ := mount(t, Options{})
	fstest.ACLSetGID(t, mnt)
}

func TestIntegrationStaysInside(t *testing.T) {
	mnt, orig := mount(t, Options{Cache: CacheNone})
	fstest.StaysInside(t, mnt, orig)
}

// Owners are shown, and set, as the maps say, in ACLs as well.
func TestIntegrationIDMap(t *testing.T) {
	testenv.Root(t)
	ids := IDMap{{Mount: 0, Host: 100000, Count: 1000}}
	mnt, orig := mount(t, Options{UIDs: ids, GIDs: ids})
	if err := os.Chown(orig, 100000, 100000); err != nil {
		t.Fatal(err)
	}
	owner := func(p string) [2]uint32 {
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			t.Fatal(err)
		}
		return [2]uint32{st.Uid, st.Gid}
	}
	if err := os.WriteFile(mnt+"/f", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := owner(orig + "/f"); got != [2]uint32{100000, 100000} {
		t.Errorf("made by root: below %v", got)
	}
	if err := os.Chown(mnt+"/f", 5, 7); err != nil {
		t.Fatal(err)
	}
	if got := owner(orig + "/f"); got != [2]uint32{100005, 100007} {
		t.Errorf("given to 5:7: below %v", got)
	}
	if got := owner(mnt + "/f"); got != [2]uint32{5, 7} {
		t.Errorf("given to 5:7: in the mount %v", got)
	}
	if err := os.Chown(mnt+"/f", 4000, 0); err == nil {
		t.Error("an owner that the map has not was accepted")
	}
	if err := os.WriteFile(orig+"/other", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := owner(mnt + "/other"); got != [2]uint32{nobody, nobody} {
		t.Errorf("an owner that the map has not: %v", got)
	}
	acl := []byte{2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 9, 0, 0, 0, 4, 0, 0, 0, 255, 255, 255, 255, 16, 0, 4, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255}
	switch err := unix.Setxattr(mnt+"/f", "system.posix_acl_access", acl, 0); err {
	case unix.EOPNOTSUPP:
		t.Log("the file system below has no ACLs")
	case nil:
		b := make([]byte, 100)
		n, err := unix.Getxattr(orig+"/f", "system.posix_acl_access", b)
		if err != nil || !bytes.Contains(b[:n], []byte{2, 0, 4, 0, 0xa9, 0x86, 1, 0}) {
			t.Errorf("ACL below: %v, %v", b[:max(n, 0)], err)
		}
		n, err = unix.Getxattr(mnt+"/f", "system.posix_acl_access", b)
		if err != nil || !bytes.Equal(b[:n], acl) {
			t.Errorf("ACL in the mount: %v, %v", b[:max(n, 0)], err)
		}
	default:
		t.Errorf("set an ACL: %v", err)
	}
}
