package report

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"html/template"
	"math"
	"slices"
	"time"

	"nearside/bench/measure"
	"nearside/bench/stats"
)

// figured is a plot on the page, with its numbers.
type figured struct {
	Title, Says string
	Wide        bool
	SVG         template.HTML
	Numbers     *grid // nil where a table of the report has them
}

// What is drawn at most; the numbers beside a plot are of all.
const (
	pointsMax = 1500 // of a scatter, for each target
	barsMax   = 3000 // of the timeline
	facetsMax = 6
	panelW    = 360
	panelH    = 240
)

// series is the number of a target, which is its colour and its mark.
func (r *Report) series(target string) int {
	return max(slices.IndexFunc(r.Targets, func(t *measure.Target) bool { return t.Name == target }), 0)
}

// steps are the loads, the lower first where they are of one kind.
func (r *Report) steps() (all []string) {
	for i := range r.Rows {
		if !slices.Contains(all, r.Rows[i].Step) {
			all = append(all, r.Rows[i].Step)
		}
	}
	for _, kind := range []string{"c=", "rate="} {
		if !slices.ContainsFunc(all, func(s string) bool { _, ok := number(s, kind); return !ok }) {
			slices.SortFunc(all, func(a, b string) int {
				x, _ := number(a, kind)
				y, _ := number(b, kind)
				return cmp.Compare(x, y)
			})
		}
	}
	return all
}

func (r *Report) row(target, step string) *Row {
	for i := range r.Rows {
		if r.Rows[i].Target == target && r.Rows[i].Step == step {
			return &r.Rows[i]
		}
	}
	return nil
}

// byLoad draws what each load came to.
func (r *Report) byLoad() (all []figured) {
	steps := r.steps()
	for _, m := range []struct {
		title, says, unit string
		figures           func(*Row) (p50, p99 float64)
	}{
		{"Time to the first token", "median, and p99 dashed", "TTFT, ms", func(w *Row) (float64, float64) { return of(w.TTFT, w.TTFT.P50), of(w.TTFT, w.TTFT.P99) }},
		{"Between tokens", "median of all gaps, and p99 dashed", "ITL, ms", func(w *Row) (float64, float64) { return of(w.ITL, w.ITL.P50), of(w.ITL, w.ITL.P99) }},
		{"End to end", "median, and p99 dashed", "E2E, ms", func(w *Row) (float64, float64) { return of(w.E2E, w.E2E.P50), of(w.E2E, w.E2E.P99) }},
		{"Throughput", "output tokens a second of the system", "tok/s", func(w *Row) (float64, float64) { return w.OutputRate, math.NaN() }},
	} {
		p := newPlot(m.title+" by load", m.says, panelW, panelH)
		var values []float64
		for i := range r.Rows {
			a, b := m.figures(&r.Rows[i])
			values = append(values, a, b)
		}
		if !slices.ContainsFunc(values, func(v float64) bool { return v > 0 }) {
			continue
		}
		p.x, p.y = axis{low: -0.4, high: float64(len(steps)) - 0.6, names: steps, title: "load"}, between(values, m.unit)
		p.frame()
		for _, t := range r.Targets {
			n := r.series(t.Name)
			shift := 0.0
			if len(steps) == 1 && len(r.Targets) > 1 { // side by side
				shift = 0.6 * (float64(n)/float64(len(r.Targets)-1) - 0.5)
			}
			xs, mid, far := make([]float64, len(steps)), make([]float64, len(steps)), make([]float64, len(steps))
			p.group(n)
			for i, s := range steps {
				xs[i], mid[i], far[i] = float64(i)+shift, math.NaN(), math.NaN()
				if row := r.row(t.Name, s); row != nil {
					mid[i], far[i] = m.figures(row)
				}
			}
			p.line("far", xs, far)
			p.line("line", xs, mid)
			for i := range xs {
				if !math.IsNaN(far[i]) {
					if len(steps) == 1 {
						p.line("far", []float64{xs[i], xs[i]}, []float64{mid[i], far[i]})
					}
					p.point(n, "hollow", xs[i], far[i], fmt.Sprintf("%s, %s: p99 %s", r.name(t.Name), steps[i], figure(far[i])))
				}
				if !math.IsNaN(mid[i]) {
					p.point(n, "solid", xs[i], mid[i], fmt.Sprintf("%s, %s: %s", r.name(t.Name), steps[i], figure(mid[i])))
				}
			}
			p.ungroup()
		}
		all = append(all, figured{Title: m.title, Says: m.says, SVG: template.HTML(p.svg())})
	}
	return all
}

// of is a duration of a summary in milliseconds; not a number of an empty one.
func of(s stats.Summary, d time.Duration) float64 {
	if s.N == 0 {
		return math.NaN()
	}
	return millis(d)
}

// good are the samples that figures are made of, by target.
func (r *Report) good(target string) (all []*measure.Sample) {
	for i := range r.Samples {
		if s := &r.Samples[i]; s.Target == target && !s.Warmup && s.Kind == measure.OK {
			all = append(all, s)
		}
	}
	return all
}

