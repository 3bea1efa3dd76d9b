package daemon

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mountOverlay mounts an overlay over its lower directory. The look-ups that
// this takes are answered by other threads of this process.
func mountOverlay(lower, upper, work string) error {
	for _, dir := range []string{upper, work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	data := "lowerdir=" + lower + ",upperdir=" + upper + ",workdir=" + work
	if len(data) >= os.Getpagesize() {
		return fmt.Errorf("options of %d bytes: at most %d", len(data), os.Getpagesize()-1)
	}
	return unix.Mount("sluice-overlay", lower, "overlay", 0, data)
}
