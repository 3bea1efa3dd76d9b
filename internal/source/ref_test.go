package source

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func TestParseFindsTheKind(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	archive := func(names ...string) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, n := range names {
			if err := w.WriteHeader(&tar.Header{Name: n, Mode: 0o600, Typeflag: tar.TypeReg}); err != nil {
				t.Fatal(err)
			}
		}
		w.Close()
		return b.Bytes()
	}
	layout := filepath.Dir(write("layout/oci-layout", nil))
	erofs := append(make([]byte, 1024), "\xe2\xe1\xf5\xe0............"...)
	for text, want := range map[string]Ref{
		"docker://host:5000/a/b:c":           {Kind: Registry, Name: "host:5000/a/b:c"},
		"python:3":                           {Kind: Registry, Name: "python:3"},
		"s3://bucket/prefix":                 {Kind: Object, Name: "s3://bucket/prefix"},
		"oss://bucket/prefix":                {Kind: OSS, Name: "oss://bucket/prefix"},
		"https://host/dir/":                  {Kind: HTTP, Name: "https://host/dir/"},
		dir:                                  {Kind: Directory, Name: dir},
		layout:                               {Kind: OCILayout, Name: layout},
		layout + ":tag":                      {Kind: OCILayout, Name: layout, Tag: "tag"},
		"oci:" + layout + ":v1":              {Kind: OCILayout, Name: layout, Tag: "v1"},
		write("a.boot", erofs):               {Kind: Bootstrap, Name: filepath.Join(dir, "a.boot")},
		write("z", []byte("PK\x03\x04....")): {Kind: Zip, Name: filepath.Join(dir, "z")},
		write("t", archive("etc/passwd")):    {Kind: Tar, Name: filepath.Join(dir, "t")},
		write("o", archive("oci-layout")):    {Kind: OCIArchive, Name: filepath.Join(dir, "o")},
	} {
		got, err := Parse(text, Auto)
		want.Text = text
		if err != nil || got != want {
			t.Errorf("%s:\n got %+v, %v\nwant %+v", text, got, err, want)
		}
	}
	for _, bad := range []string{"", "/none/there", "./none", "none.boot", "none.tar.gz", "s3://", "oci:" + dir + "/none", write("x", []byte("text"))} {
		if got, err := Parse(bad, Auto); err == nil {
			t.Errorf("%q was taken as %+v", bad, got)
		}
	}
	if _, err := Parse("docker://a/b", Zip); err == nil {
		t.Error("a registry reference was taken as a zip")
	}
	if got, err := Parse("https://user:secret@host/dir/", Auto); err != nil || strings.Contains(got.Text, "secret") {
		t.Errorf("password in %q, %v", got.Text, err)
	}
}

func TestParseShowsNoSecrets(t *testing.T) {
	for text, want := range map[string]string{
		"https://user:secret@host/dir/":                   "https://user:xxxxx@host/dir/",
		"https://host/dir/?X-Sig=secret&a=secret&a=2":     "https://host/dir/?X-Sig=xxxxx&a=xxxxx",
		"s3://bucket/prefix":                              "s3://bucket/prefix",
		"docker://repo@sha256:" + strings.Repeat("0", 64): "docker://repo@sha256:" + strings.Repeat("0", 64),
	} {
		if ref, err := Parse(text, Auto); err != nil || ref.Text != want || ref.String() != want {
			t.Errorf("%s: shown as %q, %v; want %q", text, ref.Text, err, want)
		}
	}
	for _, text := range []string{"docker://user:secret@host/repo:1", "user:secret@host/repo:1", "http://user:secret@[/", "https://host:x/?secret"} {
		if ref, err := Parse(text, Auto); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %+v, %v", text, ref, err)
		}
	}
	if _, err := Parse("https://user:secret@host/", Tar); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("of another type: %v", err)
	}
}

func TestAbsolute(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	if err := os.Mkdir("layout", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("layout/oci-layout", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"layout": dir + "/layout", "./layout:v1": dir + "/layout:v1", "oci:layout:v1": "oci:" + dir + "/layout:v1",
		"dir:.": "dir:" + dir, "python:3": "python:3", "docker://a/b:c": "docker://a/b:c", "none.boot": "none.boot", "s3://b/p": "s3://b/p",
	} {
		if got := Absolute(text); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

func TestArchiveReadsInPlace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.tar")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	for name, text := range map[string]string{"./index.json": "{}", "blobs/sha256/aa": "0123456789"} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(text)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	f.Close()
	a, err := openArchive(path)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	p := make([]byte, 4)
	if err := a.ReadAt(t.Context(), "aa", p, 3); err != nil || string(p) != "3456" {
		t.Errorf("range: %q, %v", p, err)
	}
	for _, off := range []int64{-1, 7, 1 << 62} {
		if err := a.ReadAt(t.Context(), "aa", p, off); err == nil {
			t.Errorf("4 bytes at %d of 10 were read", off)
		}
	}
	if b, err := a.ReadFile("index.json", 10); err != nil || string(b) != "{}" {
		t.Errorf("index: %q, %v", b, err)
	}
	if _, err := a.ReadFile("blobs/sha256/aa", 5); err == nil {
		t.Error("a file above the limit was read")
	}
}

func TestChooseAmongImages(t *testing.T) {
	amd, arm := &v1.Platform{OS: "linux", Architecture: "amd64"}, &v1.Platform{OS: "linux", Architecture: "arm64"}
	m := func(size int64, p *v1.Platform, tag string) v1.Descriptor {
		return v1.Descriptor{MediaType: "application/vnd.oci.image.manifest.v1+json", Size: size, Platform: p,
			Annotations: map[string]string{"org.opencontainers.image.ref.name": tag}}
	}
	idx := &v1.IndexManifest{Manifests: []v1.Descriptor{m(1, amd, "a"), m(2, arm, "a"), m(3, nil, "b")}}
	for _, c := range []struct {
		tag  string
		p    *v1.Platform
		want int64 // 0: an error
	}{{"a", amd, 1}, {"a", arm, 2}, {"b", amd, 3}, {"c", amd, 0}} {
		d, err := choose(idx, c.tag, *c.p)
		if (err != nil) != (c.want == 0) || d.Size != c.want {
			t.Errorf("tag %s on %s: got %d, %v, want %d", c.tag, c.p.Architecture, d.Size, err, c.want)
		}
	}
	if _, err := choose(&v1.IndexManifest{Manifests: []v1.Descriptor{m(1, nil, "a"), m(2, nil, "b")}}, "", *amd); err == nil {
		t.Error("one of two images was chosen without a tag")
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(`{"layers":[{"digest":"sha256:` + strings.Repeat("a", 64) + `","size":1,"annotations":{"containerd.io/snapshot/nydus-bootstrap":"true"}}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := describeBytes(v1.Hash{}, b, func(v1.Descriptor) ([]byte, error) { return nil, os.ErrNotExist })
		if err == nil && d == nil {
			t.Error("neither a description nor an error")
		}
	})
}
