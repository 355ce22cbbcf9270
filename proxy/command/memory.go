package command

import (
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
)

// cgroupShare is how much of a container's memory Go is told to stay within; the
// rest is for what it does not count, and for the moment before it collects.
const cgroupShare = 0.8

// limitMemory has Go keep within the memory that the process's cgroup may use,
// unless GOMEMLIMIT says something else. Where there is no bound it sets none.
func limitMemory(getenv func(string) string) {
	if getenv("GOMEMLIMIT") != "" {
		return // Go has read it
	}
	if n := cgroupBytes("/proc/self/cgroup", "/sys/fs/cgroup"); n > 0 {
		debug.SetMemoryLimit(int64(cgroupShare * float64(n)))
	}
}

// cgroupBytes returns the least memory.max from a process's cgroup up, or the
// limit of the older hierarchy; 0 for none.
func cgroupBytes(self, root string) int64 {
	text, err := os.ReadFile(self)
	if err != nil {
		return 0
	}
	least := int64(math.MaxInt64)
	see := func(file string) {
		text, err := os.ReadFile(file)
		if n, perr := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && perr == nil && n > 0 {
			least = min(least, n)
		}
	}
	for line := range strings.Lines(string(text)) {
		of, path, ok := strings.Cut(strings.TrimSpace(strings.TrimLeft(line, "0123456789")), ":")
		if !ok {
			continue
		}
		controllers, path, ok := strings.Cut(path, ":")
		if of != "" || !ok {
			continue
		}
		switch {
		case controllers == "":
			for path = filepath.Clean("/" + path); ; path = filepath.Dir(path) {
				see(filepath.Join(root, path, "memory.max"))
				if path == "/" {
					break
				}
			}
		case controllers == "memory":
			see(filepath.Join(root, "memory", path, "memory.limit_in_bytes"))
			see(filepath.Join(root, "memory", "memory.limit_in_bytes")) // as a container sees its own
		}
	}
	if least >= 1<<50 { // how the older hierarchy says none
		return 0
	}
	return least
}
