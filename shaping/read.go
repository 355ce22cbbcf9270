package shaping

import (
	"bytes"

	"nearside/shaping/wire"
)

const (
	// callsMax bounds the calls, items and parts of one answer that a reader
	// keeps apart: each is looked for among the others. No model comes near it;
	// what is beyond is not told.
	callsMax = 4096
	// heldBytesMax bounds what a reader holds back of one answer.
	heldBytesMax = 1 << 20
)

// inside returns what stands between the quotes of a string, and nothing of any
// other value.
func inside(v []byte) []byte {
	if len(v) < 2 || v[0] != '"' {
		return nil
	}
	return v[1 : len(v)-1]
}

// quoted returns JSON text as the inside of a string, made at the end of buf.
func quoted(buf, v []byte) (grown, raw []byte) {
	start := len(buf) + 1
	buf = wire.AppendQuoted(buf, v)
	return buf, buf[start : len(buf)-1]
}

// Why an answer ended, in chat's words.
var (
	finishStop   = []byte("stop")
	finishLength = []byte("length")
	finishCalls  = []byte("tool_calls")
	finishFilter = []byte("content_filter")
)

// finishWord returns chat's word for the reason that a backend names, whichever
// dialect or taste it is of. Whether calls were made is decided by what was
// seen: servers say stop behind calls, and tool_calls without any.
func finishWord(reason []byte, calls bool) []byte {
	switch string(reason) {
	case "length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded",
		"max_length", "LENGTH", "MAX_TOKENS":
		return finishLength
	case "content_filter", "content-filter", "refusal", "safety", "sensitive", "SAFETY", "RECITATION":
		return finishFilter
	}
	if calls {
		return finishCalls
	}
	return finishStop
}

// told is how much of a text was told, so that what a later event repeats of it
// is not told again: its length and a hash of it (FNV-1a), not the text.
type told struct {
	n   int
	sum uint64
}

func (t *told) add(raw []byte) {
	sum := t.sum
	if t.n == 0 {
		sum = 14695981039346656037
	}
	for _, b := range raw {
		sum = (sum ^ uint64(b)) * 1099511628211
	}
	t.n, t.sum = t.n+len(raw), sum
}

// rest returns what of the whole text was not told yet: nothing when what was
// told reads differently. Both are insides of strings that begin alike, so the
// cut is never within an escape.
func (t *told) rest(whole []byte) []byte {
	if len(whole) <= t.n {
		return nil
	}
	if t.n > 0 {
		var head told
		head.add(whole[:t.n])
		if head != *t {
			return nil
		}
	}
	return whole[t.n:]
}

// logprobs returns the array of log probabilities at v as the Responses dialect
// has it, or nothing when it holds none: bytes that are null become an empty
// list. What must change is made at the end of buf. MLX sends empty objects.
func logprobs(buf, p []byte, v wire.Span) (grown, json []byte) {
	it := wire.Elements(p, v)
	if !it.Next() {
		return buf, nil
	}
	if _, ok := wire.Get(p, it.Value, "token"); !ok {
		return buf, nil
	}
	if !bytes.Contains(v.Of(p), []byte("null")) {
		return buf, v.Of(p)
	}
	start := len(buf)
	s := splice{dst: buf, p: p[:v.End], at: v.Start}
	for it := wire.Elements(p, v); it.Next(); {
		for in := wire.Members(p, it.Value); in.Next(); {
			switch string(in.Key.Of(p)) {
			case "bytes":
				mendBytes(&s, in.Value)
			case "top_logprobs":
				for top := wire.Elements(p, in.Value); top.Next(); {
					if b, ok := wire.Get(p, top.Value, "bytes"); ok {
						mendBytes(&s, b)
					}
				}
			}
		}
	}
	s.close()
	return s.dst, s.dst[start:]
}

func mendBytes(s *splice, v wire.Span) {
	if string(v.Of(s.p)) == "null" {
		s.replace(v, []byte("[]"))
	}
}
