package cli

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The data of such an image stays in the archive; both faces write the same.
func TestImageOfTargzRef(t *testing.T) {
	work := t.TempDir()
	at := func(name string) string { return filepath.Join(work, name) }
	sluice(t, 0, nil, "sluice", "image", "create", smallTree(t), "-o", at("normal"), "-q")
	sluice(t, 0, nil, "sluice", "image", "unpack", at("normal/image.boot"), "--tar", at("source.tar"))
	tarred, err := os.ReadFile(at("source.tar"))
	if err != nil {
		t.Fatal(err)
	}
	var gz bytes.Buffer
	z := gzip.NewWriter(&gz)
	z.Write(tarred)
	z.Close()
	if err := os.WriteFile(at("layer.tar.gz"), gz.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}

	out, _ := sluice(t, 0, nil, "sluice", "image", "create", "--type", "targz-ref", at("layer.tar.gz"), "-o", at("ref"), "-q", "--json")
	var res imageJSON
	if err := json.Unmarshal([]byte(out), &res); err != nil || res.Archive == "" || len(res.Blobs) != 1 || res.Blobs[0] != res.Archive {
		t.Fatalf("got %s, %v", out, err)
	}
	if err := os.Rename(at("layer.tar.gz"), filepath.Join(at("ref"), res.Archive)); err != nil {
		t.Fatal(err)
	}
	boot := filepath.Join(at("ref"), bootstrapName)
	sluice(t, 0, nil, "sluice", "image", "check", boot)
	sluice(t, 0, nil, "sluice", "image", "unpack", boot, "--tar", at("again.tar"))
	if again, err := os.ReadFile(at("again.tar")); err != nil || !bytes.Equal(again, tarred) {
		t.Errorf("unpacked: got %d bytes, %v; want the %d bytes of the source", len(again), err, len(tarred))
	}

	archive := filepath.Join(at("ref"), res.Archive)
	sluice(t, 0, nil, "nydus-image", "create", "-t", "targz-ref", "-B", at("boot"), "-D", work, "-J", at("create.json"), archive)
	report, err := os.ReadFile(at("create.json"))
	if err != nil || !strings.Contains(string(report), res.Archive) || !strings.Contains(string(report), `"gzip"`) {
		t.Errorf("report: got %s, %v", report, err)
	}
	a, err1 := os.ReadFile(boot)
	b, err2 := os.ReadFile(at("boot"))
	if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
		t.Errorf("bootstraps of sluice and nydus-image differ: %v, %v", err1, err2)
	}
	if _, words := sluice(t, 2, nil, "sluice", "image", "create", "--type", "targz-ref", archive, "--layout", at("oci")); !strings.Contains(words, "not supported with --type targz-ref") {
		t.Errorf("--layout: got %q", words)
	}
}
