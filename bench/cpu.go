package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// cpu returns the time that all threads of a process have run. It is the sum of
// what the scheduler counted, in nanoseconds, where /proc/PID/stat has ticks.
func cpu(pid int) (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("process %d has no schedstat", pid)
	}
	var all time.Duration
	for _, f := range files {
		p, err := os.ReadFile(f)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the thread ended since the listing
		}
		if err != nil {
			return 0, err
		}
		d, err := parseSchedstat(p)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", f, err)
		}
		all += d
	}
	return all, nil
}

func canCount() bool {
	d, err := cpu(os.Getpid())
	return err == nil && d > 0
}

// parseSchedstat reads "<ns on a processor> <ns waiting for one> <time slices>".
func parseSchedstat(p []byte) (time.Duration, error) {
	f := bytes.Fields(p)
	if len(f) != 3 {
		return 0, fmt.Errorf("schedstat %q: want three numbers", p)
	}
	var first int64
	for i, w := range f {
		n, err := strconv.ParseInt(string(w), 10, 64)
		if err != nil || n < 0 {
			return 0, fmt.Errorf("schedstat %q: want three numbers", p)
		}
		if i == 0 {
			first = n
		}
	}
	return time.Duration(first), nil
}

// resident returns a process's memory in bytes (VmRSS).
func resident(pid int) (int64, error) {
	p, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	return parseResident(p)
}

// residents returns a process's memory in bytes, now and at its most (VmRSS, VmHWM).
func residents(pid int) (now, most int64, err error) {
	p, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	if now, err = parseResident(p); err == nil {
		most, err = parseStatus(p, "VmHWM:")
	}
	return now, most, err
}

func parseResident(status []byte) (int64, error) { return parseStatus(status, "VmRSS:") }

func parseStatus(status []byte, name string) (int64, error) {
	for line := range bytes.Lines(status) {
		rest, ok := bytes.CutPrefix(line, []byte(name))
		if !ok {
			continue
		}
		f := bytes.Fields(rest)
		if len(f) != 2 || string(f[1]) != "kB" {
			break
		}
		n, err := strconv.ParseInt(string(f[0]), 10, 64)
		if err != nil {
			break
		}
		return n << 10, nil
	}
	return 0, fmt.Errorf("no %s in the process's status", strings.TrimSuffix(name, ":"))
}
