package passthrough

import (
	"fmt"
	"log/slog"
	"time"
)

// Cache says what the kernel may keep of a directory.
type Cache string

const (
	// CacheAuto, which "" means as well, lets it keep names and attributes
	// for a second, data from one open to the last close, and longer, as it
	// does listings, if a local file system says that nothing has changed.
	CacheAuto Cache = "auto"
	// CacheNone has it ask each time. For directories that others change.
	CacheNone Cache = "none"
	// CacheAlways lets it keep all for good. For directories that nobody
	// else changes.
	CacheAlways Cache = "always"
)

// timeout is how long names and attributes may be kept.
func (c Cache) timeout() time.Duration {
	switch c {
	case CacheNone:
		return 0
	case CacheAlways:
		return 365 * 24 * time.Hour
	}
	return time.Second
}

// Check reports whether c is one of those above.
func (c Cache) Check() error {
	switch c {
	case "", CacheAuto, CacheNone, CacheAlways:
		return nil
	}
	return fmt.Errorf("cache policy %q is unknown: auto, none or always", string(c))
}

// Options of a file system. The zero value is a good default, except that
// without a Table a successor cannot go on.
type Options struct {
	// Table is the path of the file for the nodes, which must not exist: it
	// is made, and removed at the end. It should be on a tmpfs, as /run is.
	Table string

	Cache Cache

	// NoPassthrough keeps the kernel from reading and writing files by
	// itself, which it otherwise does where it can.
	NoPassthrough bool

	// UIDs and GIDs map owners; without any they are as they are.
	UIDs, GIDs IDMap

	Log *slog.Logger // nil is slog.Default()
}
