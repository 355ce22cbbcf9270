package catalog

import (
	"math"
	"testing"
)

func TestEstimatesErrUpwards(t *testing.T) {
	f := func(bytes int64, images, want int) {
		t.Helper()
		if got := EstimateTokens(bytes, images); got != want {
			t.Errorf("EstimateTokens(%d, %d) = %d, want %d", bytes, images, got, want)
		}
	}
	f(0, 0, 0)
	f(4000, 0, 1100)
	f(4000, 2, 3100)
	f(64<<20, 0, 18454937)
}

// What would fit must never be refused on account of an estimate, and a client
// may ask for any output.
func TestFitsAreThreefold(t *testing.T) {
	m := &Model{ContextWindow: 10000}
	f := func(tokens, least, output int, want Fit) {
		t.Helper()
		if got := m.Window().Fit(Estimate{tokens, least}, output); got != want {
			t.Errorf("%d tokens, %d at the least, and %d for the answer fit 10000: %d, want %d", tokens, least, output, got, want)
		}
	}
	f(9000, 6000, 1000, Fits)
	f(9001, 6000, 1000, MayFit)
	f(9001, 6000, 0, Fits)
	f(8750, 6000, 9000, Fits) // an eighth is left
	f(8751, 6000, 9000, MayFit)
	f(11000, 6600, 0, MayFit)
	f(16000, 9800, 100, MayFit)
	f(16000, 9800, 1000, TooLong) // 200 are not worth an answer of which more was asked
	f(17000, 10001, 0, TooLong)
	f(1, 1, math.MaxInt, Fits)
	f(9999, 1, math.MaxInt, MayFit)
	f(math.MaxInt, math.MaxInt, 1, TooLong)
	if got := (&Model{}).Window().Fit(Estimate{1 << 40, 1 << 40}, 1<<40); got != Fits {
		t.Errorf("an unknown window fits: %d", got)
	}
	for _, c := range []struct{ window, tokens, want int }{{0, 5, 0}, {10000, 4000, 5936}, {10000, 9990, 1}, {10000, 20000, 1}} {
		if got := (&Model{ContextWindow: c.window}).Window().Room(Estimate{Tokens: c.tokens}); got != c.want {
			t.Errorf("a window of %d leaves %d of %d tokens, want %d", c.window, got, c.tokens, c.want)
		}
	}
}

// A gauge follows what a model reports. It trusts slowly that prompts are long,
// since that refuses, and at once that they are short.
func TestGaugesLearnHowAModelCounts(t *testing.T) {
	p := Prompt{TextBytes: 40000} // 10000 tokens of four bytes
	var g Gauge
	if e := g.Estimate(p); e != (Estimate{11000, 6600}) {
		t.Fatalf("nothing learned: %+v", e)
	}
	for _, same := range []Gauge{g.Learn(p, 0), g.Learn(p, -5), g.Learn(Prompt{TextBytes: 400}, 300), g.Learn(Prompt{40000, 1}, 9000)} {
		if same != g {
			t.Errorf("learned from nothing: %+v", same)
		}
	}
	g = g.Learn(p, 20000) // a tokenizer that knows little of the script
	if e := g.Estimate(p); e.Tokens != 22000 || e.Least >= 10000 || e.Least <= 6600 {
		t.Errorf("after one report: %+v", e)
	}
	for range 30 {
		g = g.Learn(p, 20000)
	}
	if e := g.Estimate(p); e.Tokens != 22000 || e.Least < 17900 || e.Least > 18000 {
		t.Errorf("after many: %+v", e)
	}
	g = g.Learn(p, 8000) // tables gave way to prose
	if e := g.Estimate(p); e.Least != 7200 || e.Tokens >= 22000 {
		t.Errorf("after one that is short: %+v", e)
	}
	for _, c := range []struct {
		tokens int64
		mean   float64
	}{{1, gaugeMin}, {math.MaxInt64, gaugeMax}} {
		if got := (Gauge{}).Learn(p, c.tokens).Mean; got != c.mean {
			t.Errorf("%d tokens for 40000 bytes make %g, want %g", c.tokens, got, c.mean)
		}
	}
	if e := (Gauge{}).Learn(p, 10000).Estimate(Prompt{4000, 2}); e.Tokens != 3100 {
		t.Errorf("images stand beside what was learned: %+v", e)
	}
}

// A prompt that was cut is answered with 200; only the count tells.
func TestCutPromptsAreToldFromShortOnes(t *testing.T) {
	f := func(name string, g Gauge, p Prompt, tokens int64, window int, want bool) {
		t.Helper()
		if got := g.Cut(p, tokens, window); got != want {
			t.Errorf("%s: %+v counted as %d at a window of %d was cut: %t, want %t", name, p, tokens, window, got, want)
		}
	}
	learned := Gauge{}
	for range 20 {
		learned = learned.Learn(Prompt{TextBytes: 40000}, 10000)
	}
	f("Ollama's 60000 words", Gauge{}, Prompt{TextBytes: 240000}, 8194, 8192, true)
	f("the same, window unknown", Gauge{}, Prompt{TextBytes: 240000}, 8194, 0, true)
	f("just above the window", Gauge{}, Prompt{TextBytes: 40000}, 8192, 8192, true)
	f("it fits", Gauge{}, Prompt{TextBytes: 28000}, 7900, 8192, false)
	f("it fits and is estimated too high", Gauge{}, Prompt{TextBytes: 40000}, 7000, 8192, false)
	f("white space", Gauge{}, Prompt{TextBytes: 40000}, 4000, 0, false)
	f("white space where prose was learned", learned, Prompt{TextBytes: 40000}, 6000, 0, false)
	f("half is gone", learned, Prompt{TextBytes: 40000}, 5000, 0, true)
	f("short", Gauge{}, Prompt{TextBytes: 400}, 1, 0, false)
	f("nothing reported", Gauge{}, Prompt{TextBytes: 240000}, 0, 8192, false)
	f("images", Gauge{}, Prompt{240000, 1}, 8194, 8192, false)
}
