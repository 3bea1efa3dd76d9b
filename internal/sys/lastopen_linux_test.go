package sys

import (
	"testing"
	"time"
)

// TestLastOpenListing lists a directory that does not change: by the cache,
// until many of its names are looked up after a listing.
func TestLastOpenListing(t *testing.T) {
	var o LastOpen
	expect := func(what string, wantCache, wantKeep bool) {
		t.Helper()
		if cache, keep := o.Listing(ctimeAt(time.Hour)); cache != wantCache || keep != wantKeep {
			t.Errorf("%s: cached %t, kept %t; want %t, %t", what, cache, keep, wantCache, wantKeep)
		}
	}
	expect("first listing", true, false)
	expect("second listing", true, true)
	for range manyLookups {
		o.Looked()
	}
	expect("after some look-ups", true, true)
	for range manyLookups + 1 {
		o.Looked()
	}
	for range asideAtATime {
		expect("after many look-ups", false, false)
	}
	expect("later", true, true)
}
