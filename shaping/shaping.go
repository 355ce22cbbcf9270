// Package shaping owns what changes between a client's request and a backend's,
// and between a backend's answer and the client's: the rules, the whole answer
// and the stream, there and back. It does no I/O and never meets upstream.
package shaping

import (
	"nearside/catalog"
	"nearside/shaping/wire"
)

// Change is one difference between what came and what is sent, with the rule
// that caused it. The Edit is for people: its Span covers the value in the
// client's body (empty at the place of something added), With is the new value,
// empty when the value is not sent. What is spliced is in Request.Edits.
type Change struct {
	wire.Edit
	Was     []byte // what stood there, where a rule changed what another had made; nil for what Span covers
	Path    string // JSON path of what changes: "model", "messages[2].content"
	Rule    string // name of the rule
	Why     string // one sentence, with the setting that turns it off
	Source  string // where that setting was said: "profile ollama"; empty where the rule is no matter of choice
	Dropped bool   // something the client said is not sent
}

// Request is a shaped request: the client's body with Changes applied. It is
// reusable; Shape.Request resets it and keeps its capacity. Edits are sorted
// and do not overlap; a later rule that covers an earlier one's bytes replaces
// its edit but both stay in Changes, which are in the order of application for
// explain. Edits and Changes are valid until the next use; they do not hold on
// to the client's body.
type Request struct {
	// Body is the client's body in the backend's dialect, to be spliced in the
	// place of the client's; empty where both speak the same. Where it is not
	// empty the answer must be retold, whatever Shape.Retells says.
	Body []byte

	Edits   []wire.Edit // what to splice into the body
	Changes []Change    // the same for people, in the order of application
	Dropped []string    // paths that were dropped, for x-nearside-dropped: "store", "reasoning.effort"
	Path    string      // below the base URL: "/chat/completions"; empty keeps the client's own
	// Headers are further header lines to send, each with its line end.
	Headers []byte
	// Format says that the answer's format is one that the backend does not hold
	// the model to: one of the Format words, empty otherwise. FormatSchema is the
	// JSON schema that was asked for, if any.
	Format       string
	FormatSchema []byte
	// AskedUsage says that stream_options.include_usage is our addition, so
	// that usage must be hidden from the client.
	AskedUsage bool

	// Room, Images and GoesOn are what the caller knows of this target and request. They
	// are set before Shape.Request, which forgets them.
	Room   Room
	Images []Image // that were fetched for a backend of which Shape.DataImages is true
	// GoesOn says that the body ends with what was said of its answer (GoOn), and
	// the backend is to go on from there; only where Shape.GoesOn is true.
	GoesOn bool

	scratch []byte
	draft   *draft // while it is made; nil otherwise

	// Turn is what the translation of the answer must be told.
	Turn Turn
	hub  []byte // a request between two translations
	// Env is Body's scan.
	Env     wire.Envelope
	origins []int  // see translation
	paired  []byte // a request before its translation, and its scan
	before  wire.Envelope
}

// Room is what the model's context window leaves for the answer. The zero value
// says that nothing is known of it.
type Room struct {
	Left   int    // tokens; 0 when the window is not known
	Prompt int    // what the prompt is estimated at
	Window int    // tokens
	From   string // the setting or the server that says so
}

// Shape is the translation and rules for one client dialect and one target. It
// is immutable and may be used concurrently.
type Shape struct {
	model   *catalog.Model
	compat  catalog.Compat    // the flags in effect
	from    map[string]string // where each of them was said
	client  wire.Dialect
	backend wire.Dialect // the same, or another one that requests are translated to
	opt     Options
	path    string // see Request.Path
	native  bool   // an OpenAI address: nothing is stripped there
	rules   []Rule // those that can apply, in order
	// pairsFirst is the rule that puts results behind their calls, for a chat
	// request which is translated: no other dialect can say one in disorder.
	pairsFirst *Rule
	facts                  // what the rules precomputed
	mend       MendOptions // see Mend
}

// Options are the settings of translations.
type Options struct {
	// Sealer makes and opens the envelopes in which a stateless client carries
	// reasoning; nil makes and opens none.
	Sealer *Sealer
	// SystemMessages says what becomes of system and developer messages behind
	// the first, for a chat backend that is not OpenAI: SystemKeep (the default,
	// also when empty), SystemHoist for templates that want them all at the head
	// (Qwen's fail otherwise), or SystemUser. What the provider says stands above.
	SystemMessages string
	// Lean leaves the heaviest tools out for models near at hand, where their
	// compat.lean says nothing else.
	Lean bool
	// Learned are the flags that the model's backend taught by refusing; nil for
	// none.
	Learned *catalog.Compat
	// UnsupportedImages says what becomes of images for a model that reads none:
	// ImagesNext (the default, also when empty), ImagesError or ImagesPlaceholder.
	UnsupportedImages string
}

// because says where a flag was said, for people: "profile ollama".
func (s *Shape) because(flag string) string { return s.from[flag] }

// systemMessages is what holds for this model.
func (s *Shape) systemMessages() string {
	if own := s.model.Provider.SystemMessages; own != "" {
		return own
	}
	return s.opt.SystemMessages
}

// Backend returns the dialect in which the backend is asked.
func (s *Shape) Backend() wire.Dialect { return s.backend }

// Retells says that answers are taken apart and put together again rather than
// copied: the backend speaks another dialect, or it is a model server's
// Responses, which nearly all of them spell in ways that clients stumble over
// (no parts, ids that change, a last event without its output). OpenAI's own and
// those of hosted providers are copied.
func (s *Shape) Retells() bool {
	if s.backend != s.client {
		return true
	}
	if s.client != wire.Responses {
		return false
	}
	return !s.native && (s.model.Provider.Near || s.functionsOnly())
}

// Delta says what one event of a backend's stream carries. Data and Name point
// into the caller's buffer.
type Delta struct {
	Name    []byte // event name, empty for chat
	Data    []byte
	Content bool // text, reasoning, refusal or a tool call: what commits an exchange
	Finish  bool // a regular end was said: finish_reason, response.completed or incomplete
	Usage   bool // carries usage; Decoder.Usage has it
	Done    bool // the [DONE] marker: nothing may follow
	// Text is the place in Data of a string's inside that is content; absent when
	// there is none, or the dialect is Responses. Of several it is the last.
	Text wire.Span
	// Like is the same for events that differ from one another in nothing but
	// Text; 0 when that is not known.
	Like uint32
}

// A Decoder reads one backend's stream, one attempt long. Event and End return
// a *wire.Error when the backend reported a failure inside its stream, or one
// of the Err values of this package.
type Decoder interface {
	Event(ev wire.Event) (Delta, error)
	End() error // was the end of the body a real end?
	Usage() (wire.Usage, bool)
}

// An Encoder writes one client's stream, one exchange long: ids, sequence
// numbers, what the client was already told, and the one terminal event live
// there. All methods append whole frames to dst and return it.
type Encoder interface {
	Delta(dst []byte, d Delta) []byte
	Heartbeat(dst []byte) []byte
	// Finish ends the stream: regularly when cause is nil, else with the
	// dialect's error event and no synthetic finish. late, when not empty, is a
	// JSON object for the key "nearside" of the last event.
	Finish(dst []byte, cause *wire.Error, late []byte) []byte
}
