package command

import (
	"bufio"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// secretName is what variables are called whose values are secrets.
var secretName = regexp.MustCompile(`(?i)(KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL|AUTH)`)

// shownVariables are those whose names tell something: that they are set, not what
// they hold.
var shownVariables = regexp.MustCompile(`^(NEARSIDE_[A-Z_]{1,40}|OTEL_[A-Z_]{1,60}|[A-Za-z_]{0,10}(PROXY|proxy)|[A-Z]{1,20}_API_KEYS?|GOMAXPROCS|GOMEMLIMIT|GOGC|SSL_CERT_(FILE|DIR)|OLLAMA_[A-Z_]{1,40})$`)

// system adds facts of this machine, none of which name it or who uses it.
func (b *bundle) system(env *Env) {
	zone, offset := time.Now().Zone()
	v := map[string]any{"os": runtime.GOOS, "arch": runtime.GOARCH, "cpus": runtime.NumCPU(), "threads": runtime.GOMAXPROCS(0), "zone": zone, "zone_seconds": offset}
	// Linux tells in files; elsewhere these are not there.
	v["kernel"] = firstLine("/proc/sys/kernel/osrelease")
	v["load"] = firstLine("/proc/loadavg")
	v["cgroup_memory_max"] = firstLine("/sys/fs/cgroup/memory.max")
	v["cgroup_cpu_max"] = firstLine("/sys/fs/cgroup/cpu.max")
	v["distribution"] = strings.Trim(fieldOf("/etc/os-release", "PRETTY_NAME="), `"`)
	v["memory_total"] = strings.TrimSpace(fieldOf("/proc/meminfo", "MemTotal:"))
	v["memory_available"] = strings.TrimSpace(fieldOf("/proc/meminfo", "MemAvailable:"))
	v["swap_free"] = strings.TrimSpace(fieldOf("/proc/meminfo", "SwapFree:"))
	v["open_files"] = strings.Join(strings.Fields(fieldOf("/proc/self/limits", "Max open files")), " ")
	for _, mark := range []string{"/.dockerenv", "/run/.containerenv"} {
		if _, err := os.Stat(mark); err == nil {
			v["container"] = true
		}
	}
	set := []string{}
	if env.Environ != nil {
		for _, e := range env.Environ() {
			name, value, _ := strings.Cut(e, "=")
			if shownVariables.MatchString(name) {
				set = append(set, name)
			}
			if secretName.MatchString(name) && value != "" {
				b.hidden = append(b.hidden, value)
				b.hidden = append(b.hidden, strings.FieldsFunc(value, func(c rune) bool { return c == ',' || c == ';' || c == ' ' })...)
			}
		}
	}
	slices.Sort(set)
	v["variables_set"] = set
	b.addJSON("system.json", "this machine: system, memory, limits, names of variables", v)
}

// firstLine is the first line of a short file of the system's; empty without it.
func firstLine(path string) string { return fieldOf(path, "") }

// fieldOf is what follows the first line's beginning in a file of the system's.
func fieldOf(path, begins string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for range 200 {
		if !lines.Scan() {
			break
		}
		if rest, ok := strings.CutPrefix(lines.Text(), begins); ok {
			return rest
		}
	}
	return ""
}
