package proxy

import (
	"bytes"
	"io"
	"slices"
	"time"

	"nearside/proxy/capture"
)

// CaptureConfig says whose bodies are kept, and how much of them.
type CaptureConfig struct {
	Keys     []string // ids of clients' keys, * for all and for clients without one; empty keeps none
	Body     int      // bytes of a request, and as many of an answer, that are kept at the most
	Queue    int      // bytes that may wait to be written
	MaxAge   time.Duration
	MaxBytes int64 // of all files
	Redact   *capture.Redaction
}

func (c *CaptureConfig) of(key string) bool {
	return len(c.Keys) > 0 && (slices.Contains(c.Keys, "*") || key != "" && slices.Contains(c.Keys, key))
}

// capture begins to take down an exchange whose key is known, where its bodies are
// to be kept.
func (x *exchange) capture() {
	c := &x.snap.Config.Capture
	if len(c.Keys) == 0 || x.s.captures == nil || x.kept != nil || !c.of(x.receipt.Key) {
		return
	}
	r := &capture.Record{Headers: map[string]string{}, Redact: c.Redact, RequestBytes: len(x.body)}
	for k, v := range x.ctx.Request.Header.All() {
		r.Headers[string(k)] = string(v)
	}
	h := &x.ctx.Request.Header
	for _, key := range [...][]byte{bearer(h.Peek("Authorization")), h.Peek("X-Api-Key")} {
		if len(key) >= 8 { // a shorter one is any word
			r.Secrets = append(r.Secrets, string(key))
		}
	}
	if !bytes.HasPrefix(h.ContentType(), []byte("multipart/")) { // what is uploaded in forms is no text
		r.Request = append(r.Request, x.body[:min(len(x.body), c.Body)]...)
	}
	x.kept = r
}

// keepBodies hands what was taken down to the keeper. The receipt is complete.
func (x *exchange) keepBodies() {
	k := x.kept
	if k == nil {
		return
	}
	x.kept = nil
	r := x.receipt
	if x.w == nil && x.ctx != nil && !x.opaque { // a whole answer, or an error
		k.Add(x.ctx.Response.Body(), x.snap.Config.Capture.Body)
	}
	k.ID, k.At, k.Key, k.Path, k.Requested, k.Ref, k.Route = r.ID, r.Started, r.Key, r.Path, r.Requested, r.Model, r.Route
	k.Status, k.Outcome, k.Code, k.Stream, k.Took = r.Status, r.Outcome, r.Code, r.Stream, float64(r.Took.Microseconds())/1000
	x.s.captures.Keep(k)
}

// copying takes down what is written to a client.
type copying struct {
	w    io.Writer
	to   *capture.Record
	most int
}

func (c *copying) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.to.Add(p[:max(n, 0)], c.most)
	return n, err
}
