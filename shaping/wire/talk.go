package wire

// Talk says what stands in the messages of a chat request: what rules look for,
// found while the body was scanned. A bit that is set may be so without need,
// one that is not set is sure.
type Talk uint16

// The bits.
const (
	TalkDeveloper   Talk = 1 << iota // a message of the developer's
	TalkSystemLater                  // one of the system's or developer's behind another message
	TalkRepeats                      // two of the user's, or of the assistant's, on end
	TalkParts                        // a content that is a list
	TalkSilent                       // a message that may say nothing, or has no content
	TalkTools                        // a call, or a result of one
	TalkUnpaired                     // a call that is not answered once, right behind it, or an answer to none
	TalkReasons                      // a member with reasoning

	// TalkAny is what is not known: a message that is none, or spells its members
	// with escapes or twice.
	TalkAny Talk = 1<<iota - 1
)

// talkCalls bounds the calls that are open at once; with more TalkUnpaired is
// set.
const talkCalls = 16

// place is a Span that takes less of Scan's stack; bodies are smaller than 4 GiB.
type place struct{ start, end uint32 }

func (at place) of(p []byte) []byte { return p[at.start:at.end] }

func placeOf(at Span) place { return place{uint32(at.Start), uint32(at.End)} }

// talkKey is a member of a message that matters.
type talkKey uint8

const (
	talkOther talkKey = iota
	talkRole
	talkContent
	talkCallList // tool_calls
	talkCall     // function_call
	talkID       // tool_call_id
	talkReason
)

type talkRoleKind uint8

const (
	talkNobody talkRoleKind = iota
	talkSystem
	talkUser
	talkAssistant
	talkTool
)

// talker collects the Talk of one body.
type talker struct {
	all Talk
	n   int          // messages
	was talkRoleKind // of the last message

	open  [talkCalls]place // ids of the calls that are not answered yet
	opens int

	// Of the present message:
	key    talkKey
	seen   uint8 // bits of its keys
	role   talkRoleKind
	has    bool // a content that is not null
	says   bool
	calls  bool
	answer place // tool_call_id
	mine   [talkCalls]place
	mines  int
	lost   bool  // a call without an id, or one too many
	inside uint8 // what the last key of an object within it was
	id     place // of the present call
}

// Keys of objects within a message.
const (
	insideOther uint8 = iota
	insideID
	insideText
)

// member takes the key of a message: depth 3 of the body, and 5 within calls
// and parts.
func (t *talker) member(name []byte, escaped bool, depth int) {
	if depth == 5 {
		t.inside = insideOther
		switch string(name) {
		case "id":
			t.inside = insideID
		case "text":
			t.inside = insideText
		}
		if escaped {
			t.all = TalkAny
		}
		return
	}
	t.key = talkOther
	switch string(name) {
	case "role":
		t.key = talkRole
	case "content":
		t.key = talkContent
	case "tool_calls":
		t.key = talkCallList
	case "function_call":
		t.key = talkCall
	case "tool_call_id":
		t.key = talkID
	case "reasoning_content", "reasoning", "reasoning_text", "reasoning_details":
		t.key = talkReason
		return // one beside another is no riddle
	}
	if bit := uint8(1) << t.key; escaped || t.key != talkOther && t.seen&bit != 0 {
		t.all = TalkAny
	} else {
		t.seen |= bit
	}
}

