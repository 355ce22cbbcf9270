package proxy

import (
	"bytes"
	"strconv"
	"time"

	"nearside/shaping/wire"
)

// heardComment takes in how far a backend says in a comment that it is with the
// prompt: mlx_lm writes ": keepalive 2048/60000".
func (x *exchange) heardComment() {
	text := x.scan.Comment()
	if text == nil {
		return
	}
	if done, total, ok := promptShare(text); ok {
		x.at.Processed(time.Now(), done, total)
	}
}

// promptShare reads the two numbers at the end of a comment.
func promptShare(text []byte) (done, total int, ok bool) {
	text = bytes.TrimSpace(text)
	text = text[bytes.LastIndexByte(text, ' ')+1:]
	a, b, ok := bytes.Cut(text, []byte("/"))
	if !ok || len(a) > 9 || len(b) > 9 {
		return 0, 0, false
	}
	done, err := strconv.Atoi(string(a))
	if err != nil {
		return 0, 0, false
	}
	total, err = strconv.Atoi(string(b))
	return done, total, err == nil && done >= 0 && total > 0
}

var promptProgress = []byte(`"prompt_progress"`)

// heardProgress takes in how far a backend says in an event that it is with the
// prompt, as llama.cpp does when it is asked to, and says whether the event was
// that and nothing for the client. Of a client that asked for them itself some are
// kept: what is held back until the first content has a bound.
func (x *exchange) heardProgress(data []byte) bool {
	if x.talk != wire.Chat || x.content || !bytes.Contains(data, promptProgress) {
		return false
	}
	at, ok := wire.Get(data, wire.Whole(data), "prompt_progress")
	if !ok {
		return false
	}
	done, total := promptNumber(data, at, "processed"), promptNumber(data, at, "total")
	x.at.Processed(time.Now(), done, total)
	body, env := x.request()
	if _, asked := env.Field(body, "return_progress"); asked && len(x.held.deltas) < heldMax/2 {
		return false
	}
	return true
}

func promptNumber(data []byte, in wire.Span, key string) int {
	v, ok := wire.Get(data, in, key)
	if !ok {
		return 0
	}
	n, err := strconv.Atoi(string(v.Of(data)))
	if err != nil {
		return 0
	}
	return n
}
