package report

import (
	"fmt"
	"html"
	"html/template"
	"slices"
	"time"

	"nearside/bench/measure"
)

// roundBars is how many requests have all their rounds drawn; of more it is the first.
const roundBars = 600

// timeline draws every request as a bar from when it should have been sent to its end,
// in a band for each target, beside each other where they ran at a time.
func (r *Report) timeline() *figured {
	rounds := 0
	for i := range r.Samples {
		rounds = max(rounds, r.Samples[i].Round)
	}
	first := len(r.Samples) > roundBars && rounds > 1
	type band struct {
		target string
		lanes  []time.Duration // when each is free
		bars   []*measure.Sample
		lane   []int
	}
	var bands []*band
	all, last := 0, time.Duration(0)
	for _, t := range r.Targets {
		b := &band{target: t.Name}
		for i := range r.Samples { // they are in the order of Due
			s := &r.Samples[i]
			if s.Target != t.Name || first && s.Round > 1 {
				continue
			}
			all++
			lane := slices.IndexFunc(b.lanes, func(free time.Duration) bool { return free <= s.Due })
			if lane < 0 {
				lane = len(b.lanes)
				b.lanes = append(b.lanes, 0)
			}
			b.lanes[lane] = max(s.End, s.Due)
			last = max(last, s.End)
			b.bars, b.lane = append(b.bars, s), append(b.lane, lane)
		}
		if len(b.bars) > 0 {
			bands = append(bands, b)
		}
	}
	if all == 0 || last == 0 {
		return nil
	}
	lanes := 0
	for _, b := range bands {
		lanes += len(b.lanes)
	}
	f := &figured{Title: "Timeline of requests", Wide: true, Says: "each bar is a request: pale until its first token, full until its last; outlined in red where it failed, outlined in its colour where it was a warm-up"}
	if first {
		f.Says += fmt.Sprintf("; round 1 of %d", rounds)
	}
	every := (all-1)/barsMax + 1
	if every > 1 {
		f.Says += fmt.Sprintf("; about %d of %d, drawn by lot", all/every, all)
	}
	const width, bandHead = 1000, 20
	lane := min(max(560/float64(lanes), 1.5), 12)
	p := newPlot(f.Title, f.Says, width, float64(lanes)*lane+float64(len(bands))*(bandHead+8)+46)
	p.left, p.right, p.top, p.bottom = 8, 12, 4, 40
	p.x = axis{0, last.Seconds() * 1.001, false, nil, "seconds since the beginning"}
	foot := p.height - p.bottom
	for _, v := range p.x.ticks(12) {
		x := p.px(v)
		fmt.Fprintf(&p.b, `<path class="rule" d="M%.1f %.1fV%.1f"/>`, x, p.top, foot)
		p.text(x, foot+14, "middle", "tick", tick(v))
	}
	p.text(width/2, p.height-6, "middle", "name", p.x.title)
	y := p.top
	n := 0
	for _, b := range bands {
		p.text(p.left, y+14, "start", "band", r.name(b.target))
		y += bandHead
		p.group(r.series(b.target))
		for i, s := range b.bars {
			if n++; !drawn(n, every) {
				continue
			}
			top, h := y+float64(b.lane[i])*lane, max(lane-1.5, 1)
			bar := func(class string, from, to time.Duration, says string) {
				x := p.px(from.Seconds())
				fmt.Fprintf(&p.b, `<rect class="%s" x="%.2f" y="%.1f" width="%.2f" height="%.1f">%s</rect>`, class, x, top, max(p.px(to.Seconds())-x, 0.6), h, says)
			}
			says := "<title>" + html.EscapeString(r.told(s)) + "</title>"
			switch {
			case s.Kind != measure.OK:
				bar("wrong", s.Due, max(s.End, s.Due), says)
			case s.FirstToken != 0:
				bar("wait", s.Due, s.FirstToken, says)
				bar(warmed("tokens", s), s.FirstToken, s.LastToken, says)
			default:
				bar(warmed("tokens", s), s.Due, s.End, says)
			}
		}
		p.ungroup()
		y += float64(len(b.lanes))*lane + 8
	}
	f.SVG = template.HTML(p.svg())
	f.Numbers = &grid{title: "Steps in their order", keys: 2, head: []string{"target", "load", "round", "from s", "to s", "requests", "failed"}}
	for _, sp := range r.Spans {
		asked, failed := 0, 0
		for i := range r.Samples {
			if s := &r.Samples[i]; s.Target == sp.Target && s.Step == sp.Step && s.Round == sp.Round && s.Warmup == sp.Warmup {
				if asked++; s.Kind != measure.OK {
					failed++
				}
			}
		}
		step := sp.Step
		if sp.Warmup {
			step = "warm-up"
		}
		f.Numbers.add(r.name(sp.Target), step, fmt.Sprint(sp.Round), fmt.Sprintf("%.2f", sp.Begin.Seconds()), fmt.Sprintf("%.2f", sp.End.Seconds()), fmt.Sprint(asked), fmt.Sprint(failed))
	}
	return f
}

// drawn says whether the n-th is among one of every so many. It goes by lot, always the
// same: counted off, it would be the same lanes each time.
func drawn(n, every int) bool {
	return every < 2 || jitter(n)+0.25 < 0.5/float64(every)
}

func warmed(class string, s *measure.Sample) string {
	if s.Warmup {
		return class + " before"
	}
	return class
}

// told is a request in words.
func (r *Report) told(s *measure.Sample) string {
	text := fmt.Sprintf("%s, %s, round %d, request %d", r.name(s.Target), s.Step, s.Round, s.Index)
	if s.Turn > 1 {
		text += fmt.Sprintf(", turn %d", s.Turn)
	}
	if s.Warmup {
		text += ", warm-up"
	}
	if s.Kind != measure.OK {
		return text + ": " + string(s.Kind) + ": " + cut(printable(s.Error), 120)
	}
	return text + fmt.Sprintf(": TTFT %s ms, E2E %s ms, %d tokens in, %d out", figure(millis(s.TTFT())), figure(millis(s.E2E())), s.Input, s.Output)
}
