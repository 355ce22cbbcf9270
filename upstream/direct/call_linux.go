//go:build !race

package direct

import (
	"syscall"
	"unsafe"
)

// The calls of a half, each made once. No buffer is empty.

func read(fd uintptr, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	return int(n), errno
}

func write(fd uintptr, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	return int(n), errno
}

func writev(fd uintptr, pieces [][]byte) (int, syscall.Errno) {
	var vec [piecesMax]syscall.Iovec
	k := 0
	for _, p := range pieces {
		if len(p) > 0 {
			vec[k].Base = &p[0]
			vec[k].SetLen(len(p))
			k++
		}
	}
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&vec[0])), uintptr(k))
	return int(n), errno
}
