package command

import (
	"bytes"
	"os"
	"runtime/debug"
	"strconv"

	"golang.org/x/sys/unix"
)

// trim gives back the memory that only the start needed: what the collector has free,
// and the pages of the program itself that were looked at once. What of the latter is
// needed again is taken from the system's cache, 64 KiB at a time. Nothing depends on
// it: where something is not as it should be, it is left as it is.
func trim() {
	debug.FreeOSMemory()
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return
	}
	for _, m := range programPages(maps, exe) {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.start, m.size, unix.MADV_DONTNEED)
	}
}

// pages are a part of the process's memory.
type pages struct{ start, size uintptr }

// programPages returns the parts of a process that are the file exe to the byte: mapped
// without the right to write, and with no page that is the process's own.
func programPages(smaps []byte, exe string) []pages {
	var all []pages
	var at pages
	for line := range bytes.Lines(smaps) {
		f := bytes.Fields(line)
		switch {
		case len(f) == 3 && string(f[0]) == "Anonymous:":
			if at.size > 0 && string(f[1]) == "0" {
				all = append(all, at)
			}
			at = pages{}
		case len(f) >= 5 && bytes.IndexByte(f[0], '-') > 0: // the head of a mapping
			at = pages{}
			from, to, _ := bytes.Cut(f[0], []byte("-"))
			start, err1 := strconv.ParseUint(string(from), 16, 64)
			end, err2 := strconv.ParseUint(string(to), 16, 64)
			if len(f) == 6 && string(f[5]) == exe && (string(f[1]) == "r-xp" || string(f[1]) == "r--p") && err1 == nil && err2 == nil && end > start {
				at = pages{uintptr(start), uintptr(end - start)}
			}
		}
	}
	return all
}
