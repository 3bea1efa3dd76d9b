package e2e

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sluicefs/sluice/internal/registry"
	"github.com/sluicefs/sluice/internal/testenv"
	"github.com/sluicefs/sluice/storage"
)

func TestIntegrationMountFromRegistry(t *testing.T) {
	for _, way := range []string{"classic", "auto"} {
		t.Run(way, func(t *testing.T) {
			b := mountBench(t)
			src, mnt := b.source(), b.mkdir("mnt")
			r := b.registry(registry.Options{})
			boot, blob := b.image(src, "img", storage.Zstd)
			ref := b.push(r.Addr, boot, blob)
			b.ok("mount", "--daemonize", "--prefetch=none", "--io="+way, ref, mnt)
			if s := b.stats(mnt); s.Image == nil || s.Image.Fetched != 0 || s.Source != ref {
				t.Errorf("before the first read: %+v", s)
			}
			if got, err := os.ReadFile(mnt + "/hello.txt"); err != nil || string(got) != "hello\n" {
				t.Errorf("first read: %q, %v", got, err)
			}
			first := b.stats(mnt).Image
			if first.Fetched == 0 || first.Fetched > first.Stored/2 {
				t.Errorf("one small file fetched %d of %d bytes", first.Fetched, first.Stored)
			}
			b.compare(src, mnt)
			if got, want := xattr(t, mnt+"/hello.txt", "user.note"), xattr(t, src+"/hello.txt", "user.note"); got != want {
				t.Errorf("xattr: got %q, want %q", got, want)
			}
			// A second look at everything costs no request but those for
			// attributes that the kernel does not keep.
			before, requests := b.stats(mnt), r.Requests.Load()
			sameFiles(t, files(t, mnt), files(t, src))
			after := b.stats(mnt)
			if after.Image.Reads != before.Image.Reads || after.Requests != before.Requests {
				t.Errorf("second look: %d reads and %d requests more: %+v", after.Image.Reads-before.Image.Reads, after.Requests-before.Requests, after.Operations)
			}
			if n := r.Requests.Load(); n != requests {
				t.Errorf("second look: %d requests to the registry", n-requests)
			}
			var why struct {
				Chunks  int `json:"chunks"`
				Present int `json:"present_chunks"`
			}
			if err := json.Unmarshal([]byte(b.ok("why", "--json", mnt+"/bin/large")), &why); err != nil || why.Chunks != 16 || why.Present != 16 {
				t.Errorf("why: %+v, %v", why, err)
			}
			if err := os.WriteFile(mnt+"/new", nil, 0o600); !errors.Is(err, syscall.EROFS) {
				t.Errorf("writing: got %v, want EROFS", err)
			}
			if all := b.list(); len(all) != 1 || all[0].Mountpoint != mnt {
				t.Errorf("list: %+v", all)
			}
			b.ok("umount", mnt)
			if b.mounted(mnt) || len(b.list()) != 0 {
				t.Error("still there after umount")
			}
		})
	}
}

// The cache outlives the mount: nothing is fetched twice, and a mount works
// while the registry is away.
func TestIntegrationMountAgainWithoutRegistry(t *testing.T) {
	b := mountBench(t)
	src, mnt := b.source(), b.mkdir("mnt")
	r := b.registry(registry.Options{})
	boot, blob := b.image(src, "img", storage.LZ4Block)
	ref := b.push(r.Addr, boot, blob)
	b.ok("mount", "-d", ref, mnt)
	b.compare(src, mnt)
	b.ok("umount", mnt)
	r.Close()
	b.ok("mount", "-d", "--on-outage=error", "--retry=100ms", ref, mnt)
	b.compare(src, mnt)
	if s := b.stats(mnt); s.Image.Fetched != 0 {
		t.Errorf("%d bytes were fetched again", s.Image.Fetched)
	}
	b.ok("umount", mnt)
}

