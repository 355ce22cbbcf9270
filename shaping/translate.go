package shaping

import (
	"fmt"

	"nearside/catalog"
	"nearside/shaping/wire"
)

// translation rewrites one request's body for a backend of another dialect.
// Chat is the hub: between Responses and Messages a request goes through it. On
// its way it may carry what no chat backend knows, in the spellings that are in
// use elsewhere:
//
//   - reasoning_content and reasoning_details (OpenRouter's: reasoning.text with
//     signature, reasoning.encrypted with data) of assistant messages;
//   - cache_control of parts and tools, as Anthropic spells it;
//   - image_url and file parts in tool messages, is_error beside their content;
//   - file parts with file_url;
//   - custom tools, as OpenAI's chat has them.
//
// What is written for a chat backend itself (last) must do without these.
type translation struct {
	shape *Shape
	turn  *Turn
	out   *Request
	last  bool // the result is for the backend and not for a further step
	// origins says which element of the client's own list (key) each hub message
	// came from, so that an error of the second step names the client's path.
	key     string
	origins []int
}

// Origins of hub messages that came from no element of the client's list.
const (
	originInstructions = -1 // the request's instructions
	originWhole        = -2 // an input that is one string
)

// translateRule is the name under which explain shows what a translation did.
const translateRule = "translate"

// drop notes that something of the client's is not sent. path is the client's.
func (t *translation) drop(path, why string) {
	if path == "" { // a member without a name
		path = `""`
	}
	t.out.Changes = append(t.out.Changes, Change{Path: path, Rule: translateRule, Why: why, Dropped: true})
	for _, p := range t.out.Dropped {
		if p == path {
			return
		}
	}
	t.out.Dropped = append(t.out.Dropped, path)
}

// did notes a change of meaning that is no drop: something added, or said in
// other words.
func (t *translation) did(path, why string) {
	t.out.Changes = append(t.out.Changes, Change{Path: path, Rule: translateRule, Why: why})
}

// message returns the client's path of hub message i.
func (t *translation) message(i int) string {
	if i < len(t.origins) {
		switch t.origins[i] {
		case originInstructions:
			return "instructions"
		case originWhole:
			return t.key
		}
		return fmt.Sprintf("%s[%d]", t.key, t.origins[i])
	}
	return fmt.Sprintf("messages[%d]", i)
}

// step writes body in another dialect at the end of dst.
type step func(t *translation, dst, body []byte, env *wire.Envelope) ([]byte, error)

// steps returns the way from a client's dialect to a backend's, or nil.
func steps(client, backend wire.Dialect) []step {
	switch [2]wire.Dialect{client, backend} {
	case [2]wire.Dialect{wire.Responses, wire.Chat}:
		return []step{chatFromResponses}
	case [2]wire.Dialect{wire.Responses, wire.Messages}:
		return []step{chatFromResponses, messagesFromChat}
	case [2]wire.Dialect{wire.Chat, wire.Responses}:
		return []step{responsesFromChat}
	case [2]wire.Dialect{wire.Chat, wire.Messages}:
		return []step{messagesFromChat}
	case [2]wire.Dialect{wire.Messages, wire.Chat}:
		return []step{chatFromMessages}
	case [2]wire.Dialect{wire.Messages, wire.Responses}:
		return []step{chatFromMessages, responsesFromChat}
	}
	return nil
}

// translatedDepth bounds the nesting of a translated body: the client's own was
// checked, and a translation adds little.
const translatedDepth = 1024

// way returns the steps of a request, none where it is spliced. A Responses
// request with tools that the model servers we know refuse, or leave out without
// a word, goes through chat too, and comes out with functions. An unknown server
// gets what the client sent.
func (s *Shape) way(body []byte, env *wire.Envelope) []step {
	switch {
	case s.client != s.backend:
		return steps(s.client, s.backend)
	case s.client == wire.Responses && s.functionsOnly() && oddTools(body, env.Tools):
		return []step{chatFromResponses, responsesFromChat}
	}
	return nil
}

// functionsOnly says that the backend is a server which knows functions, of the
// tools that a client runs, and nothing else.
func (s *Shape) functionsOnly() bool {
	switch s.model.Provider.Kind {
	case catalog.KindLMStudio, catalog.KindLlamaCPP, catalog.KindOllama, catalog.KindVLLM, catalog.KindSGLang:
		return true
	}
	return false
}

// oddTools says whether some of a request's tools are run by the client and yet
// no functions.
func oddTools(body []byte, tools wire.Span) bool {
	for it := wire.Elements(body, tools); it.Next(); {
		kind, _ := wire.Get(body, it.Value, "type")
		switch string(kind.Of(body)) {
		case `"custom"`, `"namespace"`, `"tool_search"`, `"local_shell"`, `"shell"`, `"apply_patch"`:
			return true
		}
	}
	return false
}

// translate fills out.Body and out.Env.
func (s *Shape) translate(way []step, body []byte, env *wire.Envelope, out *Request) error {
	t := translation{shape: s, turn: &out.Turn, out: out, origins: out.origins[:0]}
	for i, f := range way {
		dst := &out.Body
		t.last = i == len(way)-1
		if !t.last {
			dst = &out.hub
		}
		var err error
		if *dst, err = f(&t, (*dst)[:0], body, env); err != nil {
			return err
		}
		if err := wire.Scan(*dst, wire.ScanLimits{Depth: translatedDepth}, &out.Env); err != nil {
			return fmt.Errorf("BUG: the translated body does not scan: %w", err)
		}
		body, env = *dst, &out.Env
	}
	out.origins = t.origins
	return nil
}

// speaks returns the dialect in which a model's backend is asked for a client
// of dialect d: the client's own where the backend has it, else the one that it
// is configured for; 0 when there is no way between them.
func speaks(m *catalog.Model, d wire.Dialect) wire.Dialect {
	if m.Speaks(d) {
		return d
	}
	if to := m.Dialect(); steps(d, to) != nil {
		return to
	}
	return 0
}
