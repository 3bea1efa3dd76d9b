package cli

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/sluicefs/sluice/internal/source"
	"github.com/sluicefs/sluice/storage/cache"
)

// pruner takes chunks and whole images out of a cache directory.
type pruner struct {
	cache     *cache.Cache
	converted func() ([]source.Converted, error)
}

// used is how many bytes chunks and images take on disk.
func (p *pruner) used() (int64, error) {
	n := p.cache.Used()
	whole, err := p.converted()
	for i := range whole {
		n += whole[i].Size
	}
	return n, err
}

// remove takes out what is named, and returns how many bytes that has freed.
func (p *pruner) remove(names []string) (int64, error) {
	whole, err := p.converted()
	if err != nil {
		return 0, err
	}
	before, freed := p.cache.Used(), int64(0)
	var blobs []string
	var errs []error
	for _, name := range names {
		i := slices.IndexFunc(whole, func(c source.Converted) bool { return c.Digest == name })
		switch {
		case i >= 0:
			if err := whole[i].Remove(); err != nil {
				errs = append(errs, err)
				continue
			}
			freed += whole[i].Size
		case isWhole(name):
			errs = append(errs, fmt.Errorf("image %s is not in the cache", name))
		default:
			blobs = append(blobs, name)
		}
	}
	if len(blobs) > 0 {
		errs = append(errs, p.cache.Remove(blobs...))
	}
	return freed + max(before-p.cache.Used(), 0), errors.Join(errs...)
}

// trim takes out what was not used for the longest time until no more than
// limit bytes are left.
func (p *pruner) trim(limit int64) (int64, error) {
	whole, err := p.converted()
	if err != nil {
		return 0, err
	}
	before, err := p.used()
	if err != nil {
		return 0, err
	}
	images := before - p.cache.Used()
	if _, err := p.cache.Trim(max(limit-images, 0)); err != nil {
		return 0, err
	}
	left := p.cache.Used() + images
	slices.SortFunc(whole, func(a, b source.Converted) int { return cmp.Compare(a.LastUse.Unix(), b.LastUse.Unix()) })
	for i := range whole {
		if left <= limit {
			break
		}
		if whole[i].InUse || whole[i].Remove() != nil {
			continue // a mount has it
		}
		left -= whole[i].Size
	}
	return max(before-left, 0), nil
}
