package cache

import "errors"

// Pin keeps the blob with that file name from being evicted, also after this
// process has ended, until Unpin.
func (c *Cache) Pin(name string) error {
	if c.dir == nil {
		return errNoDir
	}
	f, err := c.dir.Open(name+endPin, true)
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), c.dir.Sync())
}

// Unpin lets a blob be evicted again.
func (c *Cache) Unpin(name string) error {
	if c.dir == nil {
		return errNoDir
	}
	if err := c.dir.Remove(name + endPin); err != nil && !missing(err) {
		return err
	}
	return c.dir.Sync()
}

// Pinned reports whether a blob is pinned.
func (c *Cache) Pinned(name string) bool {
	f, err := c.dir.Open(name+endPin, false)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

var errNoDir = errors.New("cache: without a directory nothing is kept")
