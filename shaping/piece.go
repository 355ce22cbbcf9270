package shaping

import "nearside/shaping/wire"

// pieceKind says what a piece of an answer is.
type pieceKind uint8

const (
	pieceBegin      pieceKind = iota + 1 // the answer has begun: id, name (its model) and json (its creation time, a number), as far as they were said
	pieceText                            // raw: text
	pieceReasoning                       // raw: thinking
	pieceRefusal                         // raw: a refusal
	pieceBreak                           // the text, reasoning or refusal that is open ends; what follows of the same kind begins a new part
	pieceSignature                       // raw: what proves the reasoning before it to its maker
	pieceSealed                          // raw: reasoning that only its maker can read
	pieceCall                            // a call begins: call, id (empty where the backend gave none), name, space
	pieceInput                           // raw: more of a call's arguments, or of a custom call's input
	pieceCallEnd                         // a call is whole
	pieceLogprobs                        // json: an array of log probabilities of the text before it, chat's and responses' spelling
	pieceAnnotation                      // json: an annotation of the text before it, responses' spelling
	pieceItem                            // json: a whole output item of responses that other dialects have no word for
	pieceFinish                          // name: why the answer ended, in chat's words (stop, length, tool_calls, content_filter); raw: the stop sequence that did, if one is named
	pieceUsage                           // usage: what the backend counted, the latest
)

// A piece is the smallest thing that an answer says, whichever dialect it was
// said in: readers take answers apart into pieces, writers put them together
// again in the client's dialect. Texts (raw, id, name) are the inside of JSON
// strings as they were written, escapes and all, so that what goes from one
// JSON text to another is never decoded. They are valid until the reader is
// used again.
//
// Order: pieceBegin first and once; pieceCall before the call's pieceInput;
// calls are numbered from 0 in order of appearance and may be interleaved;
// pieceFinish once, pieceUsage before or after it.
type piece struct {
	kind   pieceKind
	custom bool // pieceCall: the backend itself called a custom tool, whose input is text
	call   int
	id     []byte
	name   []byte
	space  []byte // pieceCall: the namespace of the name, if the backend itself said one
	raw    []byte
	json   []byte
	usage  wire.Usage
}

// A reader takes the answer of a backend apart, one attempt long. It expects
// what its dialect's decoder has found no fault in, is lenient about all else,
// and allocates nothing per event once its buffers have grown. reset makes it
// as new.
type reader interface {
	reset()
	// event appends the pieces of one event of a stream.
	event(dst []piece, name, data []byte) []piece
	// whole appends the pieces of a whole answer.
	whole(dst []piece, body []byte) []piece
	// end appends what was held back when a stream has ended regularly.
	end(dst []piece) []piece
}
