//go:build unix

package config

import (
	"io/fs"
	"os"
	"syscall"
)

// links returns how many names a file has.
func links(info fs.FileInfo) uint64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(s.Nlink)
	}
	return 1
}

// keepOwner gives a file the owner of another, as far as the system lets us:
// root that edits a service's file must not take it from the service.
func keepOwner(f *os.File, like string) {
	if info, err := os.Stat(like); err == nil {
		if s, ok := info.Sys().(*syscall.Stat_t); ok {
			_ = f.Chown(int(s.Uid), int(s.Gid)) // who may not keeps what it may write
		}
	}
}
