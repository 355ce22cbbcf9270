package shaping

import "nearside/shaping/wire"

// A StreamEncoder writes one client's stream whichever dialects its targets
// speak. Events of the client's own dialect are copied, as CopyEncoder does;
// those of another are taken apart by a reader and written by the client's
// writer. What the client was already told (id, creation time, role, numbers)
// is shared by both ways, so a target may change before the first content. It
// may be reused after Reset and is not for concurrent use.
type StreamEncoder struct {
	CopyEncoder
	read   reader // of the present target's dialect; nil: events are copied
	write  writer // of the client's dialect
	from   wire.Dialect
	turn   *Turn
	pieces []piece
	said   said
	follow *Transcript // takes down what is told; nil for nobody
	seam   seam
	before wire.Usage // of the backends before the one that goes on

	// Made when they are first needed: most streams are copied.
	chatIn       *chatReader
	responsesIn  *responsesReader
	messagesIn   *messagesReader
	chatOut      *chatWriter
	responsesOut *responsesWriter
	messagesOut  *messagesWriter
}

var _ Encoder = (*StreamEncoder)(nil)

// A writer puts an answer together in the client's dialect, one exchange long.
type writer interface {
	// reset makes the writer as new, its frames those of e.
	reset(e *StreamEncoder)
	// piece appends the frames of a piece, or nothing yet. When whole is set no
	// frames are made and dst comes back as it was: the answer is only gathered.
	piece(dst []byte, p *piece, whole bool) []byte
	// finish appends the last frames of a regular end, [DONE] where the dialect
	// has it.
	finish(dst []byte, late []byte) []byte
	// fail appends what a failure looks like; a finish that was held back is not
	// told.
	fail(dst []byte, cause *wire.Error, late []byte) []byte
	// whole appends the gathered answer as the body of a whole one.
	whole(dst []byte) []byte
}

// Reset makes the encoder as new and keeps its buffers.
func (e *StreamEncoder) Reset(opt EncoderOptions) {
	e.CopyEncoder.Reset(opt)
	e.read, e.write, e.turn, e.from = nil, nil, nil, 0
	e.follow, e.seam, e.before = nil, seam{pending: e.seam.pending[:0], half: e.seam.half[:0]}, wire.Usage{}
	e.said.reset()
	clear(e.pieces[:cap(e.pieces)])
	e.pieces = e.pieces[:0]
}

// made returns what p points to, which it makes on first use.
func made[T any](p **T) *T {
	if *p == nil {
		*p = new(T)
	}
	return *p
}

// Source says what the events of the next Delta are, before the first content:
// their dialect, whether they are retold even if it is the client's, and what
// the request's translation left for the answer's (nil for nothing). turn must
// stay as it is until Finish or Whole.
func (e *StreamEncoder) Source(from wire.Dialect, retell bool, turn *Turn) {
	e.turn, e.from, e.read, e.write = turn, from, nil, nil
	if from == e.opt.Dialect && !retell {
		return
	}
	switch from {
	case wire.Chat:
		e.read = made(&e.chatIn)
	case wire.Responses:
		e.read = made(&e.responsesIn)
	case wire.Messages:
		e.read = made(&e.messagesIn)
	default:
		return
	}
	switch e.opt.Dialect {
	case wire.Chat:
		e.write = made(&e.chatOut)
	case wire.Responses:
		e.write = made(&e.responsesOut)
	case wire.Messages:
		e.write = made(&e.messagesOut)
	default:
		e.read = nil
		return
	}
	e.said.reset()
	e.read.reset()
	e.write.reset(e)
}

// Delta appends the frames of one event, or nothing.
func (e *StreamEncoder) Delta(dst []byte, d Delta) []byte {
	if e.read == nil {
		dst = e.CopyEncoder.Delta(dst, d)
		if e.follow != nil {
			e.overhear(d)
		}
		return dst
	}
	if e.closed || d.Done || len(d.Data) == 0 {
		return dst
	}
	e.pieces = e.read.event(e.pieces[:0], d.Name, d.Data)
	return e.put(dst, false)
}

// put hands the pieces to the writer. Log probabilities of a text that came with
// it are told with it: its piece has them in json then.
func (e *StreamEncoder) put(dst []byte, whole bool) []byte {
	for i := range e.pieces {
		p := &e.pieces[i]
		if p.kind == pieceText {
			p.json = nil
			if i+1 < len(e.pieces) && e.pieces[i+1].kind == pieceLogprobs {
				p.json = e.pieces[i+1].json
			}
		}
		if p.kind == pieceLogprobs && i > 0 && e.pieces[i-1].kind == pieceText {
			continue
		}
		if e.seam.open {
			dst = e.sew(dst, p)
		} else {
			dst = e.tell(dst, p, whole)
		}
	}
	return dst
}

// tell hands one piece to the writer.
func (e *StreamEncoder) tell(dst []byte, p *piece, whole bool) []byte {
	if e.sift(p) {
		e.said.heed(p)
		if e.follow != nil {
			e.follow.note(p)
		}
		dst = e.write.piece(dst, p, whole)
	}
	return dst
}

// End appends what a regular end still tells, before Finish does the rest. The
// error says that nothing of the answer is left for the client: it must not look
// like a good one, and Finish without a cause ends it with this error.
func (e *StreamEncoder) End(dst []byte) ([]byte, *wire.Error) {
	if e.read == nil || e.closed {
		return dst, nil
	}
	if !e.said.over {
		e.said.over = true
		e.pieces = e.read.end(e.pieces[:0])
		dst = e.put(dst, false)
	}
	return dst, e.said.nothing()
}

// Finish ends the stream and may be called once, as CopyEncoder.Finish.
func (e *StreamEncoder) Finish(dst []byte, cause *wire.Error, late []byte) []byte {
	if e.read == nil {
		return e.CopyEncoder.Finish(dst, cause, late)
	}
	if e.closed {
		return dst
	}
	if cause == nil {
		dst, cause = e.End(dst)
	}
	if cause == nil {
		dst = e.write.finish(dst, late)
	} else {
		dst = e.write.fail(dst, cause, late)
	}
	e.closed = true
	return dst
}

// Whole appends a whole answer of the source's dialect in the client's. Answer
// must have found no fault in it, and Source must have been called with a
// dialect that is not copied. The error is End's.
func (e *StreamEncoder) Whole(dst, body []byte) ([]byte, *wire.Error) {
	e.pieces = e.read.whole(e.pieces[:0], body)
	e.put(nil, true)
	if err := e.said.nothing(); err != nil {
		return dst, err
	}
	return e.write.whole(dst), nil
}
