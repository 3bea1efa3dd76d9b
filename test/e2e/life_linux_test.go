package e2e

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/sluicefs/sluice/internal/registry"
	"github.com/sluicefs/sluice/storage"
)

func TestIntegrationSignalsEndTheMount(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			b := mountBench(t)
			boot, _ := b.image(b.source(), "img", storage.Zstd)
			mnt := b.mkdir("mnt")
			cmd, w := b.foreground(boot, mnt)
			if _, err := os.ReadFile(mnt + "/hello.txt"); err != nil {
				t.Error(err)
			}
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("exit: %v\n%s", err, w.buf.String())
			}
			if b.mounted(mnt) {
				t.Error("still mounted")
			}
		})
	}
}

func TestIntegrationSignalWhileBusy(t *testing.T) {
	b := mountBench(t)
	boot, _ := b.image(b.source(), "img", storage.Zstd)
	mnt := b.mkdir("mnt")
	cmd, w := b.foreground(boot, mnt)
	f, err := os.Open(mnt + "/hello.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	b.until("the mount to go from sight", func() bool { return !b.mounted(mnt) })
	f.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("exit: %v\n%s", err, w.buf.String())
	}
	if !strings.Contains(w.buf.String(), "is busy") {
		t.Errorf("it did not say that it was busy:\n%s", w.buf.String())
	}
}

func TestIntegrationUmountBusy(t *testing.T) {
	b := mountBench(t)
	boot, _ := b.image(b.source(), "img", storage.Zstd)
	mnt := b.mkdir("mnt")
	b.ok("mount", "-d", boot, mnt)
	f, err := os.Open(mnt + "/hello.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	o := b.run("umount", mnt)
	if o.code != 1 || !strings.Contains(o.errout, "--lazy") || !b.mounted(mnt) {
		t.Errorf("umount while busy: code %d, %q", o.code, o.errout)
	}
	b.ok("umount", "--lazy", mnt)
	if b.mounted(mnt) {
		t.Error("still mounted after umount --lazy")
	}
	buf := make([]byte, 5)
	if _, err := f.ReadAt(buf, 0); err != nil || string(buf) != "hello" {
		t.Errorf("open file after umount --lazy: %q, %v", buf, err)
	}
	f.Close()
	b.until("the process to end", func() bool { return len(b.list()) == 0 })
}

func TestIntegrationKilledServer(t *testing.T) {
	b := mountBench(t)
	boot, _ := b.image(b.source(), "img", storage.Zstd)
	mnt := b.mkdir("mnt")
	cmd, _ := b.foreground(boot, mnt)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	// While the kernel tears the connection down, requests get other errors.
	b.until("ENOTCONN after kill -9", func() bool {
		_, err := os.Stat(mnt + "/hello.txt")
		return errors.Is(err, syscall.ENOTCONN)
	})
	// The same place can be mounted again at once, over the dead mount.
	b.ok("mount", "-d", boot, mnt)
	if got, err := os.ReadFile(mnt + "/hello.txt"); err != nil || string(got) != "hello\n" {
		t.Errorf("mounted again: %q, %v", got, err)
	}
	pid := b.stats(mnt).PID
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.until("the list to see that it is dead", func() bool { return len(b.list()) == 0 })
	if b.mounted(mnt) {
		t.Error("the dead mount was not cleaned up")
	}
}

func TestIntegrationMountTwiceRefused(t *testing.T) {
	b := mountBench(t)
	boot, _ := b.image(b.source(), "img", storage.Zstd)
	mnt := b.mkdir("mnt")
	b.ok("mount", "-d", boot, mnt)
	if o := b.run("mount", boot, mnt); o.code != 1 || !strings.Contains(o.errout, "already mounted") {
		t.Errorf("second mount: code %d, %q", o.code, o.errout)
	}
	b.ok("umount", mnt)
}

func TestIntegrationCorruptBlob(t *testing.T) {
	b := mountBench(t)
	src, mnt := b.source(), b.mkdir("mnt")
	boot, blob := b.image(src, "img", storage.None)
	data, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}
	large, err := os.ReadFile(src + "/bin/large")
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(data), string(large[:4096]))
	if at < 0 {
		t.Fatal("the file is not in the blob")
	}
	data[at+10] ^= 1
	if err := os.WriteFile(blob, data, 0o644); err != nil {
		t.Fatal(err)
	}
	b.ok("mount", "-d", "--on-outage=error", "--prefetch=none", boot, mnt)
	for range 2 {
		if _, err := os.ReadFile(mnt + "/bin/large"); !errors.Is(err, syscall.EIO) {
			t.Errorf("corrupt file: got %v, want EIO", err)
		}
	}
	if got, err := os.ReadFile(mnt + "/hello.txt"); err != nil || string(got) != "hello\n" {
		t.Errorf("another file: %q, %v", got, err)
	}
	b.ok("umount", mnt)
}

