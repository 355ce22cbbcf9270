// Package wire owns the bytes and fields of the dialects: the envelope scan,
// splicing, the SSE scanner, error bodies and usage. It decodes no body, does
// no I/O of its own and imports nothing of ours.
package wire

// Dialect is the wire format of one side of an exchange.
type Dialect uint8

// The dialects. Completions is the legacy text endpoint; Plain stands for the
// endpoints whose bodies are only routed by their model (embeddings, rerank,
// audio, images, moderations).
const (
	Chat Dialect = iota + 1
	Responses
	Messages
	Completions
	Plain
)

// AnthropicVersion is the version of Anthropic's API that backends are asked in,
// where neither the client nor the configuration names another. Later ones
// refuse sampling settings.
const AnthropicVersion = "2023-06-01"

// String returns the dialect's name as logs, metrics and explain show it.
func (d Dialect) String() string {
	switch d {
	case Chat:
		return "chat"
	case Responses:
		return "responses"
	case Messages:
		return "messages"
	case Completions:
		return "completions"
	case Plain:
		return "plain"
	}
	return "none"
}

// Span is a half-open range of offsets in a body. The zero Span means absent.
type Span struct{ Start, End int }

// Present says whether the span covers anything.
func (s Span) Present() bool { return s.End > s.Start }

// Len returns how many bytes the span covers.
func (s Span) Len() int { return s.End - s.Start }

// Of returns the bytes of p that the span covers.
func (s Span) Of(p []byte) []byte { return p[s.Start:s.End] }

// Field is one top-level member of a body: its key without quotes and its value.
type Field struct{ Key, Value Span }

// Envelope is what must be known of a request's body before anything is
// decoded. Offsets point into the scanned body. It is reusable: Scan resets it
// and keeps the capacity of Fields.
type Envelope struct {
	Fields []Field // every top-level member, in the order of the body
	Size   int     // bytes of the body

	Model     Span   // the value, quotes included; absent when the body names none
	ModelName string // decoded

	Stream       bool
	StreamAt     Span
	IncludeUsage bool // stream_options.include_usage is true
	StreamOpts   Span // the value of stream_options

	Messages   Span // chat: messages; responses: input
	Tools      Span
	ToolCount  int // elements of tools
	ToolChoice Span
	MaxTokens  int64 // max_tokens, max_completion_tokens or max_output_tokens; 0 when absent

	Talk       Talk  // what stands in messages, of chat
	Images     bool  // the type of an image part was seen; shaping.MediaOf looks closer
	Audio      bool  // that of an audio part
	Video      bool  // that of a video part
	TextBytes  int64 // bytes inside strings outside data: URLs, an estimate of the prompt's size
	MediaBytes int64 // bytes of data: URLs and base64 payloads

	modelSeen string // the last model's name, kept to save its allocation
}

// Edit replaces Span of a body by With. Start == End inserts. A list of edits
// is sorted by Start and does not overlap.
type Edit struct {
	Span
	With []byte
}

// Usage is what a backend says it counted. Input includes Cached; Output
// includes Reasoning.
type Usage struct {
	Input, Output, Cached, CacheWrite, Reasoning, Total int64
}

// Event is one server-sent event. Data has multi-line data joined by LF. Both
// point into the scanner's buffer and are valid until its next call.
type Event struct {
	Name []byte
	Data []byte
}

// invalidRequest is the type of every error that is the request's fault.
const invalidRequest = "invalid_request_error"

// Error is an error as the OpenAI shape says it. Param and Code are null on
// the wire when empty.
type Error struct {
	Status  int // HTTP status; 0 when none is known
	Message string
	Type    string
	Param   string
	Code    string
}

func (e *Error) Error() string { return e.Message }
