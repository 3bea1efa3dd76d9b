//go:build !linux

package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
)

var errLinux = fmt.Errorf("the daemon needs Linux: %w", errors.ErrUnsupported)

func lockFile(string) (*os.File, error)          { return nil, errLinux }
func umask(int) (restore func())                 { return func() {} }
func peerUID(*net.UnixConn) (uid int, err error) { return 0, errLinux }
func closeFDs([]int)                             {}
