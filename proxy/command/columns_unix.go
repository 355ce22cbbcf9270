//go:build unix

package command

import (
	"os"

	"golang.org/x/sys/unix"
)

// columns is how wide a terminal is.
func columns(f *os.File) int {
	if f != nil {
		if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 {
			return int(size.Col)
		}
	}
	return 80
}
