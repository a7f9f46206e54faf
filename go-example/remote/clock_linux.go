package remote

import (
	"syscall"
	"time"
	"unsafe"
)

// now is the time since the machine started, the time that it was suspended included: leases go on then.
func now() time.Duration {
	const boottime = 7
	var at syscall.Timespec
	if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, boottime, uintptr(unsafe.Pointer(&at)), 0); errno != 0 {
		return time.Since(began)
	}
	return time.Duration(at.Nano())
}

var began = time.Now()
