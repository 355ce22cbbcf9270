package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"
)

//go:embed page.html
var pageText string

//go:embed page.css
var pageStyle string

var page = template.Must(template.New("page").Parse(pageText))

// WriteHTML writes a page that holds all it needs and asks for nothing: its policy lets
// in its own style and nothing else, no script either.
func (r *Report) WriteHTML(w io.Writer) error {
	sum := sha256.Sum256([]byte(pageStyle))
	v := pageData{Style: template.HTML("<style>" + pageStyle + "</style>"), Policy: "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'",
		Report: r, When: r.Began.UTC().Format("2 January 2006, 15:04 UTC"), Took: r.Took.Round(100 * time.Millisecond).String(), Notices: r.notices(), Facts: r.facts(), Told: r.beyondNoise(), Definitions: Definitions()}
	for _, t := range r.Targets {
		n := r.series(t.Name)
		p := &plot{}
		fmt.Fprint(&p.b, `<svg viewBox="0 0 10 10" aria-hidden="true">`)
		p.group(n)
		p.dot(n, "solid", 5, 5, "")
		p.ungroup()
		v.Legend = append(v.Legend, legend{r.name(t.Name), template.HTML(p.svg())})
	}
	v.ByLoad = r.byLoad()
	if f := r.byLength(); f != nil {
		v.Shapes = append(v.Shapes, *f)
	}
	v.Shapes = append(v.Shapes, r.gaps()...)
	if f := r.timeline(); f != nil {
		v.Timeline = []figured{*f}
	}
	for _, g := range r.grids() {
		if len(g.rows) > 0 {
			v.Grids = append(v.Grids, g)
		}
	}
	v.Further, v.Remarks = r.differences(false), strings.TrimSpace(r.remarks())
	var b bytes.Buffer
	if err := page.Execute(&b, v); err != nil {
		return fmt.Errorf("BUG: write a page: %w", err)
	}
	_, err := w.Write(b.Bytes())
	return err
}

type pageData struct {
	*Report
	Style                    template.HTML
	Policy, When, Took       string
	Notices, Told            []string
	Facts                    [][2]string
	Legend                   []legend
	ByLoad, Shapes, Timeline []figured
	Grids, Further           []*grid
	Remarks                  string
	Definitions              []Definition
}

type legend struct {
	Name string
	Mark template.HTML
}

// Title, Head, Rows and Note are for the page.
func (g *grid) Title() string    { return g.title }
func (g *grid) Head() []string   { return g.head }
func (g *grid) Rows() [][]string { return g.rows }
func (g *grid) Note() string     { return g.note }

// Class is how a column is set.
func (g *grid) Class(i int) string {
	if g.word(i) {
		return "word"
	}
	return "number"
}

// beyondNoise are the largest differences that were told, in a sentence each.
func (r *Report) beyondNoise() (all []string) {
	for _, d := range largest(r.Differences) {
		all = append(all, fmt.Sprintf("%s is %s than %s at %s: %s %s → %s %s (%s %%, 95 %% interval %s)", r.name(d.Target), worded(d), r.name(d.Base), d.Step, d.String(), figure(d.A), figure(d.B), d.Unit, signed(d.Percent()), d.interval()))
	}
	return all
}
