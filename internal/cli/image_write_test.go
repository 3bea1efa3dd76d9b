package cli

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"log"
)

// sluice runs a command line of the program called name and returns its
// standard output and its standard error. The exit code has to be want.
func sluice(t *testing.T, want int, stdin io.Reader, name string, args ...string) (out, words string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	env := &Env{Stdin: stdin, Stdout: &stdout, Stderr: &stderr, Getenv: func(string) string { return "" }}
	if got := Main(t.Context(), env, append([]string{name}, args...)); got != want {
		t.Fatalf("%s %s: exit code: got %d, want %d\n%s", name, strings.Join(args, " "), got, want, stderr.String())
	}
	return stdout.String(), stderr.String()
}

// smallTree makes a directory with a few files.
func smallTree(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "source")
	for name, content := range map[string]string{
		"etc/hosts": "127.0.0.1 localhost\n", "bin/tool": strings.Repeat("code", 50_000), "bin/again": strings.Repeat("code", 50_000),
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestImageCreateAndConvert(t *testing.T) {
	src, work := smallTree(t), t.TempDir()
	at := func(name string) string { return filepath.Join(work, name) }
	out, _ := sluice(t, 0, nil, "sluice", "image", "create", src, "-o", at("v6"), "--json")
	var res imageJSON
	if err := json.Unmarshal([]byte(out), &res); err != nil {
		t.Fatal(err)
	}
	if res.Version != 6 || res.Files != 3 || len(res.Blobs) != 1 || res.DedupChunks != 1 || res.Bootstrap != at("v6/image.boot") {
		t.Errorf("result: got %+v", res)
	}
	sluice(t, 0, nil, "sluice", "image", "check", at("v6/image.boot"))
	sluice(t, 0, nil, "sluice", "image", "convert", at("v6/image.boot"), "--to", "v5", "--compressor", "lz4_block", "-o", at("v5"))
	sluice(t, 0, nil, "sluice", "image", "check", at("v5/image.boot"))
	sluice(t, 0, nil, "sluice", "image", "convert", at("v5/image.boot"), "--to", "erofs", "-o", at("erofs"))
	sluice(t, 0, nil, "sluice", "image", "export", at("v5/image.boot"), "--verity", "-o", at("flat"))
	sluice(t, 0, nil, "sluice", "image", "convert", at("flat"), "--to", "v6", "-o", at("back"))
	sluice(t, 0, nil, "sluice", "image", "diff", at("v6/image.boot"), at("back/image.boot"))
	sluice(t, 0, nil, "sluice", "image", "diff", at("v6/image.boot"), at("v5/image.boot"))
	if err := os.WriteFile(at("hot"), []byte("/etc/hosts\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sluice(t, 0, nil, "sluice", "image", "optimize", at("v6/image.boot"), "--prefetch-files", at("hot"), "-o", at("hot-image"))
	sluice(t, 0, nil, "sluice", "image", "compact", at("v6/image.boot"), "--min-used-ratio", "1", "-o", at("compact"))
}

func TestImageCreateWrongUsage(t *testing.T) {
	src := smallTree(t)
	for want, args := range map[string][]string{
		"say where":     {src},
		"--chunk-size":  {src, "-o", t.TempDir(), "--chunk-size", "many"},
		"--compressor":  {src, "-o", t.TempDir(), "--compressor", "rar"},
		"--digester":    {src, "-o", t.TempDir(), "--digester", "md5"},
		"whiteouts":     {src, "-o", t.TempDir(), "--whiteouts", "maybe"},
		"none of":       {src, "-o", t.TempDir(), "--bootstrap", "x"},
		"got 0 argume":  {},
		"need the boot": {src, "--blob-dir", t.TempDir(), "--push", "localhost/x"},
	} {
		if _, words := sluice(t, 2, nil, "sluice", append([]string{"image", "create"}, args...)...); !strings.Contains(words, want) {
			t.Errorf("%v: got %q, want %q in it", args, words, want)
		}
	}
	missing := filepath.Join(t.TempDir(), "out")
	if _, words := sluice(t, 2, nil, "sluice", "image", "create", src, "--push", "not a ref"); !strings.Contains(words, "--push") {
		t.Errorf("broken reference: got %q", words)
	}
	sluice(t, 1, nil, "sluice", "image", "create", filepath.Join(src, "none.tar"), "-o", missing)
	if _, err := os.Stat(missing); err == nil {
		t.Error("an output directory stayed, though nothing was written")
	}
	_, words := sluice(t, 1, strings.NewReader("not a tar at all, and long enough to tell"), "sluice", "image", "create", "-", "-o", t.TempDir())
	if !strings.Contains(words, "standard input") {
		t.Errorf("broken input: got %q, want it to name standard input", words)
	}
}

// A tar from standard input, pushed to a registry, comes back as the source
// of another image; a plain image in the registry does as well.
func TestImageCreatePush(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	ref := strings.TrimPrefix(server.URL, "http://") + "/image:rafs"
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "file", Mode: 0o644, Size: 4}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "data"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	out, _ := sluice(t, 0, &b, "sluice", "image", "create", "-", "--push", ref, "--layout", filepath.Join(work, "layout")+":tag")
	if !strings.Contains(out, "docker://"+strings.TrimPrefix(ref, "docker://")+"  sha256:") || strings.Contains(out, bootstrapName) {
		t.Errorf("what it says should name the image, and no file that is gone: %q", out)
	}
	if _, err := os.Stat(filepath.Join(work, "layout", "index.json")); err != nil {
		t.Error(err)
	}
	_, words := sluice(t, 1, nil, "sluice", "image", "create", ref, "-o", filepath.Join(work, "again"))
	if !strings.Contains(words, "not a plain image") {
		t.Errorf("a RAFS image as the source: got %q", words)
	}
}

// The bootstrap that is pushed names the blob also when the blob has a
// bootstrap in it, which can not.
func TestImageCreatePushInlined(t *testing.T) {
	src, work := smallTree(t), t.TempDir()
	out, _ := sluice(t, 0, nil, "sluice", "image", "create", src, "--blob-inline-meta", "--blob-toc", "-o", filepath.Join(work, "image"),
		"--layout", filepath.Join(work, "layout"), "--json")
	var res imageJSON
	if err := json.Unmarshal([]byte(out), &res); err != nil {
		t.Fatal(err)
	}
	blobs, _ := sluice(t, 0, nil, "sluice", "image", "inspect", res.Bootstrap, "-R", "blobs", "--json")
	if !strings.Contains(blobs, res.Blobs[0]) {
		t.Errorf("blobs of the bootstrap: got %s, want %s", blobs, res.Blobs[0])
	}
	checked, _ := sluice(t, 0, nil, "sluice", "image", "check", res.Bootstrap, "--json")
	if !strings.Contains(checked, `"verified": 2`) {
		t.Errorf("check: got %s, want two chunks verified", checked)
	}
	inBlob, _ := sluice(t, 0, nil, "sluice", "image", "check", filepath.Join(work, "image", res.Blobs[0]), "--json")
	if !strings.Contains(inBlob, `"verified": 2`) {
		t.Errorf("check of the blob: got %s, want two chunks verified", inBlob)
	}
}

func TestNydusImage(t *testing.T) {
	src, work := smallTree(t), t.TempDir()
	at := func(name string) string { return filepath.Join(work, name) }
	help, _ := sluice(t, 0, nil, "nydus-image", "create", "-h")
	for _, want := range []string{"--type", "tar-rafs", "--batch-size", "--blob-inline-meta"} {
		if !strings.Contains(help, want) {
			t.Errorf("help of create: no %s in it", want)
		}
	}
	sluice(t, 0, strings.NewReader("/bin\n"), "nydus-image", "create", "--log-level", "warn", "--bootstrap", at("boot"), "--blob-dir", work,
		"--prefetch-policy", "fs", "--fs-version", "6", "--chunk-size", "0x10000", "--output-json", at("out.json"), src)
	b, err := os.ReadFile(at("out.json"))
	if err != nil {
		t.Fatal(err)
	}
	var out nydusOutput
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	if len(out.Blobs) != 1 || out.Bootstrap != at("boot") || out.FsVersion != "6" || out.Compressor != "zstd" {
		t.Errorf("output: got %+v", out)
	}
	if _, err := os.Stat(at(out.Blobs[0])); err != nil {
		t.Error(err)
	}
	sluice(t, 0, nil, "nydus-image", "check", at("boot"), "--blob-dir", work, "-J", at("check.json"))
	sluice(t, 0, nil, "nydus-image", "stat", "--bootstrap", at("boot"), "-J", at("stat.json"))
	if got, _ := sluice(t, 0, nil, "nydus-image", "inspect", at("boot"), "-R", "prefetch"); !strings.Contains(got, "/bin") {
		t.Errorf("prefetch list: got %s, want /bin in it", got)
	}
	sluice(t, 0, strings.NewReader("/\n"), "nydus-image", "merge", "-B", at("merged"), "-P", "fs", "-J", at("merge.json"), at("boot"), at("boot"))
	sluice(t, 0, nil, "nydus-image", "export", "--block", "-B", at("boot"), "--output", at("disk"), "--verity")
	sluice(t, 0, nil, "nydus-image", "unpack", "--bootstrap", at("merged"), "--blob-dir", work, "--output", at("out.tar"))
	_, words := sluice(t, 2, nil, "nydus-image", "create", "--encrypt", "-B", at("x"), src)
	if !strings.Contains(words, "--encrypt is not supported") {
		t.Errorf("--encrypt: got %q", words)
	}
	for want, args := range map[string][]string{
		"targz-ref refers to any":     {"create", "-t", "estargz-ref", "-B", at("x"), src},
		"is not known: there are dir": {"create", "-t", "zip-rafs", "-B", at("x"), src},
		"any bootstrap is a dict":     {"chunkdict", "generate", "--bootstrap", at("x"), at("boot")},
	} {
		if _, words := sluice(t, 2, nil, "nydus-image", args...); !strings.Contains(words, want) {
			t.Errorf("%v: got %q, want %q in it", args, words, want)
		}
	}
}

// The log file gets the words beside standard error, and keeps what it has.
func TestNydusImageLogFile(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	for range 2 {
		_, words := sluice(t, exitFailed, nil, "nydus-image", "--log-file", log, "stat", "--bootstrap", filepath.Join(t.TempDir(), "absent"))
		if !strings.Contains(words, "absent") {
			t.Errorf("standard error: got %q, want the file's name in it", words)
		}
	}
	b, err := os.ReadFile(log)
	if got := strings.Count(string(b), "no such file"); err != nil || got != 2 {
		t.Errorf("log: got %q, %v; want two errors", b, err)
	}
}
