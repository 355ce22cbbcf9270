package report_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"

	"nearside/bench/harness"
	"nearside/bench/report"
)

func htmlOf(t *testing.T, r *report.Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The page works without a network and cannot be made to ask for anything: its policy
// lets in its own style, by its digest, and nothing else.
func TestHTMLHoldsAllItNeeds(t *testing.T) {
	text := htmlOf(t, fixed())
	_, style, _ := strings.Cut(text, "<style>")
	style, _, _ = strings.Cut(style, "</style>")
	sum := sha256.Sum256([]byte(style))
	want := `content="default-src &#39;none&#39;; style-src &#39;sha256-` + strings.ReplaceAll(base64.StdEncoding.EncodeToString(sum[:]), "+", "&#43;") + `&#39;; base-uri &#39;none&#39;; form-action &#39;none&#39;"`
	if !strings.Contains(text, want) {
		t.Errorf("no policy %s", want)
	}
	if found := regexp.MustCompile(`(?i)<(script|link|img|iframe|object|base|form)\b|\s(src|href|style|on[a-z]+)=|url\(|@import`).FindString(text); found != "" {
		t.Errorf("the page has %s", found)
	}
	for _, says := range []string{"Simulated: a scripted server", "sha256:0123", "Example CPU, 8 cores", "go1.26", "bench --concurrency 1,4", "vLLM 0.11.2", "p99.9", "First token by prompt length", "Gaps between tokens, c=4", "Timeline of requests"} {
		if !strings.Contains(text, says) {
			t.Errorf("the page does not say %q", says)
		}
	}
}

// Names and errors are others' words, and a picture that is no XML is not shown.
func TestHTMLIsWellFormed(t *testing.T) {
	for name, r := range map[string]*report.Report{
		"usual":   fixed(),
		"nothing": report.Of(&harness.Result{}, report.Meta{}),
		"one":     report.Of(result(1, 1, 3, 0, []string{"c=1"}, made{name: "a", factor: 1})),
		"failed":  report.Of(result(1, 4, 3, 0, []string{"c=1"}, made{name: "a", factor: 1, failing: 1})),
		"many":    report.Of(result(1, 520, 4, 0, []string{"rate=0.5", "rate=10", "rate=2"}, made{name: "a", factor: 1}, made{name: "b", factor: 90}, made{name: "c", factor: 9000})),
	} {
		text := htmlOf(t, r)
		if strings.Contains(text, "<script>") || strings.Contains(text, "NaN") || strings.Contains(text, "Inf") {
			t.Errorf("%s: words of others, or no numbers, in the page", name)
		}
		for _, svg := range regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAllString(text, -1) {
			d := xml.NewDecoder(strings.NewReader(svg))
			for {
				if _, err := d.Token(); err != nil {
					if !errors.Is(err, io.EOF) {
						t.Errorf("%s: %v in %.200s", name, err, svg)
					}
					break
				}
			}
		}
		if len(text) > 2<<20 {
			t.Errorf("%s: a page of %d bytes", name, len(text))
		}
	}
}

// Of more requests than a picture can show, one round is drawn, and it says so.
func TestTimelineOfManyRequests(t *testing.T) {
	bars := func(r *report.Report) (n int, text string) {
		text = htmlOf(t, r)
		_, text, _ = strings.Cut(text, `id="timeline"`)
		text, _, _ = strings.Cut(text, "</figure>")
		return strings.Count(text, "<title>"), text
	}
	if n, _ := bars(fixed()); n < 100 {
		t.Errorf("%d bars of 120 requests", n)
	}
	n, text := bars(report.Of(result(3, 300, 6, 0, []string{"c=1"}, made{name: "a", factor: 1})))
	if !strings.Contains(text, "; round 1 of 3") || n < 301 || n > 602 { // two bars of a request, one with a title at least
		t.Errorf("%d bars: %.300s", n, text)
	}
	n, text = bars(report.Of(result(1, 4000, 6, 0, []string{"c=4"}, made{name: "a", factor: 1})))
	if !strings.Contains(text, "; about 2000 of 4001, drawn by lot") || n < 2600 || n > 5400 {
		t.Errorf("%d bars: %.300s", n, text)
	}
}
