//go:build unix

package command

import (
	"math"
	"syscall"
)

// descriptors returns how many files the process may have open; 0 for no bound.
// Go has raised it to what it may be raised to.
func descriptors() int {
	var r syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) != nil || uint64(r.Cur) > math.MaxInt32 { //nolint:unconvert // signed on some systems
		return 0
	}
	return int(r.Cur)
}
