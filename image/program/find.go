package program

import (
	"debug/elf"
	"path"
	"strings"

	"github.com/sluicefs/sluice/image"
)

// triplets are the names of directories of libraries where several
// architectures live beside each other, as in Debian.
var triplets = map[elf.Machine]string{
	elf.EM_X86_64:  "x86_64-linux-gnu",
	elf.EM_AARCH64: "aarch64-linux-gnu",
	elf.EM_RISCV:   "riscv64-linux-gnu",
}

// dirs are where loaders look by default.
var dirs = []string{"/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib"}

// loaderCache is what the loader of glibc reads before anything else.
const loaderCache = "/etc/ld.so.cache"

// loaders are where the loaders of dynamic programs are by convention.
var loaders = []string{
	"/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1", "/lib/ld-linux-riscv64-lp64d.so.1",
	"/lib/ld-musl-x86_64.so.1", "/lib/ld-musl-aarch64.so.1", "/lib/ld-musl-riscv64.so.1",
}

// Loader returns the regular files that starting whatever dynamic program of
// the image will read, before anything is known of it: the loader, of several
// the first, and its cache. There are none in an image of static programs.
func Loader(t image.Tree) (out []uint64) {
	for _, p := range loaders {
		if nid, ok := Follow(t, p); ok {
			out = append(out, nid)
			break
		}
	}
	if nid, ok := Follow(t, loaderCache); ok && len(out) > 0 {
		out = append(out, nid)
	}
	return out
}

// Files returns the regular files of the image that n means, the interpreter
// first, those that are not found left out.
func (n *Needs) Files(t image.Tree) []uint64 {
	var out []uint64
	add := func(p string) bool {
		nid, ok := Follow(t, p)
		if ok {
			out = append(out, nid)
		}
		return ok
	}
	if n.Interpreter != "" {
		add(n.Interpreter)
	}
	if len(n.Libraries) > 0 && n.Interpreter != "" {
		add(loaderCache)
	}
	for _, lib := range n.Libraries {
		if strings.Contains(lib, "/") {
			add(lib)
			continue
		}
		for _, p := range places(n.Machine, lib) {
			if add(p) {
				break
			}
		}
	}
	return out
}

func places(m elf.Machine, lib string) (out []string) {
	if triplet := triplets[m]; triplet != "" {
		out = append(out, path.Join("/usr/lib", triplet, lib), path.Join("/lib", triplet, lib))
	}
	for _, d := range dirs {
		out = append(out, path.Join(d, lib))
	}
	return out
}

// Find returns the file of a command, which is looked up in the PATH of env
// unless it is a path itself.
func Find(t image.Tree, command string, env []string) (nid uint64, ok bool) {
	if strings.Contains(command, "/") {
		return Follow(t, command)
	}
	for _, e := range env {
		dirs, isPath := strings.CutPrefix(e, "PATH=")
		if !isPath {
			continue
		}
		for dir := range strings.SplitSeq(dirs, ":") {
			if nid, ok := Follow(t, path.Join("/", dir, command)); ok {
				return nid, true
			}
		}
	}
	return 0, false
}

// maxLinks is how many symbolic links a path may lead through, as in Linux.
const maxLinks = 40

// Follow returns the regular file at an absolute path of the image, through
// symbolic links.
func Follow(t image.Tree, p string) (nid uint64, ok bool) {
	var in image.Inode
	at := "/" // the directory that has been come to, without links
	rest := p
	for links := 0; ; {
		var name string
		name, rest, _ = strings.Cut(strings.TrimLeft(rest, "/"), "/")
		next := path.Join(at, name)
		nid, err := image.Find(t, next)
		if err != nil || t.Stat(nid, &in) != nil {
			return 0, false
		}
		switch in.Mode & image.TypeMask {
		case image.TypeSymlink:
			target, err := t.Readlink(nid)
			if links++; err != nil || links > maxLinks || len(target) == 0 {
				return 0, false
			}
			if target[0] == '/' {
				at = "/"
			}
			rest = string(target) + "/" + rest
		case image.TypeDirectory:
			if at = next; strings.Trim(rest, "/") == "" {
				return 0, false
			}
		default:
			return nid, in.Mode&image.TypeMask == image.TypeRegular && strings.Trim(rest, "/") == ""
		}
	}
}
