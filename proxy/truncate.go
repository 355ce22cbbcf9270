package proxy

import (
	"slices"
	"strconv"

	"nearside/shaping/wire"
)

// With truncation: "auto" a Responses request whose context is too long is made
// shorter instead of refused: its oldest items go, a quarter at a time.
const (
	truncationsMax = 12 // then a thirtieth is left, and the refusal stands
	truncatedPart  = 4  // of the bytes that may go, this part goes each time
)

// shortened is what of a request is sent once items were dropped. The request
// itself stays as it was: it is echoed and stored whole.
type shortened struct {
	body  []byte
	env   wire.Envelope
	items int // dropped so far
	times int
}

// request is the request as backends are to get it.
func (x *exchange) request() ([]byte, *wire.Envelope) {
	switch {
	case x.onward.goes():
		return x.onward.body, &x.onward.env
	case x.short != nil:
		return x.short.body, &x.short.env
	}
	return x.body, &x.env
}

// truncates says whether the request wants to be made shorter rather than
// refused.
func (x *exchange) truncates() bool {
	if x.surface.dialect != wire.Responses || x.form != "" {
		return false
	}
	v, ok := x.env.Field(x.body, "truncation")
	return ok && wire.EqualString(v.Of(x.body), "auto")
}

// truncate drops the oldest items of the input, if the request asked for that
// and there are any that may go. Instructions, tools and summaries that stand in
// the input stay, and so do its last item and what that answers. A call goes
// with its output.
func (x *exchange) truncate() bool {
	if x.surface.dialect != wire.Responses || x.onward.goes() || x.short != nil && x.short.times == truncationsMax {
		return false
	}
	p, env := x.request()
	if v, ok := env.Field(p, "truncation"); !ok || !wire.EqualString(v.Of(p), "auto") {
		return false
	}
	at, ok := env.Field(p, "input")
	if !ok || p[at.Start] != '[' {
		return false
	}
	items := older(p, at)
	may := 0
	for i := range items {
		if !items[i].stays {
			may += items[i].at.End - items[i].at.Start
		}
	}
	if may == 0 {
		return false
	}
	gone := map[string]bool{} // ids of calls
	bytes, n := 0, 0
	b := append(make([]byte, 0, len(p)), p[:at.Start+1]...)
	for i := range items {
		it := &items[i]
		switch {
		case !it.stays && bytes*truncatedPart < may:
			bytes += it.at.End - it.at.Start
			if it.call != "" && !it.answer {
				gone[it.call] = true
			}
			n++
			continue
		case it.answer && gone[it.call]:
			n++
			continue
		}
		if b[len(b)-1] != '[' {
			b = append(b, ',')
		}
		b = append(b, it.at.Of(p)...)
	}
	b = append(append(b, ']'), p[at.End:]...)
	limits := &x.snap.Config.Limits
	var scan wire.Envelope
	if wire.Scan(b, wire.ScanLimits{Depth: limits.Depth, Fields: limits.Fields}, &scan) != nil {
		return false // it scanned before: nothing was added
	}
	was := x.short
	x.short = &shortened{body: b, env: scan, items: n, times: 1}
	if was != nil {
		x.short.items += was.items
		x.short.times += was.times
	}
	x.receipt.Truncated = x.short.items
	return true
}

// oldItem is one item of an input.
type oldItem struct {
	at     wire.Span
	call   string // the id of the call that it is, or that it answers
	answer bool
	stays  bool
}

// older lists the items of an input and says which may not be dropped.
func older(p []byte, at wire.Span) []oldItem {
	var items []oldItem
	for it := wire.Elements(p, at); it.Next(); {
		kind, _, role := itemHead(p, it.Value)
		item := oldItem{at: it.Value}
		if v, ok := wire.Get(p, it.Value, "call_id"); ok {
			item.call = unquoted(v.Of(p))
			item.answer = len(kind) > 7 && kind[len(kind)-7:] == "_output"
		}
		switch kind {
		case "", "message":
			item.stays = role == "system" || role == "developer"
		case "additional_tools", "compaction", "context_compaction":
			item.stays = true
		}
		items = append(items, item)
	}
	// The last item stays; where outputs are the last, all of them with their calls.
	var calls []string
	for i := len(items) - 1; i >= 0; i-- {
		it := &items[i]
		it.stays = it.stays || i == len(items)-1
		if !it.answer {
			break
		}
		it.stays = true
		calls = append(calls, it.call)
	}
	for i := range items {
		if it := &items[i]; it.call != "" && !it.answer && slices.Contains(calls, it.call) {
			it.stays = true
		}
	}
	return items
}

// cut notes what was dropped of the input among the fields that were.
func (x *exchange) cut() {
	if x.short != nil {
		x.receipt.Dropped = append(x.receipt.Dropped, "input")
	}
}

// shorter ends an attempt whose backend finds the context too long, if the
// request can be made shorter for it: the same target is tried again.
func (x *exchange) shorter(err error) bool {
	if x.surface.dialect != wire.Responses {
		return false
	}
	o := x.outcome(err)
	if o.name != "context_length_exceeded" || !x.truncate() {
		return false
	}
	x.abandonFor(o.name, "the context is too long: "+strconv.Itoa(x.short.items)+" of the oldest items are dropped (truncation: auto)")
	x.onceMore()
	return true
}
