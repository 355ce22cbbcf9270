package upstream

import (
	"syscall"
	"unsafe"
)

// isSilent says whether a read of a socket would have to wait. It takes nothing away,
// and never waits itself, so that the scheduler need not know of the call.
func isSilent(fd uintptr) bool {
	var p [1]byte
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&p)), 1, syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
	return errno == syscall.EAGAIN || errno == syscall.EINTR
}
