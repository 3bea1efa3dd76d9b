// Package source turns what a user types as the source of a mount into what
// can be mounted: a directory, an archive, or an image with the store that
// its bytes come from.
//
// [Parse] only looks at the text and at the local disk; [OpenImage] goes out
// and fetches what describes an image, never its data.
package source

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Kind is a kind of source.
type Kind string

// The kinds. Their text is what --type takes.
const (
	Auto       Kind = "auto"        // find out
	Registry   Kind = "registry"    // an image in an OCI registry
	OCILayout  Kind = "oci"         // an image in an OCI layout directory
	OCIArchive Kind = "oci-archive" // the same in a tar file
	Bootstrap  Kind = "bootstrap"   // a bootstrap file, its blobs in a directory
	Object     Kind = "s3"          // an object store with the S3 interface
	OSS        Kind = "oss"         // Alibaba's object store
	HTTP       Kind = "http"        // bootstrap and blobs in an HTTP directory
	Disk       Kind = "disk"        // bootstrap and blobs in the partitions of a disk, or of a file like one
	Directory  Kind = "dir"         // a local directory
	Zip        Kind = "zip"         // a zip archive
	Tar        Kind = "tar"         // a tar archive, compressed or not
)

// Kinds are all that --type takes.
var Kinds = []Kind{Auto, Registry, OCILayout, OCIArchive, Bootstrap, Object, OSS, HTTP, Disk, Directory, Zip, Tar}

// Image reports whether the kind is an image that is fetched on demand.
func (k Kind) Image() bool {
	return slices.Contains([]Kind{Registry, OCILayout, OCIArchive, Bootstrap, Object, OSS, HTTP, Disk}, k)
}

// Ref is a parsed source.
type Ref struct {
	Kind Kind
	Text string // as the user gave it, without what may be secret in a URL
	// Name is the image reference of a Registry, the path of what lies on
	// the local disk, and the URL of the rest.
	Name string
	Tag  string // of an image in an OCI layout, "" for the only one
}

// String returns the source as the user gave it, without secrets.
func (r Ref) String() string { return r.Text }

// schemes are the prefixes that say the kind.
var schemes = []struct {
	prefix string
	kind   Kind
}{
	{"docker://", Registry}, {"registry://", Registry}, {"oci-archive:", OCIArchive}, {"oci:", OCILayout},
	{"s3://", Object}, {"oss://", OSS}, {"http://", HTTP}, {"https://", HTTP},
	{"bootstrap:", Bootstrap}, {"disk:", Disk}, {"dir:", Directory}, {"zip:", Zip}, {"tar:", Tar},
}

// Parse finds out what text means. A forced kind other than Auto is taken
// for granted. What is on the local disk wins over an image of the same name
// in a registry.
func Parse(text string, forced Kind) (Ref, error) {
	if text == "" {
		return Ref{}, errors.New("source is empty")
	}
	if forced != "" && !slices.Contains(Kinds, forced) {
		return Ref{}, fmt.Errorf("type %q is unknown: one of %s", forced, joinKinds())
	}
	ref := Ref{Kind: forced, Text: text, Name: text}
	for _, s := range schemes {
		rest, ok := strings.CutPrefix(text, s.prefix)
		if !ok || rest == "" {
			continue
		}
		if forced != "" && forced != Auto && forced != s.kind {
			return Ref{}, fmt.Errorf("%s is of type %s, not %s", redact(text), s.kind, forced)
		}
		ref.Kind = s.kind
		if s.kind != HTTP && s.kind != Object && s.kind != OSS {
			ref.Name = rest
		}
		break
	}
	if ref.Kind == "" || ref.Kind == Auto {
		kind, err := detectKind(text)
		if err != nil {
			return Ref{}, err
		}
		ref.Kind = kind
	}
	switch ref.Kind {
	case OCILayout, OCIArchive:
		ref.Name, ref.Tag = splitTag(ref.Name)
	case HTTP, Object, OSS:
		u, err := url.Parse(ref.Name)
		if err != nil || u.Host == "" {
			return Ref{}, fmt.Errorf("%s: not a URL of a host and a path", redact(text))
		}
		ref.Text = redactURL(u)
	case Registry:
		if host, _, ok := strings.Cut(ref.Name, "/"); ok && strings.Contains(host, "@") {
			return Ref{}, fmt.Errorf("%s: an image reference has no user and password: they are in the configuration of docker (docker login), or come from a credential helper", redact(text))
		}
	}
	if !ref.Kind.Image() || ref.Kind == OCILayout || ref.Kind == OCIArchive || ref.Kind == Bootstrap || ref.Kind == Disk {
		if _, err := os.Stat(ref.Name); err != nil {
			return Ref{}, err
		}
		abs, err := filepath.Abs(ref.Name)
		if err != nil {
			return Ref{}, err
		}
		ref.Name = abs
	}
	return ref, nil
}

