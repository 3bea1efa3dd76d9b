package cache

import (
	"fmt"
	"strconv"
	"strings"
)

// limitFile has the quota of a directory, in bytes, as text.
const limitFile = "limit"

// Limit returns the quota that the directory has been given, 0 for none.
// It holds for all who open the cache without one of their own.
func (c *Cache) Limit() (int64, error) {
	if c.dir == nil {
		return 0, errNoDir
	}
	f, err := c.dir.Open(limitFile, false)
	if missing(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	b := make([]byte, 32)
	n, _ := f.ReadAt(b, 0)
	v, err := strconv.ParseInt(strings.TrimSpace(string(b[:n])), 10, 64)
	if err != nil || v < 0 {
		return 0, fmt.Errorf("cache: file %s is not a number of bytes", limitFile)
	}
	return v, nil
}

// SetLimit gives the directory a quota, 0 being none. Processes that have it
// open take it up at their next sync.
func (c *Cache) SetLimit(bytes int64) error {
	if c.dir == nil {
		return errNoDir
	}
	f, err := c.dir.Open(limitFile, true)
	if err != nil {
		return err
	}
	defer f.Close()
	text := fmt.Sprintf("%-20d\n", max(bytes, 0)) // of one length: written in one go
	if _, err := f.WriteAt([]byte(text), 0); err != nil {
		return err
	}
	c.readLimit()
	return f.Sync()
}

// readLimit takes up the quota of the options, or else of the directory.
func (c *Cache) readLimit() {
	q := c.o.Quota
	if q <= 0 && c.dir != nil {
		v, err := c.Limit()
		if err != nil {
			c.log.Warn("cache: limit", "error", err)
		}
		q = v
	}
	c.quota.Store(q)
}
