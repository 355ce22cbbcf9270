package report

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/goccy/go-json"

	"nearside/bench/harness"
)

// Machine is what the harness ran on; what a server ran on only its own machine knows.
type Machine struct {
	CPU     string `json:"cpu,omitempty"`
	Cores   int    `json:"cores"`                        // that the system has
	Threads int    `json:"threads"`                      // that the harness may use at a time
	Memory  uint64 `json:"memory_bytes"`                 // 0 where it is not known
	Limit   uint64 `json:"memory_limit_bytes,omitempty"` // of a container
	OS      string `json:"os"`
	Kernel  string `json:"kernel,omitempty"`
	Arch    string `json:"arch"`
	Go      string `json:"go"`
}

// ThisMachine is the one that runs this.
func ThisMachine() Machine {
	m := Machine{Cores: runtime.NumCPU(), Threads: runtime.GOMAXPROCS(0), OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version()}
	m.look()
	return m
}

// String is a line for people.
func (m *Machine) String() string {
	var parts []string
	if m.CPU != "" {
		parts = append(parts, m.CPU)
	}
	cores := fmt.Sprintf("%d cores", m.Cores)
	if m.Threads != m.Cores {
		cores += fmt.Sprintf(" (%d used)", m.Threads)
	}
	parts = append(parts, cores)
	if m.Memory > 0 {
		memory := gib(m.Memory)
		if m.Limit > 0 && m.Limit < m.Memory {
			memory += " (" + gib(m.Limit) + " allowed)"
		}
		parts = append(parts, memory)
	}
	parts = append(parts, strings.TrimSpace(m.OS+" "+m.Arch))
	if m.Kernel != "" {
		parts = append(parts, "kernel "+m.Kernel)
	}
	return strings.Join(parts, ", ")
}

func gib(n uint64) string { return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30)) }

// behind is what follows the first line that begins so in a file of the system's.
func behind(path, begins string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	lines := bufio.NewScanner(io.LimitReader(f, 1<<20))
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), begins); ok {
			return strings.Trim(strings.TrimSpace(rest), `"`)
		}
	}
	return ""
}

// kilobytes reads "16384 kB".
func kilobytes(text string) uint64 {
	n, _ := strconv.ParseUint(strings.TrimSuffix(text, " kB"), 10, 64)
	return n << 10
}

// Digest is a SHA-256 over what was to be measured and what measured it: two reports
// with the same one asked the same, with the same binary. Where it was, when, and what
// came of it is not in it.
func Digest(p *harness.Plan) string {
	plan := struct {
		Targets, Source, Steps any
		Search, Goal           any
		Name                   string
		Rounds, Warmup         int
		Cool, Timeout          int64
		Seed                   uint64
	}{p.Targets, p.Source, p.Steps, p.Search, p.Goal, p.Source.Name(), p.Rounds, p.Warmup, p.Cool.Nanoseconds(), p.Timeout.Nanoseconds(), p.Seed}
	h := sha256.New()
	text, err := json.Marshal(plan)
	if err != nil { // a source that cannot be written is known by its name
		plan.Source = nil
		text, _ = json.Marshal(plan)
	}
	h.Write(text)
	if info, ok := debug.ReadBuildInfo(); ok {
		_, _ = io.WriteString(h, info.String())
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}
