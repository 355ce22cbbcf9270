package harness

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"nearside/bench/measure"
	"nearside/bench/stats"
)

// Goal is what requests are to come up to, all of it at once.
type Goal struct {
	Bounds []Bound
	// Errors is the share that may fail; errorsMay when 0.
	Errors float64
}

// errorsMay is the share of requests that may fail where a goal does not say.
const errorsMay = 0.01

// Bound is what a share of all requests (of all gaps, for itl) must stay below.
type Bound struct {
	Of    string  // ttft, itl, tpot or e2e
	Share float64 // 0.95 for p95
	Below time.Duration
}

var goalHelp = `as in "ttft:p95<500ms,itl:p99<50ms,errors<1%" (of ttft, itl, tpot, e2e)`

// ParseGoal reads a goal; an empty text is none.
func ParseGoal(text string) (*Goal, error) {
	if text == "" {
		return nil, nil
	}
	g := &Goal{}
	for _, one := range strings.Split(text, ",") {
		left, right, ok := strings.Cut(strings.TrimSpace(one), "<")
		if !ok {
			return nil, fmt.Errorf("goal %q: no < in it; %s", one, goalHelp)
		}
		if left == "errors" {
			f, err := strconv.ParseFloat(strings.TrimSuffix(right, "%"), 64)
			if err != nil || !strings.HasSuffix(right, "%") || f <= 0 || f > 100 {
				return nil, fmt.Errorf("goal %q: errors are a share in per cent, above 0; %s", one, goalHelp)
			}
			g.Errors = f / 100
			continue
		}
		of, p, ok := strings.Cut(left, ":")
		share, err := strconv.ParseFloat(strings.TrimPrefix(p, "p"), 64)
		if !ok || !strings.HasPrefix(p, "p") || err != nil || share <= 0 || share > 100 {
			return nil, fmt.Errorf("goal %q: no percentile such as p95; %s", one, goalHelp)
		}
		if !slices.Contains([]string{"ttft", "itl", "tpot", "e2e"}, of) {
			return nil, fmt.Errorf("goal %q: no measure %q; %s", one, of, goalHelp)
		}
		below, err := time.ParseDuration(right)
		if err != nil || below <= 0 {
			return nil, fmt.Errorf("goal %q: no time such as 500ms; %s", one, goalHelp)
		}
		g.Bounds = append(g.Bounds, Bound{of, share / 100, below})
	}
	if len(g.Bounds) == 0 {
		return nil, fmt.Errorf("goal %q: bounds no time; %s", text, goalHelp)
	}
	return g, nil
}

// String is what ParseGoal reads.
func (g *Goal) String() string {
	var all []string
	for _, b := range g.Bounds {
		all = append(all, b.String())
	}
	if g.Errors > 0 {
		all = append(all, fmt.Sprintf("errors<%g%%", 100*g.Errors))
	}
	return strings.Join(all, ",")
}

// MarshalText is String.
func (g *Goal) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// UnmarshalText is ParseGoal.
func (g *Goal) UnmarshalText(p []byte) error {
	v, err := ParseGoal(string(p))
	if err == nil && v != nil {
		*g = *v
	}
	return err
}

func (b Bound) String() string { return fmt.Sprintf("%s<%v", b.name(), b.Below) }

func (b Bound) name() string {
	return b.Of + ":p" + strconv.FormatFloat(math.Round(b.Share*1e6)/1e4, 'g', -1, 64)
}

// NeedsStream says whether whole answers cannot be held to it.
func (g *Goal) NeedsStream() bool {
	return slices.ContainsFunc(g.Bounds, func(b Bound) bool { return b.Of != "e2e" })
}

// never is later than any bound.
const never = time.Duration(math.MaxInt64)

// times are what a bound is applied to in one request. Where it failed, nothing came
// within any time.
func (b Bound) times(s *measure.Sample) []time.Duration {
	if s.Kind != measure.OK {
		return []time.Duration{never}
	}
	switch b.Of {
	case "ttft":
		if t := s.TTFT(); t > 0 {
			return []time.Duration{t}
		}
		return []time.Duration{never}
	case "itl":
		return s.Gaps
	case "tpot":
		if t := s.TPOT(); t > 0 {
			return []time.Duration{t}
		}
		return nil // one token has no time between
	}
	return []time.Duration{s.E2E()}
}

// Meets says whether one request by itself came up to the goal: of its gaps, the share
// that the bound says. Such requests a second are the goodput.
func (g *Goal) Meets(s *measure.Sample) bool {
	for _, b := range g.Bounds {
		if all := b.times(s); len(all) > 0 && stats.Rank(all, b.Share) >= b.Below {
			return false
		}
	}
	return s.Kind == measure.OK
}

// Met says whether requests came up to the goal all together, and if not why.
func (g *Goal) Met(all []measure.Sample) (bool, string) {
	if len(all) == 0 {
		return false, "no request"
	}
	failed := 0
	var kind measure.Kind
	for i := range all {
		if all[i].Kind != measure.OK {
			failed, kind = failed+1, all[i].Kind
		}
	}
	may := g.Errors
	if may == 0 {
		may = errorsMay
	}
	if share := float64(failed) / float64(len(all)); share > may {
		return false, fmt.Sprintf("%d of %d failed (%s)", failed, len(all), kind)
	}
	for _, b := range g.Bounds {
		var times []time.Duration
		for i := range all {
			times = append(times, b.times(&all[i])...)
		}
		if len(times) == 0 {
			return false, "nothing that has a " + b.Of
		}
		if t := stats.Rank(times, b.Share); t >= b.Below {
			return false, fmt.Sprintf("%s is %v", b.name(), t.Round(10*time.Microsecond))
		}
	}
	return true, ""
}
