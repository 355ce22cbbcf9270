//go:build !windows

package store

import (
	"errors"
	"os"
	"syscall"
)

// lock keeps other processes, and other Stores of this one, from opening the
// same file. The lock lies beside it: closing any descriptor of the database
// itself would drop SQLite's own locks. The system releases it when we die.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrInUse
		}
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}
