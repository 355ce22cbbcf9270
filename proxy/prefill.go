package proxy

import (
	"nearside/catalog"
	"nearside/shaping/wire"
)

// promptTokens is what a prompt is taken to come to at a target, for how long its
// first content is waited for.
func (x *exchange) promptTokens(t *target, env *wire.Envelope) int {
	g := t.gauge.load()
	if g.Seen == 0 {
		return int(env.TextBytes / 4)
	}
	return g.Estimate(catalog.Prompt{TextBytes: env.TextBytes, Images: x.media.Images}).Tokens
}

// learnPrompt tells the target how many tokens the prompt had that it read until
// the first content: less those that it had in its cache.
func (x *exchange) learnPrompt() {
	t, r := x.cur, x.receipt
	if t == nil || x.form != "" || !r.Stream {
		return
	}
	if u := &r.Usage; r.HasUsage && u.Input > 0 {
		x.at.LearnPrompt(u.Input, u.Cached, true)
		return
	}
	_, env := x.request()
	x.at.LearnPrompt(int64(x.promptTokens(t, env)), 0, false)
}
