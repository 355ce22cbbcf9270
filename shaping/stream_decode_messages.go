package shaping

import "nearside/shaping/wire"

// message looks at one event of a Messages stream. An error event needs no
// looking at: Event has seen to it.
func (d *CopyDecoder) message(delta *Delta) *wire.Error {
	p := delta.Data
	c := cursor{p: p}
	var kind, block, change wire.Span
	failed, counts := false, false
	for c.enter('{'); c.member(); {
		switch string(c.key) {
		case "type":
			kind = c.value()
		case "content_block":
			block = c.value()
		case "delta":
			change = c.value()
		case "message", "usage":
			v := c.value()
			counts = counts || filled(v.Of(p))
		case "error":
			v := c.value()
			failed = failed || filled(v.Of(p))
		default:
			c.value()
		}
	}
	if !c.end() {
		return malformed()
	}
	name := delta.Name
	if v := inside(kind.Of(p)); len(v) > 0 {
		name = v
	}
	switch {
	case failed, string(name) == "error":
		return reported(p)
	case string(name) == "content_block_delta":
		for it := wire.Members(p, change); it.Next(); {
			switch string(it.Key.Of(p)) {
			case "text", "thinking", "partial_json":
				delta.Content = delta.Content || filled(it.Value.Of(p))
			}
		}
	case string(name) == "content_block_start":
		delta.Content = blockSays(p, block)
	case string(name) == "message_start":
		delta.Usage = counts && d.count(p, wire.Whole(p))
	case string(name) == "message_delta":
		delta.Usage = counts && d.count(p, wire.Whole(p))
		if reason, ok := wire.Get(p, change, "stop_reason"); ok && filled(reason.Of(p)) && !d.ended {
			d.ended, delta.Finish = true, true
			d.meant = explainsSilence(reason.Of(p))
		}
	case string(name) == "message_stop":
		d.done = true
		delta.Done = true
	}
	d.content = d.content || delta.Content
	return nil
}

// blockSays tells whether a content block is more than the beginning of one:
// any call is, text and thinking once they hold something. A signature alone is
// nothing that a client could show.
func blockSays(p []byte, block wire.Span) bool {
	call, holds := false, false
	for it := wire.Members(p, block); it.Next(); {
		v := it.Value.Of(p)
		switch string(it.Key.Of(p)) {
		case "type":
			call = string(v) != `"text"` && string(v) != `"thinking"` && string(v) != `"redacted_thinking"`
		case "text", "thinking", "data":
			holds = holds || filled(v)
		}
	}
	return call || holds
}

// explainsSilence says whether a message may end for this reason without having
// said anything.
func explainsSilence(reason []byte) bool {
	switch string(reason) {
	case `"max_tokens"`, `"model_context_window_exceeded"`, `"refusal"`, `"pause_turn"`, `"stop_sequence"`:
		return true
	}
	return false
}
