//go:build unix

package harness

import (
	"syscall"
	"time"
)

// cpu is the processor time that this process has used; 0 where the system does not say.
func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
