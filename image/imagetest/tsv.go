package imagetest

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// typeLetters are the letters of the file types, by mode >> 12.
var typeLetters = [16]byte{1: 'p', 2: 'c', 4: 'd', 6: 'b', 8: 'f', 10: 'l', 12: 's'}

// Header is the first line of a listing: the columns of [Line]. The mode is
// octal and without the type, the time is in seconds, an xattr is name=hex.
const Header = "path\ttype\tmode\tuid\tgid\tnlink\tsize\tmtime\trdev\tlink\tchunks\tsha256\txattrs"

// Line returns e as one line of a listing, with the number of chunks and the
// digest of the content as given.
func (e *Entry) Line(chunks, sum string) string {
	letter := typeLetters[e.Mode>>12&15]
	var xattrs []string
	for _, name := range slices.Sorted(maps.Keys(e.Xattrs)) {
		xattrs = append(xattrs, name+"="+hex.EncodeToString([]byte(e.Xattrs[name])))
	}
	return fmt.Sprintf("%s\t%c\t%o\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s", e.Path, letter, e.Mode&0o7777,
		e.UID, e.GID, e.Nlink, e.Size, e.MTime, e.Rdev, e.Link, chunks, sum, strings.Join(xattrs, ","))
}