func TestIntegrationMountLocalKinds(t *testing.T) {
	b := mountBench(t)
	src, mnt := b.source(), b.mkdir("mnt")
	boot, blob := b.image(src, "img", storage.Zstd)
	for name, source := range map[string]string{"bootstrap": boot} {
		b.ok("mount", "-d", source, mnt)
		b.compare(src, mnt)
		if t.Failed() {
			t.Fatal(name)
		}
		b.ok("umount", mnt)
	}
	other := b.mkdir("elsewhere")
	if err := os.Rename(blob, filepath.Join(other, filepath.Base(blob))); err != nil {
		t.Fatal(err)
	}
	b.env = append(b.env, "SLUICE_CACHE_DIR="+b.path("cache2"))
	b.ok("mount", "-d", "-o", "ro,nosuid,x-anything,blob_dir="+other, boot, mnt)
	b.compare(src, mnt)
	b.ok("umount", mnt)

	b.ok("mount", "-d", src, mnt) // a directory, with writes
	if err := os.WriteFile(mnt+"/written", []byte("x"), 0o600); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(src + "/written"); err != nil || string(got) != "x" {
		t.Errorf("through the mount: %q, %v", got, err)
	}
	if err := os.Chmod(src+"/written", 0); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(mnt + "/written"); err != nil || st.Mode() != 0 {
		t.Errorf("a file without permissions: got %v, %v", st, err)
	}
	b.ok("umount", mnt)
	b.ok("mount", "-d", "--read-only", src, mnt)
	if err := os.WriteFile(mnt+"/written", nil, 0o600); !errors.Is(err, syscall.EROFS) {
		t.Errorf("read-only: got %v", err)
	}
	b.ok("umount", mnt)
}

// The kernel's own EROFS driver shows the same image: every entry and byte
// must be equal.
func TestIntegrationEqualToKernelEROFS(t *testing.T) {
	b := mountBench(t)
	testenv.Filesystem(t, "erofs")
	src, mnt, ref := b.source(), b.mkdir("mnt"), b.mkdir("ref")
	boot, _ := b.image(src, "img", storage.LZ4Block)
	flat := b.path("flat.erofs")
	b.ok("image", "export", "--quiet", "-o", flat, boot)
	if err := unix.Mount(flat, ref, "erofs", unix.MS_RDONLY, ""); err != nil {
		if errors.Is(err, unix.ENOTBLK) {
			testenv.Disk(t, b.dir, "the kernel mounts EROFS from files on disk file systems only")
		}
		t.Fatal(err)
	}
	b.ok("mount", "-d", boot, mnt)
	want := files(t, ref)
	sameFiles(t, files(t, mnt), want)
	for name := range want {
		w, g := entry(t, filepath.Join(ref, name)), entry(t, filepath.Join(mnt, name))
		g.Ino = w.Ino // the export is laid out anew
		if w != g {
			t.Errorf("%s: attributes\n got %+v\nwant %+v", name, g, w)
		}
	}
	b.ok("umount", mnt)
}

func TestIntegrationRunCommand(t *testing.T) {
	b := mountBench(t)
	src := b.source()
	// A static program in an otherwise empty image: this very binary.
	exe, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(src+"/bin/sluice", exe, 0o755); err != nil {
		t.Fatal(err)
	}
	testenv.Static(t, "/proc/self/exe")
	boot, _ := b.image(src, "img", storage.Zstd)
	o := b.run("record", "--output", b.path("p.json"), "-e", asProgram+"=1", boot, "--", "/bin/sluice", "version")
	if o.code != 0 || !strings.HasPrefix(o.out, "sluice ") || !strings.Contains(o.errout, "first output after") {
		t.Fatalf("code %d, out %q, err %q", o.code, o.out, o.errout)
	}
	o = b.run("run", "--profile", b.path("p.json"), "-e", asProgram+"=1", boot, "--", "/bin/sluice", "mount")
	if o.code != 2 || !strings.Contains(o.errout, "wants SOURCE DIR") {
		t.Errorf("code %d, err %q", o.code, o.errout)
	}
}
