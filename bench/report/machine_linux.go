package report

import (
	"os"
	"strconv"
	"strings"
)

func (m *Machine) look() {
	for _, name := range []string{"model name", "Model", "Hardware", "cpu model"} { // as the architectures call it
		if _, v, ok := strings.Cut(behind("/proc/cpuinfo", name), ":"); ok {
			m.CPU = strings.Join(strings.Fields(v), " ")
			break
		}
	}
	m.Memory = kilobytes(behind("/proc/meminfo", "MemTotal:"))
	if p, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		m.Limit, _ = strconv.ParseUint(strings.TrimSpace(string(p)), 10, 64) // "max" is none
	}
	if name := behind("/etc/os-release", "PRETTY_NAME="); name != "" {
		m.OS = name
	}
	m.Kernel = behind("/proc/sys/kernel/osrelease", "")
}