// text takes a string: the value of a message's member, or of one within.
func (t *talker) text(p []byte, at Span, escaped bool, depth int) {
	said := p[at.Start+1 : at.End-1]
	switch {
	case depth == 5 && t.inside == insideText && t.key == talkContent:
		t.says = t.says || tells(said)
	case depth == 5 && t.inside == insideID && t.key == talkCallList:
		t.id = placeOf(at)
		t.lost = t.lost || escaped || len(said) == 0
	case depth == 4 && t.key == talkContent: // a part that is a bare string
		t.says = true
	case depth != 3:
	case t.key == talkRole:
		switch string(said) {
		case "system":
			t.role = talkSystem
		case "developer":
			t.role = talkSystem
			t.all |= TalkDeveloper
		case "user":
			t.role = talkUser
		case "assistant":
			t.role = talkAssistant
		case "tool":
			t.role = talkTool
		}
		if escaped {
			t.all = TalkAny
		}
	case t.key == talkContent:
		t.has, t.says = true, tells(said)
	case t.key == talkID:
		t.answer = placeOf(at)
		t.lost = t.lost || escaped
	case t.key == talkReason:
		t.all |= TalkReasons
	}
}

// tells says whether a string certainly is more than white space.
func tells(inside []byte) bool {
	return len(inside) > 0 && inside[0] > ' ' && inside[0] != '\\'
}

// other takes a value that is neither a string nor a container.
func (t *talker) other(first byte, depth int) {
	switch {
	case depth == 2:
		t.all = TalkAny
	case depth != 3 || first == 'n':
	case t.key == talkContent:
		t.says = true // what it says is the backend's business
	case t.key == talkReason:
		t.all |= TalkReasons
	}
}

// enter takes the beginning of a container in one of depth.
func (t *talker) enter(c byte, depth int) {
	switch depth {
	case 2:
		if c != '{' {
			t.all = TalkAny
		}
		t.key, t.seen, t.role, t.answer, t.mines = talkOther, 0, talkNobody, place{}, 0
		t.has, t.says, t.calls, t.lost = false, false, false, false
	case 3:
		switch t.key {
		case talkContent:
			t.has = true
			if c == '[' {
				t.all |= TalkParts
			} else {
				t.says = true
			}
		case talkCall:
			t.calls = t.calls || c == '{'
		case talkReason:
			t.all |= TalkReasons
		}
	case 4:
		if t.key == talkCallList && c == '{' {
			t.calls, t.id = true, place{}
			t.all |= TalkTools
		}
		if c == '{' {
			t.inside = insideOther
		}
	case 5:
		t.says = t.says || t.key == talkContent // a part that is more than text
	}
}

// leave takes the end of a container in one of depth.
func (t *talker) leave(p []byte, depth int) {
	switch {
	case depth == 2:
		t.message(p)
	case depth == 4 && t.key == talkCallList:
		if t.id.end == 0 || t.mines == talkCalls {
			t.lost = true
			return
		}
		t.mine[t.mines] = t.id
		t.mines++
	}
}

// message takes the end of a message.
func (t *talker) message(p []byte) {
	switch t.role {
	case talkSystem:
		if t.n > 0 {
			t.all |= TalkSystemLater
		}
	case talkUser, talkAssistant:
		if t.role == t.was {
			t.all |= TalkRepeats
		}
	case talkTool:
		t.all |= TalkTools
	}
	if !t.says && !t.calls && (t.role != talkTool || !t.has) {
		t.all |= TalkSilent
	}
	if t.role == talkTool {
		t.answered(p)
	} else {
		if t.opens > 0 {
			t.all |= TalkUnpaired
		}
		if t.role == talkAssistant {
			if t.lost {
				t.all |= TalkUnpaired
			}
			t.opens = copy(t.open[:], t.mine[:t.mines])
		}
	}
	t.was = t.role
	t.n++
}

// answered takes a result's id off those of the open calls.
func (t *talker) answered(p []byte) {
	if !t.lost && t.answer.end > 0 {
		id := string(t.answer.of(p))
		for i, open := range t.open[:t.opens] {
			if string(open.of(p)) == id {
				t.opens--
				t.open[i] = t.open[t.opens]
				return
			}
		}
	}
	t.all |= TalkUnpaired
}

// end takes the end of the messages.
func (t *talker) end() Talk {
	if t.opens > 0 {
		t.all |= TalkUnpaired
	}
	return t.all
}
