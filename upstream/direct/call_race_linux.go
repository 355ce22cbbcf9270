//go:build race

package direct

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// The calls of a half as the race detector sees them: what was written before comes
// before what is read after.

func read(fd uintptr, p []byte) (int, syscall.Errno) { return called(syscall.Read(int(fd), p)) }

func write(fd uintptr, p []byte) (int, syscall.Errno) { return called(syscall.Write(int(fd), p)) }

func writev(fd uintptr, pieces [][]byte) (int, syscall.Errno) {
	return called(unix.Writev(int(fd), pieces))
}

func called(n int, err error) (int, syscall.Errno) {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return 0, errno
	}
	return n, 0
}