// byLength draws the time to the first token by the length of the prompt.
func (r *Report) byLength() *figured {
	low, high := math.Inf(1), 0.0
	var times, lengths []float64
	for _, t := range r.Targets {
		for _, s := range r.good(t.Name) {
			if n := float64(s.Input); n > 0 && s.TTFT() > 0 {
				low, high = min(low, n), max(high, n)
				times, lengths = append(times, millis(s.TTFT())), append(lengths, n)
			}
		}
	}
	if len(times) == 0 {
		return nil
	}
	f := &figured{Title: "First token by prompt length", Says: "a point for each request; hollow where its beginning was sent before (warm)"}
	p := newPlot("Time to the first token by prompt length", f.Says, panelW, panelH)
	alike := high < 1.05*low
	p.y = between(times, "TTFT, ms")
	if alike {
		f.Says = fmt.Sprintf("all prompts had about %.0f tokens; targets side by side", (low+high)/2)
		var names []string
		for _, t := range r.Targets {
			names = append(names, r.name(t.Name))
		}
		p.x = axis{low: -0.5, high: float64(len(names)) - 0.5, names: names, title: "target"}
	} else {
		p.x = between(lengths, "tokens of the prompt")
		if !p.x.log {
			p.x.low = low - 0.03*(high-low)
			p.x.high = high + 0.03*(high-low)
		}
	}
	p.frame()
	f.Numbers = &grid{title: f.Title, keys: 2, head: []string{"target", "tokens", "n", "TTFT p50", "p90", "p99"}}
	for _, t := range r.Targets {
		n := r.series(t.Name)
		p.group(n)
		all := slices.DeleteFunc(r.good(t.Name), func(s *measure.Sample) bool { return s.Input <= 0 || s.TTFT() <= 0 })
		every := len(all)/pointsMax + 1
		if every > 1 {
			f.Says += fmt.Sprintf("; every %dth of %s", every, r.name(t.Name))
		}
		for i, s := range all {
			if i%every != 0 {
				continue
			}
			x, class := float64(s.Input), "speck"
			if alike {
				x = float64(n) + jitter(i)
			}
			if !s.Cold {
				class = "speck warm"
			}
			p.dot(n, class, p.px(x), p.py(millis(s.TTFT())), "")
		}
		p.ungroup()
		byLengths(f.Numbers, r.name(t.Name), all)
	}
	f.SVG = template.HTML(p.svg())
	return f
}

// jitter puts points of one place side by side, always the same way.
func jitter(i int) float64 {
	h := fnv.New32a()
	fmt.Fprint(h, i)
	return (float64(h.Sum32()%1000)/1000 - 0.5) * 0.5
}

// byLengths adds rows of prompts that are about as long, each up to twice the one before.
func byLengths(g *grid, name string, all []*measure.Sample) {
	parts := map[int][]time.Duration{}
	for _, s := range all {
		k := int(math.Log2(float64(s.Input)))
		parts[k] = append(parts[k], s.TTFT())
	}
	for k := range 40 {
		if t := parts[k]; len(t) > 0 {
			sum := stats.Of(t)
			g.add(name, fmt.Sprintf("%d–%d", 1<<k, 2<<k-1), fmt.Sprint(len(t)), ms(sum.P50, sum.N), ms(sum.P90, sum.N), ms(sum.P99, sum.N))
		}
	}
}

// gaps draws how long the gaps between tokens were, a picture for each load.
func (r *Report) gaps() (all []figured) {
	steps := r.steps()
	for i, step := range steps {
		if i == facetsMax {
			break
		}
		of := map[string][]float64{}
		var values []float64
		for _, t := range r.Targets {
			for _, s := range r.good(t.Name) {
				if s.Step == step {
					of[t.Name] = ITL.times(of[t.Name], s)
				}
			}
			slices.Sort(of[t.Name])
			values = append(values, of[t.Name]...)
		}
		if len(values) == 0 {
			continue
		}
		slices.Sort(values)
		at := func(v []float64, q float64) float64 { return v[min(int(q*float64(len(v))), len(v)-1)] }
		f := figured{Title: "Gaps between tokens, " + step, Says: "share of gaps by their length; the mark is the median"}
		p := newPlot(f.Title, f.Says, panelW, panelH)
		low, high := max(at(values, 0.002), 0.01)*0.9, max(at(values, 0.998), 0.02)*1.2
		if high < 3*low {
			low, high = low/1.3, high*1.3
		}
		p.x = axis{low, high, true, nil, "ITL, ms (log)"}
		const bins = 56
		f.Numbers = &grid{title: f.Title, keys: 1, head: []string{"target", "gaps", "p1", "p10", "p50", "p90", "p99", "p99.9", "longest"}}
		shares := map[string][]float64{}
		var tallest []float64
		for _, t := range r.Targets {
			v := of[t.Name]
			if len(v) == 0 {
				continue
			}
			in := make([]float64, bins)
			for _, g := range v {
				in[min(max(int(p.x.share(g)*bins), 0), bins-1)] += 100 / float64(len(v))
			}
			shares[t.Name] = in
			tallest = append(tallest, slices.Max(in))
			cells := []string{r.name(t.Name), fmt.Sprint(len(v))}
			for _, q := range []float64{0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 1} {
				cells = append(cells, figure(stats.Quantile(q).Of(v)))
			}
			f.Numbers.add(cells...)
		}
		p.y = axis{0, slices.Max(tallest) * 1.08, false, nil, "% of gaps"}
		p.frame()
		for _, t := range r.Targets {
			in := shares[t.Name]
			if in == nil {
				continue
			}
			var xs, ys []float64
			for b, s := range in { // as steps
				from, to := low*math.Pow(high/low, float64(b)/bins), low*math.Pow(high/low, float64(b+1)/bins)
				xs, ys = append(xs, from, to), append(ys, s, s)
			}
			n := r.series(t.Name)
			p.group(n)
			p.line("line step", xs, ys)
			mid := at(of[t.Name], 0.5)
			p.point(n, "solid", mid, in[min(max(int(p.x.share(mid)*bins), 0), bins-1)], fmt.Sprintf("%s: median %s ms", r.name(t.Name), figure(mid)))
			p.ungroup()
		}
		f.SVG = template.HTML(p.svg())
		all = append(all, f)
	}
	return all
}
