package proxy

import "nearside/shaping/wire"

// resetMender makes the mender ready for the answer of a target.
func (x *exchange) resetMender(t *target) {
	if x.form != "" {
		x.mend.Reset(nil, nil, wire.Span{})
		return
	}
	body, env := x.request()
	if len(x.shaped.Body) > 0 {
		body, env = x.shaped.Body, &x.shaped.Env
	}
	tools := env.Tools
	if wire.EqualString(env.ToolChoice.Of(body), "none") {
		tools = wire.Span{} // there are some, but none may be called
	}
	x.mend.Reset(x.shapeOf(t).Mend(), body, tools)
}

// mended notes in the receipt what was mended of the answer so far.
func (x *exchange) mended() {
	n := x.mend.Notes()
	if !n.Any() {
		return
	}
	r := x.receipt
	r.Promoted, r.Hidden, r.Split = n.Promoted, n.Hidden, n.Split
	r.Repaired = n.Repaired(r.Repaired[:0])
	if n.Look.Kind != "" {
		look := n.Look
		r.Look = &look
	}
}

// warn tells of text that only looked like a call: the model was to call a tool
// and nothing will come of it, which nobody sees who looks at the status alone.
func (x *exchange) warn() {
	r := x.receipt
	if r.Look != nil {
		x.s.log.Warn().Str("request", r.ID).Str("provider", r.Provider).Str("model", r.Model).Str("pattern", r.Look.Kind).
			Str("tool", r.Look.Tool).Bool("registered", r.Look.Known).Msg("the answer looks like a tool call and is none; it stays text")
	}
	if len(r.Hidden) > 0 {
		x.s.log.Warn().Str("request", r.ID).Str("provider", r.Provider).Str("model", r.Model).Str("pattern", "bracketed_tool_call").
			Strs("tools", r.Hidden).Msg("text in the form of a tool call was hidden: it is none that can be made")
	}
}
