package proxy

import (
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/rs/zerolog"

	"nearside/breaker"
	"nearside/shaping"
	"nearside/shaping/wire"
)

// continuation is what an exchange keeps so that another target can go on where
// its stream breaks (Policy.Continue). Nil is that of an exchange whose policy
// says no more than that an error ends it.
type continuation struct {
	told   *shaping.Transcript // nil when nobody could go on
	why    string              // then this is why
	body   []byte              // the request with what was said
	env    wire.Envelope
	going  bool    // a target is asked to go on, or does
	asking bool    // it is asked, and has said nothing yet
	cause  outcome // how the stream broke
	before wire.Usage
	counts bool       // all backends before have counted
	own    wire.Usage // of the last backend alone
}

const noPrefill = "it cannot be told to go on with an answer (compat.assistantPrefill)"

// follows says whether what the client is told is taken down.
func (c *continuation) follows() bool { return c != nil && c.told != nil }

// goes says whether the request is one with what was said.
func (c *continuation) goes() bool { return c != nil && c.going }

// speaks says whether there is text to go on with: without any, the answer
// begins anew.
func (c *continuation) speaks() bool { return c.goes() && len(c.told.Prefill()) > 0 }

// begin has the encoder's text taken down.
func (c *continuation) begin(enc *shaping.StreamEncoder) {
	if c.follows() {
		enc.Follow(c.told)
	}
}

// judge has the next target asked where the request, which is ours now, is what
// was refused.
func (c *continuation) judge(o *outcome) {
	if c != nil && c.asking && o.name != "content_filter" {
		o.next = true
	}
}

// reply is what the client hears when none went on; without a status when no
// target was asked to.
func (c *continuation) reply() wire.Error {
	if !c.goes() {
		return wire.Error{}
	}
	e := c.cause.reply
	e.Message += " (no other target could go on with the answer)"
	return e
}

// dropped adds what a further target does not take.
func (c *continuation) dropped(r *Receipt, names []string) {
	for _, name := range names {
		if !slices.Contains(r.Dropped, name) {
			r.Dropped = append(r.Dropped, name)
		}
	}
}

// count adds what the backends before have counted to what the last has.
func (c *continuation) count(r *Receipt) {
	if !c.goes() {
		return
	}
	c.own = r.Usage
	r.UsagePartial = !c.counts || !r.HasUsage
	if r.HasUsage {
		r.Usage = shaping.Both(c.before, r.Usage)
	} else {
		r.Usage, r.HasUsage = c.before, c.before != wire.Usage{}
	}
}

// paid is what of an answer's usage the target that is named for it has counted.
func (c *continuation) paid(all wire.Usage) wire.Usage {
	if c.goes() {
		return c.own
	}
	return all
}

// follow settles, at the first content, whether what the client is told is taken
// down.
func (x *exchange) follow() {
	if !x.plan.policy.Continue || x.onward != nil || !x.receipt.Stream || x.opaque {
		return
	}
	c := &continuation{counts: true}
	x.onward = c
	body, env := x.request()
	if c.why = shaping.Continuable(body, env, x.surface.dialect); c.why != "" {
		return
	}
	able := x.cur.at != nil && x.shapeOf(x.cur).GoesOn() // it has further endpoints
	for i := x.step; i < len(x.plan.Steps) && !able; i++ {
		st := &x.plan.Steps[i]
		able = !st.Skip && !st.done && st.target.shape(x.surface.dialect).GoesOn()
	}
	if !able {
		c.why = "no further target can be told to go on with an answer (compat.assistantPrefill)"
		return
	}
	c.told = shaping.NewTranscript(x.snap.Config.Fallback.ContinueBytes)
}

// place names a target with the endpoint that is asked, where there are several.
func (t *target) place() string {
	if name := t.endpoint(); name != "" {
		return t.ref + "@" + name
	}
	return t.ref
}

// goOn has the next targets go on with a stream that broke, until its regular
// end. What it returns otherwise ends the stream.
func (x *exchange) goOn(enc *shaping.StreamEncoder, err error) error {
	c := x.onward
	for {
		if x.broken() != nil || errors.Is(err, errExchange) {
			return err
		}
		o, now := x.outcome(err), time.Now()
		x.tally(err, &o, now)
		why := c.cannot(&o)
		x.miss(x.cur, o.name, o.overflow())
		if why == "" {
			why = x.mayGoOn(&o, now)
		}
		if why != "" {
			x.receipt.NotContinued = why
			x.s.meter.Continued("impossible")
			x.spill(enc)
			return err
		}
		from := x.cur.place()
		x.part(&o)
		if e := c.say(x); e != nil {
			return e
		}
		asked := x.advance()
		c.asking = false
		if asked != nil {
			if errors.Is(asked, errLost) {
				x.s.meter.Continued("failed")
			}
			return asked
		}
		x.s.meter.Continued("ok")
		x.receipt.Continued = append(x.receipt.Continued, Continued{From: from, To: x.cur.place(), After: len(c.told.Text()), Cause: o.name})
		if err = x.resume(enc); err == nil {
			return nil
		}
	}
}

