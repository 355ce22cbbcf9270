package bench

import (
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"
)

// Report is what a run measured.
type Report struct {
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	Machine Machine   `json:"machine"`
	Rounds  int       `json:"rounds"`
	Quick   bool      `json:"quick"`
	Stopped bool      `json:"stopped,omitempty"` // before all rounds were done
	Figures []Figure  `json:"figures"`

	Config string   `json:"config,omitempty"`  // what the proxy was configured with; empty for its defaults
	Others []string `json:"against,omitempty"` // the other proxies
	Added  []Added  `json:"added"`
	Memory []Memory `json:"memory"`
}

// Machine is where it was measured.
type Machine struct {
	CPUs   int    `json:"cpus"`
	Model  string `json:"model"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
	OS     string `json:"os"`
	Load   string `json:"load"` // averages of 1, 5 and 15 minutes before the run
}

// Figure is one line of the report.
type Figure struct {
	Name    string             `json:"name"`
	Bare    *spread            `json:"bare"` // nil where some round had none
	Ours    *spread            `json:"nearside"`
	Ratio   *spread            `json:"ratio"`
	Others  map[string]*spread `json:"others,omitempty"`
	First   string             `json:"firstAcceptable"`
	Goal    string             `json:"goal"`
	Verdict string             `json:"verdict"` // goal, acceptable, unclear or exceeded; – where nothing was promised
}

// Verdicts. A budget is met when the interval's upper end is, and broken when
// its lower end is not; between the two more rounds are needed.
const (
	VerdictGoal     = "goal"
	VerdictFirst    = "acceptable"
	VerdictUnclear  = "unclear"
	VerdictExceeded = "exceeded"
	VerdictNone     = "–" // nothing was promised
)

func (r *runner) report(started time.Time) *Report {
	out := &Report{Version: r.opt.Version, Started: started.UTC().Truncate(time.Second), Seconds: math.Round(time.Since(started).Seconds()),
		Machine: r.machine, Rounds: r.opt.Rounds, Quick: r.opt.Quick}
	for _, b := range budgets {
		out.Figures = append(out.Figures, figure(b, r.samples[b.figure]))
	}
	out.Config, out.Stopped = r.opt.Config, r.stopped
	for _, p := range r.others {
		out.Others = append(out.Others, p.name)
	}
	out.Added = r.addedRows()
	for _, p := range append([]*peer{r.bare, r.ours}, r.others...) {
		if len(p.memory) > 0 {
			out.Memory = append(out.Memory, memoryOf(p))
		}
	}
	return out
}

// figure makes one line of the samples of all rounds. The ratio is taken within
// each round: what the machine did in it is in both.
func figure(b budget, all []sample) Figure {
	var bare, ours, ratio []float64
	for _, s := range all {
		bare, ours = append(bare, s.bare), append(ours, s.ours)
		if s.bare > 0 { // an added delay can drown in noise
			ratio = append(ratio, s.ours/s.bare)
		}
	}
	if len(ratio) < len(bare) {
		ratio = nil
	}
	f := Figure{Name: b.figure, First: b.first.String(), Goal: b.goal.String(), Bare: finite(bare), Ours: finite(ours), Ratio: finite(ratio)}
	if f.Bare == nil {
		f.Ratio = nil
	}
	others := map[string][]float64{}
	for _, s := range all {
		for name, v := range s.others {
			others[name] = append(others[name], v)
		}
	}
	for name, values := range others {
		if f.Others == nil {
			f.Others = map[string]*spread{}
		}
		f.Others[name] = finite(values)
	}
	f.Verdict = verdict(b, f)
	return f
}

func finite(all []float64) *spread {
	if len(all) == 0 {
		return nil
	}
	s := spreadOf(all)
	if math.IsInf(s.Max, 0) || math.IsNaN(s.Max) {
		return nil
	}
	return &s
}

func verdict(b budget, f Figure) string {
	of := func(l bound) *spread {
		if l.ratio {
			return f.Ratio
		}
		return f.Ours
	}
	switch s := of(b.first); {
	case b.first.text != "":
		return VerdictNone
	case s == nil || s.Low > b.first.limit:
		return VerdictExceeded
	case s.High > b.first.limit:
		return VerdictUnclear
	}
	if s := of(b.goal); b.goal.text == "" && s != nil && s.High <= b.goal.limit {
		return VerdictGoal
	}
	return VerdictFirst
}

// Exceeded returns the names of the figures that are beyond what is acceptable.
func (r *Report) Exceeded() []string {
	var all []string
	for _, f := range r.Figures {
		if f.Verdict == VerdictExceeded {
			all = append(all, f.Name)
		}
	}
	return all
}

// Write prints the report for people, in at most 100 columns.
func (r *Report) Write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "nearside %s, %s\n", r.Version, r.Started.Format("2006-01-02 15:04 UTC"))
	fmt.Fprintf(&b, "%d CPUs %s, %s %s, %s; loopback\n", r.Machine.CPUs, r.Machine.Model, r.Machine.OS, r.Machine.Kernel, r.Machine.Go)
	fmt.Fprintf(&b, "%d rounds in %.0f s", r.Rounds, r.Seconds)
	if r.Machine.Load != "" {
		fmt.Fprintf(&b, "; load before: %s", r.Machine.Load)
	}
	if r.Quick {
		b.WriteString("; --quick: too short to be believed")
	}
	if r.Stopped {
		b.WriteString("; stopped early")
	}
	if r.Config != "" {
		b.WriteString("; nearside with " + r.Config)
	}
	b.WriteString("\n\n")
	rows := [][]string{{"median [min–max] of rounds", "bare", "nearside", "ratio", "first", "goal", "verdict"}}
	for _, f := range r.Figures {
		rows = append(rows, []string{f.Name, number(f.Bare, false), number(f.Ours, true), number(f.Ratio, true), f.First, f.Goal, f.Verdict})
	}
	columns(&b, rows)
	fmt.Fprintf(&b, "\nRatios are taken within each round. –: not seen at the backend, or nothing to divide by.\n")
	r.writeOthers(&b)
	r.writeAdded(&b)
	r.writeMemory(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

func number(s *spread, span bool) string {
	if s == nil {
		return "–"
	}
	if !span {
		return digits(s.Median)
	}
	return fmt.Sprintf("%s [%s–%s]", digits(s.Median), digits(s.Min), digits(s.Max))
}

// digits writes three significant digits.
func digits(v float64) string {
	switch a := math.Abs(v); {
	case a >= 99.95:
		return fmt.Sprintf("%.0f", v)
	case a >= 9.995:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// columns writes rows, the first column to the left, the others to the right.
func columns(b *strings.Builder, rows [][]string) {
	wide := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, s := range row {
			wide[i] = max(wide[i], utf8.RuneCountInString(s))
		}
	}
	for _, row := range rows {
		for i, s := range row {
			pad := strings.Repeat(" ", wide[i]-utf8.RuneCountInString(s))
			switch i {
			case 0:
				b.WriteString(s + pad)
			case len(row) - 1:
				b.WriteString("  " + s)
			default:
				b.WriteString("  " + pad + s)
			}
		}
		b.WriteByte('\n')
	}
}

// machine describes where this runs, as it is now.
func machine() Machine {
	m := Machine{CPUs: runtime.NumCPU(), Go: runtime.Version(), OS: runtime.GOOS}
	if p, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(p))
	}
	if p, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load = loadOf(string(p))
	}
	if p, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(p)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				m.Model = strings.TrimSpace(value)
				break
			}
		}
	}
	return m
}

// loadOf returns the three averages of /proc/loadavg.
func loadOf(text string) string {
	f := strings.Fields(text)
	return strings.Join(f[:min(3, len(f))], " ")
}
