package daemon

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/sluicefs/sluice/internal/mounts"
	"github.com/sluicefs/sluice/vfs"
)

// overlay mounts the kernel's overlay over i, if it is to have one.
func (d *Daemon) overlay(ctx context.Context, i *instance) error {
	o := i.spec.Overlay
	if o == nil {
		return nil
	}
	if d.State() != Running {
		return fmt.Errorf("overlay %s: the daemon is not running yet", i.spec.Path)
	}
	lower := filepath.Join(d.mountpoint(), i.spec.Path)
	for _, p := range []string{lower, o.Upper, o.Work} {
		if strings.ContainsAny(p, ",:\\") {
			return fmt.Errorf("overlay %s: a path must have no comma, colon or backslash", p)
		}
	}
	// When the kernel drops the name, as it is told when something is attached,
	// it takes away what is mounted there.
	if err := d.Server().Notifier().Flush(ctx); err != nil {
		return fmt.Errorf("overlay %s: %w", i.spec.Path, err)
	}
	if err := mountOverlay(lower, o.Upper, o.Work); err != nil {
		return fmt.Errorf("overlay %s: %w", i.spec.Path, err)
	}
	return nil
}

func (d *Daemon) dropOverlay(i *instance, how vfs.How) error {
	if i.spec.Overlay == nil || d.State() != Running {
		return nil
	}
	where := filepath.Join(d.mountpoint(), i.spec.Path)
	if err := mounts.Detach(where, how == vfs.Lazy); err != nil {
		return fmt.Errorf("unmount overlay: %w", err)
	}
	return nil
}