// Absolute returns text with the path in it, if it names something on the
// local disk, made absolute: for a process with another working directory.
func Absolute(text string) string {
	ref, err := Parse(text, Auto)
	if err != nil || !filepath.IsAbs(ref.Name) {
		return text
	}
	prefix := ""
	for _, s := range schemes {
		if strings.HasPrefix(text, s.prefix) {
			prefix = s.prefix
			break
		}
	}
	if ref.Tag != "" {
		return prefix + ref.Name + ":" + ref.Tag
	}
	return prefix + ref.Name
}

func joinKinds() string {
	names := make([]string, len(Kinds))
	for i, k := range Kinds {
		names[i] = string(k)
	}
	return strings.Join(names, ", ")
}

// redactURL is u without its password and the values of its query: URLs that
// are signed have the signature there.
func redactURL(u *url.URL) string {
	shown := *u
	if shown.RawQuery != "" {
		var names []string
		for name := range shown.Query() {
			names = append(names, url.QueryEscape(name)+"=xxxxx")
		}
		slices.Sort(names)
		shown.RawQuery = strings.Join(names, "&")
	}
	return shown.Redacted()
}

// redact takes a password out of something that did not parse as a URL.
func redact(s string) string {
	s, query, _ := strings.Cut(s, "?")
	if query != "" {
		s += "?…"
	}
	if i := strings.LastIndex(s, "@"); i >= 0 && strings.Contains(s[i:], "/") {
		return "…" + s[i:]
	}
	return s
}

// splitTag splits "path:tag"; a path that exists as a whole has no tag.
func splitTag(s string) (path, tag string) {
	if _, err := os.Stat(s); err == nil {
		return s, ""
	}
	if i := strings.LastIndexByte(s, ':'); i > 0 && !strings.Contains(s[i:], "/") {
		return s[:i], s[i+1:]
	}
	return s, ""
}

// detectKind finds the kind of a source that does not say it.
func detectKind(text string) (Kind, error) {
	fi, err := os.Stat(text)
	switch {
	case err == nil && fi.IsDir():
		if _, err := os.Stat(filepath.Join(text, "oci-layout")); err == nil {
			return OCILayout, nil
		}
		return Directory, nil
	case err == nil:
		return detectFile(text)
	}
	if path, tag := splitTag(text); tag != "" {
		if _, err := os.Stat(filepath.Join(path, "oci-layout")); err == nil {
			return OCILayout, nil
		}
	}
	if looksLikePath(text) {
		return "", err
	}
	return Registry, nil
}

// looksLikePath reports whether text, which names nothing on the local disk,
// was meant to: then the error is about the file, not about a registry.
func looksLikePath(text string) bool {
	for _, prefix := range []string{"/", "./", "../", "~"} {
		if strings.HasPrefix(text, prefix) {
			return true
		}
	}
	for _, suffix := range []string{"/", ".boot", ".bootstrap", ".erofs", ".zip", ".tar", ".tgz", ".gz", ".zst"} {
		if strings.HasSuffix(text, suffix) {
			return true
		}
	}
	return text == "." || text == ".."
}

// magics are what files begin with.
var magics = []struct {
	offset int
	bytes  string
	kind   Kind
}{
	{0, "PK\x03\x04", Zip}, {0, "PK\x05\x06", Zip},
	{257, "ustar", Tar}, {0, "\x1f\x8b", Tar}, {0, "\x28\xb5\x2f\xfd", Tar},
	{1024, "\xe2\xe1\xf5\xe0", Bootstrap},             // EROFS, and so RAFS v6
	{0, "SFAR", Bootstrap},                            // RAFS v5
	{512, "EFI PART", Disk}, {4096, "EFI PART", Disk}, // GUID partition table, by size of sectors
}

// detectFile looks at what a file begins with.
func detectFile(path string) (Kind, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	head := make([]byte, 8192)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	head = head[:n]
	for _, m := range magics {
		if len(head) < m.offset || !bytes.HasPrefix(head[m.offset:], []byte(m.bytes)) {
			continue
		}
		if m.kind == Tar && m.offset > 0 && isOCIArchive(path) {
			return OCIArchive, nil
		}
		return m.kind, nil
	}
	return "", fmt.Errorf("%s: neither an image bootstrap nor a zip or tar archive (--type says otherwise)", path)
}
