package report

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strconv"
	"strings"
)

// plot is a picture in SVG, drawn by hand so that a report needs nothing else. Colours
// and strokes are of the page's style, by classes, so that they follow light and dark.
type plot struct {
	b                        strings.Builder
	width, height            float64
	left, right, top, bottom float64
	x, y                     axis
}

// axis maps values to a length.
type axis struct {
	low, high float64
	log       bool
	names     []string // of categories, at 0, 1, 2, …
	title     string
}

func newPlot(title, says string, width, height float64) *plot {
	p := &plot{width: width, height: height, left: 52, right: 12, top: 10, bottom: 40}
	fmt.Fprintf(&p.b, `<svg viewBox="0 0 %g %g" role="img" aria-label="%s">`, width, height, html.EscapeString(title+": "+says))
	return p
}

func (p *plot) svg() string { return p.b.String() + "</svg>" }

// share is where a value lies between the ends.
func (a *axis) share(v float64) float64 {
	if a.log {
		return (math.Log(max(v, a.low)) - math.Log(a.low)) / (math.Log(a.high) - math.Log(a.low))
	}
	return (v - a.low) / (a.high - a.low)
}

func (p *plot) px(v float64) float64 {
	return p.left + min(max(p.x.share(v), 0), 1)*(p.width-p.left-p.right)
}

func (p *plot) py(v float64) float64 {
	return p.height - p.bottom - min(max(p.y.share(v), 0), 1)*(p.height-p.top-p.bottom)
}

// ticks are round values, few enough to be read.
func (a *axis) ticks(most int) (at []float64) {
	if a.log {
		steps := []float64{1, 2, 5}
		if a.high < 12*a.low {
			steps = []float64{1, 1.5, 2, 3, 4, 5, 7}
		}
		for e := math.Floor(math.Log10(a.low)); e <= math.Ceil(math.Log10(a.high)); e++ {
			for _, m := range steps {
				if v := m * math.Pow(10, e); v >= a.low*0.999 && v <= a.high*1.001 {
					at = append(at, v)
				}
			}
		}
		tens := slices.DeleteFunc(slices.Clone(at), func(v float64) bool { l := math.Log10(v); return math.Abs(l-math.Round(l)) > 1e-9 })
		if len(at) > most && len(tens) > 1 {
			return tens
		}
		return at
	}
	step := math.Pow(10, math.Floor(math.Log10((a.high-a.low)/float64(most))))
	for _, m := range []float64{1, 2, 5, 10} {
		if (a.high-a.low)/(m*step) <= float64(most) {
			step *= m
			break
		}
	}
	for v := math.Ceil(a.low/step) * step; v <= a.high+step*1e-9; v += step {
		at = append(at, v)
	}
	return at
}

// between makes an axis that holds values: from 0, or by powers where they are far apart.
func between(values []float64, title string) axis {
	low, high := math.Inf(1), 0.0
	for _, v := range values {
		if v > 0 && !math.IsInf(v, 0) {
			low, high = min(low, v), max(high, v)
		}
	}
	switch {
	case high == 0:
		return axis{0, 1, false, nil, title}
	case high > 30*low:
		return axis{low * 0.9, high * 1.15, true, nil, title + " (log)"}
	}
	return axis{0, high * 1.08, false, nil, title}
}

// tick writes a value at an axis.
func tick(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1e6:
		return strconv.FormatFloat(v/1e6, 'g', 3, 64) + "M"
	case a >= 1e4:
		return strconv.FormatFloat(v/1e3, 'g', 3, 64) + "k"
	case a < 1e-9:
		return "0"
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

// frame draws the axes.
func (p *plot) frame() {
	foot := p.height - p.bottom
	for _, v := range p.y.ticks(5) {
		y := p.py(v)
		fmt.Fprintf(&p.b, `<path class="rule" d="M%.1f %.1fH%.1f"/><text class="tick" x="%.1f" y="%.1f" text-anchor="end">%s</text>`, p.left, y, p.width-p.right, p.left-6, y+3.5, tick(v))
	}
	if p.x.names != nil {
		every := (len(p.x.names)-1)/8 + 1
		for i, n := range p.x.names {
			if i%every == 0 {
				p.text(p.px(float64(i)), foot+14, "middle", "tick", cut(n, 14))
			}
		}
	} else {
		for _, v := range p.x.ticks(6) {
			x := p.px(v)
			fmt.Fprintf(&p.b, `<path class="rule" d="M%.1f %.1fV%.1f"/>`, x, p.top, foot)
			p.text(x, foot+14, "middle", "tick", tick(v))
		}
	}
	fmt.Fprintf(&p.b, `<path class="axis" d="M%.1f %.1fH%.1f"/>`, p.left, foot, p.width-p.right)
	p.text((p.left+p.width-p.right)/2, p.height-6, "middle", "name", p.x.title)
	fmt.Fprintf(&p.b, `<text class="name" transform="translate(11 %.1f) rotate(-90)" text-anchor="middle">%s</text>`, (p.top+foot)/2, html.EscapeString(p.y.title))
}

func (p *plot) text(x, y float64, anchor, class, s string) {
	fmt.Fprintf(&p.b, `<text class="%s" x="%.1f" y="%.1f" text-anchor="%s">%s</text>`, class, x, y, anchor, html.EscapeString(s))
}

// line draws through points given in values; a break where one is missing (not a number).
func (p *plot) line(class string, xs, ys []float64) {
	var d strings.Builder
	pen := "M"
	for i := range xs {
		if math.IsNaN(ys[i]) {
			pen = "M"
			continue
		}
		fmt.Fprintf(&d, "%s%.1f %.1f", pen, p.px(xs[i]), p.py(ys[i]))
		pen = "L"
	}
	if d.Len() > 0 {
		fmt.Fprintf(&p.b, `<path class="%s" d="%s"/>`, class, d.String())
	}
}

// marks are the forms of points, so that series differ without colours too.
const marks = 4

// point draws one at values; says is shown where a pointer rests on it.
func (p *plot) point(form int, class string, x, y float64, says string) {
	p.dot(form, class, p.px(x), p.py(y), says)
}

func (p *plot) dot(form int, class string, x, y float64, says string) {
	title := ""
	if says != "" {
		title = "<title>" + html.EscapeString(says) + "</title>"
	}
	d := ""
	switch form % marks {
	case 0:
		fmt.Fprintf(&p.b, `<circle class="%s" cx="%.1f" cy="%.1f" r="3.4">%s</circle>`, class, x, y, title)
		return
	case 1:
		d = fmt.Sprintf("M%.1f %.1fh6v6h-6z", x-3, y-3)
	case 2:
		d = fmt.Sprintf("M%.1f %.1fl3.8 6.6h-7.6z", x, y-4.2)
	default:
		d = fmt.Sprintf("M%.1f %.1fl4 4l-4 4l-4-4z", x, y-4)
	}
	fmt.Fprintf(&p.b, `<path class="%s" d="%s">%s</path>`, class, d, title)
}

// group begins what has the colour of a series, ungroup ends it.
func (p *plot) group(series int) { fmt.Fprintf(&p.b, `<g class="s%d">`, series%colours) }
func (p *plot) ungroup()         { p.b.WriteString("</g>") }

// colours are how many series have one of their own in the page's style.
const colours = 8