func TestIntegrationRegistryAwayAndBack(t *testing.T) {
	b := mountBench(t)
	src, mnt := b.source(), b.mkdir("mnt")
	r := b.registry(registry.Options{})
	boot, blob := b.image(src, "img", storage.Zstd)
	ref := b.push(r.Addr, boot, blob)
	b.ok("mount", "-d", "--on-outage=error", "--retry=10ms", "--prefetch=none", ref, mnt)
	if _, err := os.ReadFile(mnt + "/hello.txt"); err != nil {
		t.Fatal(err)
	}
	addr := r.Addr
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(mnt + "/bin/large"); !errors.Is(err, syscall.EIO) {
		t.Errorf("registry away: got %v, want EIO", err)
	}
	if _, err := os.ReadFile(mnt + "/hello.txt"); err != nil {
		t.Errorf("cached file while the registry is away: %v", err)
	}
	// The same blobs at the same address: no restart is needed.
	back, err := registry.Start(b.path("registry"), registry.Options{Addr: addr})
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	b.until("reads to work again", func() bool {
		_, err := os.ReadFile(mnt + "/bin/large")
		return err == nil
	})
	b.compare(src, mnt)
	b.ok("umount", mnt)
}

func TestWrongUsage(t *testing.T) {
	b := newBench(t)
	for _, args := range [][]string{
		{"nonsense"}, {"mount"}, {"mount", "x"}, {"mount", "a", "b", "c"}, {"mount", "--nonsense", "a", "b"},
		{"mount", "--io=fast", "a", "b"}, {"mount", "--type=floppy", "a", "b"}, {"mount", "-o", "nonsense", "a", "b"},
		{"mount", "--uid=-5", "a", "b"}, {"mount", "--cache-size=many", "a", "b"}, {"mount", "--cache-timeout=-1s", "a", "b"},
		{"mount", "--passthrough=on", "/etc/passwd", "b", "--type=tar"},
		{"umount"}, {"umount", "--all", "x"}, {"stats"}, {"why"}, {"list", "x"}, {"run"}, {"doctor", "x"},
		{"completion", "csh"}, {"man", "nonsense"}, {"demo", "x"}, {"version", "x"},
	} {
		o := b.run(args...)
		if o.code != 2 || o.out != "" || !strings.HasPrefix(o.errout, "sluice: ") {
			t.Errorf("sluice %s: code %d, out %q, err %q, want 2 and a line", strings.Join(args, " "), o.code, o.out, o.errout)
		}
	}
}

func TestBadInputIsOneClearLine(t *testing.T) {
	b := newBench(t)
	mnt := b.mkdir("mnt")
	write := func(name, text string) string {
		if err := os.WriteFile(b.path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return b.path(name)
	}
	rafs := strings.Repeat("\x00", 1024) + "\xe2\xe1\xf5\xe0" + strings.Repeat("\xff", 5000)
	for name, args := range map[string][]string{
		"nothing there":     {"mount", b.path("none"), mnt},
		"not an image":      {"mount", write("text", "just a text"), mnt},
		"empty file":        {"mount", write("zero", ""), mnt},
		"corrupt bootstrap": {"mount", write("bad.boot", rafs), mnt},
		"truncated zip":     {"mount", write("bad.zip", "PK\x03\x04abc"), mnt},
		"truncated gzip":    {"mount", write("bad.tar.gz", "\x1f\x8b\x08"), mnt},
		"no mount point":    {"mount", b.path("mnt"), b.path("nowhere")},
		"file as mount":     {"mount", b.path("mnt"), b.path("text")},
		"refused registry":  {"mount", "docker://127.0.0.1:1/x/y:z", mnt},
		"bad reference":     {"mount", "docker://UPPER/CASE:::", mnt},
		"not a mount":       {"umount", mnt},
		"not on a mount":    {"stats", mnt},
		"why of nothing":    {"why", mnt},
		"missing profile":   {"mount", "--profile", b.path("none"), write("p.boot", rafs), mnt},
	} {
		o := b.run(args...)
		if o.code != 1 || o.out != "" || strings.Count(o.errout, "\n") != 1 || !strings.HasPrefix(o.errout, "sluice: ") {
			t.Errorf("%s: code %d, out %q, err %q, want 1 and one line", name, o.code, o.out, o.errout)
		}
		if b.mounted(mnt) {
			t.Errorf("%s: something was left mounted", name)
		}
	}
}

func TestPagesAndCompletion(t *testing.T) {
	b := newBench(t)
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if out := b.ok("completion", shell); !strings.Contains(out, "sluice") {
			t.Errorf("completion %s: %q", shell, out)
		}
	}
	b.ok("man", "--dir", b.mkdir("man"))
	for _, page := range []string{"sluice.1", "sluice-mount.1", "sluice-run.1"} {
		text, err := os.ReadFile(b.path("man/" + page))
		if err != nil || !strings.Contains(string(text), ".SH SYNOPSIS") {
			t.Errorf("%s: %v", page, err)
		}
	}
}
