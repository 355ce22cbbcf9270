package report

import "golang.org/x/sys/unix"

func (m *Machine) look() {
	m.CPU, _ = unix.Sysctl("machdep.cpu.brand_string")
	m.Memory, _ = unix.SysctlUint64("hw.memsize")
	m.Kernel, _ = unix.Sysctl("kern.osrelease")
	if v, err := unix.Sysctl("kern.osproductversion"); err == nil {
		m.OS = "macOS " + v
	}
}
