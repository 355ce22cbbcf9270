package proxy

import (
	"sync/atomic"

	"nearside/catalog"
	"nearside/proxy/ledger"
	"nearside/proxy/meter"
	"nearside/shaping/wire"
)

// price notes what the exchange cost, and what its near answer has saved.
func (x *exchange) price() {
	r := x.receipt
	if x.cur == nil || r.Model != x.cur.ref {
		return
	}
	u, ok := r.Usage, r.HasUsage
	if !ok {
		if u, ok = r.reckoned, r.isReckoned; !ok {
			return
		}
	}
	r.cost = x.cur.model.Cost.Of(x.onward.paid(u))
	if x.cur.model.Provider.Near {
		if far := x.instead(); far != nil {
			r.saved = max(0, far.Cost.Of(u)-r.cost)
		}
	}
}

// account writes an exchange's row of the ledger.
func (s *Server) account(r *Receipt, gaps *meter.Gaps) {
	l := s.ledger
	if l == nil {
		return
	}
	row := ledger.Row{ID: r.ID, At: r.Started, Key: r.Key, Requested: r.Requested, Ref: r.Model, Provider: r.Provider, Route: r.Route, Dialect: r.Dialect, Stream: r.Stream,
		Status: r.Status, Outcome: r.Outcome, Code: r.Code, Reported: r.HasUsage, Estimated: r.UsagePartial,
		Queued: r.Queued, First: r.First, Took: r.Took}
	if gaps != nil {
		row.GapP50, row.GapP95 = gaps.Quantile(0.5), gaps.Quantile(0.95)
	}
	for i := range r.Attempts {
		if !r.Attempts[i].Skipped {
			row.Attempts++
		}
	}
	if row.Attempts > 1 || r.Outcome != "ok" {
		row.Trail = string(appendAttempts(nil, r.Attempts))
	}
	u, counted := r.Usage, r.HasUsage
	if !counted {
		u, row.Estimated = r.reckoned, r.isReckoned
	}
	if counted || row.Estimated {
		row.Input, row.Output, row.Cached, row.CacheWrite, row.Reasoning = u.Input, u.Output, u.Cached, u.CacheWrite, u.Reasoning
		row.Cost, row.Saved = r.cost, r.saved
	}
	l.Add(row)
}

// unsaid estimates the tokens of an answer whose backend did not say them: the
// prompt by what was learned of the model, the answer by its events, each of which
// is mostly one token, or by its bytes. It says false where no backend has worked
// for it, and for what is no text.
func (x *exchange) unsaid() (u wire.Usage, ok bool) {
	r, t := x.receipt, x.cur
	if t == nil || x.form != "" || x.opaque || !x.usedSome() {
		return u, false
	}
	_, env := x.request()
	u.Input = int64(t.gauge.load().Expect(catalog.Prompt{TextBytes: env.TextBytes, Images: x.media.Images + x.media.Audio + x.media.Video}))
	switch {
	case x.surface.dialect == wire.Plain: // embeddings, rankings: no text is made
	case r.Stream:
		u.Output = int64(r.Events)
	default:
		u.Output = r.BytesOut / 4
	}
	u.Total = u.Input + u.Output
	return u, true
}

// instead is the far model whose prices tell what a near answer has saved: that of
// proxy.ledger.compareWith, or the first one with a price of the exchange's chain,
// or of the default chain.
func (x *exchange) instead() *catalog.Model {
	if ref := x.snap.Config.Ledger.CompareWith; ref != "" {
		if m := x.snap.priced(&x.snap.compared, ref); m != nil {
			return m
		}
	}
	for i := range x.plan.Steps {
		if m := x.plan.Steps[i].target.model; !m.Provider.Near && m.Cost.Priced() {
			return m
		}
	}
	return x.snap.priced(&x.snap.usual, catalog.DefaultName)
}

// price is a model whose price was looked up; nil for none.
type price struct{ *catalog.Model }

// priced returns the first far model with a price that a name means, which at keeps;
// nil for none.
func (s *Snapshot) priced(at *atomic.Pointer[price], name string) *catalog.Model {
	if p := at.Load(); p != nil {
		return p.Model
	}
	found := new(price)
	if res, err := s.Catalog.Resolve(name, catalog.ResolveOptions{}); err == nil {
		for _, m := range res.Models {
			if !m.Provider.Near && m.Cost.Priced() {
				found.Model = m
				break
			}
		}
	}
	at.Store(found)
	return found.Model
}
