package image

import (
	"strconv"
	"strings"
	"unicode"
)

// OneLine returns the path for a message of one line: quoted if it has
// characters that would end the line or move about in it, as names of an image
// may have.
func OneLine(path string) string {
	if strings.ContainsFunc(path, unicode.IsControl) {
		return strconv.Quote(path)
	}
	return path
}
