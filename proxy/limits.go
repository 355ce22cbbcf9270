package proxy

import (
	"strconv"
	"time"

	"nearside/proxy/access"
	"nearside/shaping/wire"
)

// enterKey lets the exchange in by its key's limits, or says why not. What it is
// reckoned to use is held from here on, until settleKey knows what it has used.
// The plan is made; where the key's money is spent, targets with a price are no
// part of it any more.
func (x *exchange) enterKey() (*wire.Error, time.Duration) {
	g := x.grant
	if g == nil {
		return nil, 0
	}
	hold, left, no, spent := x.s.accounts.Enter(g, x.reckon())
	x.rateHeaders(&g.Limits, left)
	if no != nil {
		e := &wire.Error{Status: 429, Type: no.What, Code: "rate_limit_exceeded", Message: no.Error(g.Name())}
		switch {
		case !no.Reset.IsZero() && !no.Busy:
			e.Type, e.Code = "insufficient_quota", "insufficient_quota"
			return e, 0
		case no.What == "concurrent":
			e.Type = "requests"
		case no.What != "requests":
			e.Type = "tokens"
		}
		return e, max(no.Wait, retryAfterMin)
	}
	x.keyHold = hold
	if spent.Period != "" && !x.freeOnly(spent) {
		x.settleKey()
		e := &wire.Error{Status: 429, Type: "insufficient_quota", Code: "insufficient_quota",
			Message: "No target that costs nothing is left for the key " + g.Name() + ": " + x.plan.passed(skipBudget)}
		if spent.Busy {
			e.Type, e.Code = "tokens", "rate_limit_exceeded"
			return e, retryAfterMin
		}
		return e, 0
	}
	return nil, 0
}

// reckon is what the exchange may use: its prompt and an answer as long as it may
// be, or as is reckoned with, at the dearest of its targets.
func (x *exchange) reckon() (ask access.Ask) {
	if !x.grant.Limited() {
		return ask
	}
	out := int64(x.snap.Config.Access.ReserveOutput)
	if n := x.env.MaxTokens; n > 0 {
		out = min(out, int64(n))
	}
	out *= x.choices()
	switch x.surface.path {
	case "/embeddings", "/rerank", "/moderations":
		out = 0
	}
	for i := range x.plan.Steps {
		st := &x.plan.Steps[i]
		if st.Skip {
			continue
		}
		prompt := int64(st.Size.Prompt)
		if prompt == 0 {
			prompt = x.weight / 4
		}
		ask.Tokens = max(ask.Tokens, prompt+out)
		ask.USD = max(ask.USD, st.target.model.Cost.Of(wire.Usage{Input: prompt, Output: out}))
	}
	return ask
}

// choices is how many answers the request asks for, each of which costs as much.
func (x *exchange) choices() int64 {
	most := int64(1)
	for _, name := range [...]string{"n", "best_of"} {
		if v, ok := x.env.Field(x.body, name); ok && x.form == "" {
			if n, ok := wire.Int(v.Of(x.body)); ok {
				most = max(most, min(n, choicesMax))
			}
		}
	}
	return most
}

// choicesMax is what is reckoned with at the most; OpenAI allows 128.
const choicesMax = 1024

// freeOnly leaves targets without a price in the plan, and says whether there is
// any.
func (x *exchange) freeOnly(spent access.Spent) bool {
	left, why := false, spent.String()
	for i := range x.plan.Steps {
		st := &x.plan.Steps[i]
		switch {
		case st.Skip:
		case st.target.model.Cost.Priced():
			st.skip, st.Skip, st.Reason = skipBudget, true, why
		default:
			left = true
		}
	}
	return left
}

// passed says why steps were left out for a reason.
func (p *Plan) passed(why skip) string {
	for i := range p.Steps {
		if st := &p.Steps[i]; st.skip == why {
			return st.Ref + ": " + st.Reason
		}
	}
	return ""
}

// settleKey ends what the exchange holds of its key's account: what its backend has
// counted, or was sent where it did not, is spent.
func (x *exchange) settleKey() {
	if !x.keyHold.Open() {
		return
	}
	u, r := x.receipt.Usage, x.receipt
	if !r.HasUsage {
		u = r.reckoned // as the ledger has it
	}
	usd := 0.0
	if x.cur != nil && r.Model == x.cur.ref {
		usd = x.cur.model.Cost.Of(x.onward.paid(u))
	}
	x.keyHold.Settle(u.Input+u.Output, usd)
}

// usedSome says that a backend has worked for the exchange, so that what it used is
// not nothing though it did not say.
func (x *exchange) usedSome() bool {
	switch x.receipt.Outcome {
	case "ok":
		return true
	case "rejected":
		return false
	}
	return x.content || x.receipt.Outcome == "client_closed" && !x.lastReq.IsZero()
}

// rateHeaders tells the client how its key stands, as OpenAI does.
func (x *exchange) rateHeaders(l *access.Limits, left access.Left) {
	h := &x.ctx.Response.Header
	if l.RequestsPerMinute > 0 {
		h.Set("X-Ratelimit-Limit-Requests", strconv.Itoa(l.RequestsPerMinute))
		h.Set("X-Ratelimit-Remaining-Requests", strconv.Itoa(left.Requests))
		h.Set("X-Ratelimit-Reset-Requests", left.RequestsReset.String())
	}
	if l.TokensPerMinute > 0 {
		h.Set("X-Ratelimit-Limit-Tokens", strconv.Itoa(l.TokensPerMinute))
		h.Set("X-Ratelimit-Remaining-Tokens", strconv.Itoa(left.Tokens))
		h.Set("X-Ratelimit-Reset-Tokens", left.TokensReset.String())
	}
}
