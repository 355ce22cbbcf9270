package proxy

import (
	"math"
	"sync"
	"sync/atomic"

	"nearside/catalog"
)

// gauge is what was learned of how one model counts tokens, shared by all that
// ask it. Its zero value has learned nothing.
type gauge struct {
	mean, least atomic.Uint64 // as math.Float64bits has them; valid once seen is not 0
	seen        atomic.Int64
}

func (g *gauge) load() catalog.Gauge {
	n := int(g.seen.Load())
	if n == 0 {
		return catalog.Gauge{}
	}
	return catalog.Gauge{Mean: math.Float64frombits(g.mean.Load()), Least: math.Float64frombits(g.least.Load()), Seen: n}
}

// learn takes in a report. Of two at once one may be lost, in part.
func (g *gauge) learn(p catalog.Prompt, tokens int64) {
	old := g.load()
	if next := old.Learn(p, tokens); next != old {
		g.mean.Store(math.Float64bits(next.Mean))
		g.least.Store(math.Float64bits(next.Least))
		g.seen.Store(int64(next.Seen))
	}
}

// gaugesMax bounds the gauges of models that the configuration does not list:
// clients make their ids up.
const gaugesMax = 1024

// gauges outlive reloads for models that are still asked at the same place, as
// a backend's learned prefill rate does.
type gauges struct {
	mu     sync.Mutex
	kept   map[gaugeKey]*gauge
	passed int // of them, those of models that are not listed
}

type gaugeKey struct{ provider, baseURL, model string }

func gaugeKeyOf(m *catalog.Model) gaugeKey { return gaugeKey{m.Provider.ID, m.BaseURL, m.ID} }

// of returns the gauge of a model. That of one that is not listed is kept only
// once something was learned.
func (g *gauges) of(m *catalog.Model) *gauge {
	key := gaugeKeyOf(m)
	g.mu.Lock()
	defer g.mu.Unlock()
	if had := g.kept[key]; had != nil {
		return had
	}
	made := new(gauge)
	if m.Declared {
		g.keep(key, made)
	}
	return made
}

func (g *gauges) keep(key gaugeKey, made *gauge) {
	if g.kept == nil {
		g.kept = map[gaugeKey]*gauge{}
	}
	g.kept[key] = made
}

// learned keeps the gauge of a model that is not listed.
func (g *gauges) learned(t *target) {
	if t.model.Declared {
		return
	}
	key := gaugeKeyOf(t.model)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.kept[key] == nil && g.passed < gaugesMax {
		g.passed++
		g.keep(key, t.gauge)
	}
}

// apply forgets the gauges of places that are no longer asked.
func (g *gauges) apply(c *catalog.Catalog) {
	if c == nil {
		return
	}
	type place struct{ provider, baseURL string }
	asked, listed := map[place]bool{}, map[gaugeKey]bool{}
	for _, p := range c.Providers {
		asked[place{p.ID, p.BaseURL}] = true
		for _, m := range p.Models {
			asked[place{p.ID, m.BaseURL}] = true
			listed[gaugeKeyOf(m)] = true
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.passed = 0
	for key := range g.kept {
		switch {
		case !asked[place{key.provider, key.baseURL}]:
			delete(g.kept, key)
		case !listed[key]:
			if g.passed++; g.passed > gaugesMax {
				g.passed--
				delete(g.kept, key)
			}
		}
	}
}

// weigh compares what the backend counted with what was estimated, once the
// answer has told: the gauge learns from it, or the prompt was cut.
func (x *exchange) weigh() {
	x.learnPrompt()
	r, t := x.receipt, x.cur
	if t == nil || len(r.Continued) > 0 || x.form != "" || !r.HasUsage || r.Usage.Input <= 0 {
		return
	}
	_, env := x.request()
	p := catalog.Prompt{TextBytes: env.TextBytes, Images: x.media.Images + x.media.Audio + x.media.Video}
	p.TextBytes -= min(p.TextBytes, max(0, int64(env.Size-x.sent))) // what was left out of it
	g, m := t.gauge.load(), t.model
	r.Estimated, r.TokenRatio = g.Estimate(p).Tokens, g.Mean
	if m.Provider.Near && g.Cut(p, r.Usage.Input, m.DetectedWindow) {
		r.PromptCut = true
		w := m.Window()
		x.s.log.Warn().Str("request", r.ID).Str("target", t.ref).Int64("read", r.Usage.Input).Int("estimated", r.Estimated).Int("window", w.Effective).
			Str("advice", w.Remedy()).Msg("the backend has cut the prompt")
		return
	}
	t.gauge.learn(p, r.Usage.Input)
	x.s.gauges.learned(t)
}