// cannot says why no target is asked to go on.
func (c *continuation) cannot(o *outcome) string {
	switch {
	case c.told == nil:
		return c.why
	case !o.next:
		return "another target would not be asked to answer in its place (" + o.name + ")"
	case c.told.Fault() != "":
		return c.told.Fault()
	}
	return ""
}

// mayGoOn says why no target is asked to go on though it could; empty when one is.
// It is a further try like any other, of a prompt that was read.
func (x *exchange) mayGoOn(o *outcome, now time.Time) string {
	elsewhere := x.elsewhere(o, now)
	if !elsewhere && !x.more() {
		return "no further target is left"
	}
	name, why := x.withhold(elsewhere, false, now)
	if name != "" {
		x.stop(name, why, elsewhere)
	}
	return why
}

// part ends the attempt of the target whose stream broke.
func (x *exchange) part(o *outcome) {
	c := x.onward
	now := time.Now()
	if (o.verdict == breaker.Bad || o.provider == breaker.BadConnect) && !x.wayLost() {
		x.cur.breaker.Sample(breaker.Bad)
	}
	x.noteFailure(now, o, x.at.Phase())
	x.mended()
	usage, counted := x.dec.Usage()
	c.before, c.counts = shaping.Both(c.before, usage), c.counts && counted
	x.at.Close()
	x.leaveLine(0, now)
	x.trying = false
	c.cause, x.failed = *o, outcome{}
	x.content, x.mute = false, false
	if first := x.snap.Config.Beat.First; first > 0 {
		x.nextTick = now.Add(first)
	}
	x.shaped = x.s.requests.Get().(*shaping.Request)
}

// say makes the request that asks to go on.
func (c *continuation) say(x *exchange) error {
	c.going = false
	body, env := x.request()
	said := c.told.Prefill()
	tokens := c.before.Output
	if !c.counts {
		tokens = int64(len(c.told.Text()) / 4) // as requests are estimated
	}
	c.body = shaping.GoOn(body, env, x.surface.dialect, said, tokens)
	limits := &x.snap.Config.Limits
	c.going, c.asking = true, true
	return wire.Scan(c.body, wire.ScanLimits{Depth: limits.Depth, Fields: limits.Fields}, &c.env)
}

// resume tells what the target that goes on says, to its regular end.
func (x *exchange) resume(enc *shaping.StreamEncoder) error {
	enc.SetModel(x.served())
	enc.GoOn(x.talk, &x.turn, x.onward.before)
	x.mute = true
	if first := x.snap.Config.Beat.First; first > 0 {
		x.nextTick = time.Now().Add(first)
	}
	x.held.each(func(d shaping.Delta) { x.out = enc.Delta(x.out, d) })
	x.receipt.Events += len(x.held.deltas)
	x.held.reset()
	x.mute = enc.Sewing()
	x.readAt = time.Now()
	x.lastEvent = x.readAt
	if !x.closed && (!x.finished || x.talk != wire.Responses) {
		x.at.Progress(x.readAt)
		if err := x.relay(enc); err != nil {
			return err
		}
	}
	var e *wire.Error
	if x.out, e = enc.End(x.out); e != nil {
		return e
	}
	if !enc.Sewn() {
		// It ended where it was to go on: nothing shows that the answer is whole.
		return &wire.Error{Status: 502, Type: "server_error", Code: "empty_answer", Message: "the backend had nothing to go on with"}
	}
	return nil
}

// Continued is a stream that broke and was gone on with by another target.
type Continued struct {
	From  string `json:"from"`
	To    string `json:"to"`
	After int    `json:"after_bytes"` // of text
	Cause string `json:"cause"`
}

// appendContinued appends what the late facts say of it.
func (r *Receipt) appendContinued(b []byte) []byte {
	for i := range r.Continued {
		c := &r.Continued[i]
		if i == 0 {
			b = append(b, `,"continued":[`...)
		} else {
			b = append(b, ',')
		}
		b = append(append(b, `{"from":`...), wire.AppendString(nil, c.From)...)
		b = append(append(b, `,"to":`...), wire.AppendString(nil, c.To)...)
		b = strconv.AppendInt(append(b, `,"after_bytes":`...), int64(c.After), 10)
		b = append(append(b, `,"cause":`...), wire.AppendString(nil, c.Cause)...)
		b = append(b, '}')
	}
	if len(r.Continued) > 0 {
		b = append(b, ']')
		if r.UsagePartial {
			b = append(b, `,"usage_partial":true`...)
		}
	}
	return b
}

// logContinued says it in the exchange's line.
func (r *Receipt) logContinued(e *zerolog.Event) {
	if n := len(r.Continued); n > 0 {
		e.Int("continued", n).Str("continued_from", r.Continued[n-1].From).Str("continued_cause", r.Continued[n-1].Cause)
	}
	if r.NotContinued != "" {
		e.Str("not_continued", r.NotContinued)
	}
}
