//go:build !linux

package doctor

import "runtime"

// Look says that mounting needs Linux.
func Look(string) []Finding {
	return []Finding{{
		Check: "system", Status: Fail, Found: runtime.GOOS,
		Gives: "mounts", Help: "sluice mounts on Linux; images can be made and looked at here",
	}}
}
