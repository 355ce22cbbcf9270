package shaping

import "nearside/shaping/wire"

// What an envelope holds is bound to its purpose by its label.
const (
	labelReasoning  = "reasoning"
	labelCompaction = "compaction"
	labelThinking   = "thinking"
)

// sealedReasoning is what an envelope of label reasoning holds, as a small JSON
// object: {"kind":"messages","text":"…","signature":"…","data":"…"}. kind is
// text, or the dialect of the backend that thought as wire.Dialect says it: a signature
// or data is of use to that dialect only, text to all. Members that say nothing
// are left out. All are the insides of JSON strings, escapes and all.
type sealedReasoning struct {
	kind      []byte // text, responses or messages
	text      []byte // the thinking in the clear
	signature []byte // what proves text to its maker
	data      []byte // thinking that only its maker can read
}

// append appends the payload.
func (r *sealedReasoning) append(dst []byte) []byte {
	dst = append(dst, `{"kind":"`...)
	dst = append(dst, r.kind...)
	dst = append(dst, '"')
	dst = appendRawMember(dst, "text", r.text)
	dst = appendRawMember(dst, "signature", r.signature)
	dst = appendRawMember(dst, "data", r.data)
	return append(dst, '}')
}

func appendRawMember(dst []byte, name string, raw []byte) []byte {
	if len(raw) == 0 {
		return dst
	}
	dst = append(dst, `,"`...)
	dst = append(dst, name...)
	dst = append(dst, `":"`...)
	dst = append(dst, raw...)
	return append(dst, '"')
}

// read takes a payload apart; what it finds points into it.
func (r *sealedReasoning) read(payload []byte) {
	*r = sealedReasoning{}
	for it := wire.Members(payload, wire.Whole(payload)); it.Next(); {
		v := it.Value.Of(payload)
		if v[0] != '"' {
			continue
		}
		v = v[1 : len(v)-1]
		switch {
		case it.Is("kind"):
			r.kind = v
		case it.Is("text"):
			r.text = v
		case it.Is("signature"):
			r.signature = v
		case it.Is("data"):
			r.data = v
		}
	}
}

// openReasoning opens the envelope that stands as a JSON string in a request.
// It says false for what is none of ours.
func (s *Sealer) openReasoning(quoted []byte) (r sealedReasoning, ok bool) {
	if s == nil || len(quoted) < 2 {
		return r, false
	}
	// The letters of an envelope need no escape: one that has any is not ours.
	payload, err := s.Open(quoted[1:len(quoted)-1], labelReasoning)
	if err != nil {
		return r, false
	}
	r.read(payload)
	return r, true
}

// SealCompaction appends the envelope that stands in a compaction item for the
// summary of a conversation: of {"text":"…"} under the label compaction.
func (s *Sealer) SealCompaction(dst []byte, summary string) []byte {
	payload := append([]byte(nil), `{"text":`...)
	payload = wire.AppendString(payload, summary)
	return s.Seal(dst, labelCompaction, append(payload, '}'))
}

// openCompaction returns the summary of a compaction item, as the inside of a
// JSON string.
func (s *Sealer) openCompaction(quoted []byte) (text []byte, ok bool) {
	if s == nil || len(quoted) < 2 {
		return nil, false
	}
	payload, err := s.Open(quoted[1:len(quoted)-1], labelCompaction)
	if err != nil {
		return nil, false
	}
	at, ok := wire.Get(payload, wire.Whole(payload), "text")
	if !ok || payload[at.Start] != '"' {
		return nil, false
	}
	return payload[at.Start+1 : at.End-1], true
}

// summaryLead is what the summary of a compaction item is told after.
const summaryLead = "Summary of earlier conversation: "
