package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Waiter is what an exchange does while its backend keeps it waiting.
type Waiter interface {
	// Flush is called before every read that may block.
	Flush() error
	// Wake returns when Tick wants to be called; the zero time means never.
	Wake() time.Time
	// Tick is called at Wake. An error ends the read that waits, and nothing is
	// lost: the next call to the attempt goes on where that one stopped.
	Tick(now time.Time) error
}

// Request is what one attempt sends. The bytes must stay as they are until
// Attempt.Close has returned.
type Request struct {
	Method      string // POST when empty
	Path        string // below the base URL: "/chat/completions"
	Key         int    // of the backend's Keys
	ContentType string // application/json when empty
	Body        [][]byte
	Length      int               // sum of Body
	Headers     []byte            // further header lines, each ended by CRLF
	Stream      bool              // Accept: text/event-stream
	Whole       int               // tokens expected of an answer that is not streamed; 0 for a stream
	Prompt      int               // estimated prompt tokens, for the prefill-aware budget
	Model       *Model            // what is learned of the model that is asked; nil for none
	ModelLines  []byte            // the model's own header lines
	Dialled     func(reused bool) // called when the connection stands; may be nil
	At          time.Time         // now, where the caller knows it
}

// uploadBytesMax is what is written on the serving goroutine; it fits a
// socket's buffer. What the socket does not take at once of more has a goroutine
// of its own, for as long as it lasts, so that an early answer is seen and ticks
// go on.
const uploadBytesMax = 64 << 10

// A request that is a little longer than what the backend's socket takes before the
// backend reads is dear in one piece: its end waits until the backend was woken, and
// wakes it again. Of one that is longer than windowBytes the first firstBytes go ahead
// and are mostly read by the time the rest is there.
const (
	windowBytes = 1 << 20
	firstBytes  = 4 << 10
)

// gatherBytesMax is what is copied into one buffer with the head to be one
// write and, under TLS, one record.
const gatherBytesMax = 8 << 10

// Attempt is one try of one target: a state machine each step of which can be
// left, by an error of the Waiter's Tick, and taken up again. One goroutine at
// a time may drive it; Cancel may be called by any. The zero value is ready
// for Start, and after Close for the next.
type Attempt struct {
	Head Head

	b        *Backend
	w        Waiter
	req      Request
	phase    Phase
	started  time.Time
	sent     time.Time
	deadline time.Time
	limit    time.Duration // length of the deadline in force
	setting  string        // what named it
	total    time.Time     // zero: no bound
	kindLate Kind          // kind of failure when the deadline passes

	mu        sync.Mutex // guards the four below against Cancel
	c         *conn
	stopDial  context.CancelFunc
	cancelled bool
	closed    bool

	dialled  chan dialled // not nil while connecting
	uploaded chan error   // not nil while an upload has its own goroutine
	upDone   atomic.Bool
	upErr    error
	body     body
	inBody   bool
	// unconnected says that the attempt counts as one without a connection.
	unconnected bool

	any bool    // a byte of the answer has come
	out *[]byte // nil once it is sent
	vec net.Buffers

	cold  bool          // the model may have to be loaded first
	first time.Duration // from the request to the first content
	read  promptRead
}

type dialled struct {
	c   *conn
	err error
}

// Start begins an attempt. It returns at once; failures show in ReadHead.
func (a *Attempt) Start(b *Backend, req Request, w Waiter) {
	now := req.At
	if now.IsZero() {
		now = time.Now()
	}
	a.b, a.w, a.req = b, w, req
	a.read, a.first = promptRead{}, 0
	a.started, a.sent, a.total = now, time.Time{}, time.Time{}
	a.dialled, a.uploaded, a.upErr, a.inBody, a.any = nil, nil, nil, false, false
	a.upDone.Store(false)
	a.Head.Status = 0
	d := &b.cfg.Deadlines
	if d.Total > 0 {
		a.total = now.Add(d.Total)
	}
	if c := b.take(now); c != nil {
		b.busy.Add(1)
		c.a = a
		a.mu.Lock()
		a.c, a.stopDial, a.cancelled, a.closed = c, nil, false, false
		a.mu.Unlock()
		if req.Dialled != nil {
			req.Dialled(c.reused)
		}
		a.send(now)
		return
	}
	a.mu.Lock()
	a.c, a.stopDial, a.cancelled, a.closed = nil, nil, false, false
	a.mu.Unlock()
	b.busy.Add(1 + unconnected)
	a.unconnected = true
	a.phase = PhaseConnect
	a.setDeadline(now, d.Connect+d.TLS, "connect", KindConnectTimeout)
	if !b.reserve() {
		a.dialled = make(chan dialled, 1)
		a.dialled <- dialled{err: &Error{Kind: KindFull, Phase: PhaseConnect, Backend: b.cfg.ID, Setting: b.path("limits.connections")}}
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.mu.Lock()
	a.stopDial = cancel
	a.mu.Unlock()
	ch := make(chan dialled, 1)
	a.dialled = ch
	// Dialling and the handshake cannot tick: they have a goroutine.
	go func() {
		c, err := b.dial(ctx)
		if err != nil {
			b.release()
		}
		ch <- dialled{c, err}
	}()
}

func (a *Attempt) setDeadline(now time.Time, d time.Duration, name string, kind Kind) {
	a.deadline, a.limit, a.kindLate = now.Add(d), d, kind
	if name != "" {
		a.setting = name
	}
}

// attach makes c, which was made for it, this attempt's connection.
func (a *Attempt) attach(c *conn) {
	c.a = a
	if a.unconnected {
		a.unconnected = false
		a.b.busy.Add(-unconnected)
	}
	a.mu.Lock()
	a.c = c
	cancelled := a.cancelled
	a.mu.Unlock()
	if cancelled {
		c.raw.Close()
	}
	if a.req.Dialled != nil {
		a.req.Dialled(c.reused)
	}
}

// Cancel ends the attempt from any goroutine, in any phase: the backend's
// connection is closed before it returns.
func (a *Attempt) Cancel() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	a.cancelled = true
	if a.c != nil {
		a.c.raw.Close()
	}
	if a.stopDial != nil {
		a.stopDial()
	}
}

// Phase returns how far the attempt is.
func (a *Attempt) Phase() Phase { return a.phase }

// Sent returns when the request had been written whole; zero before.
func (a *Attempt) Sent() time.Time { return a.sent }

// Reused says that the attempt runs on a connection that served before.
func (a *Attempt) Reused() bool { return a.c != nil && a.c.reused }

// send writes the request, or starts to.
func (a *Attempt) send(now time.Time) {
	c, d := a.c, &a.b.cfg.Deadlines
	a.phase = PhaseUpload
	limit := d.Write + d.WritePerMB*time.Duration(a.req.Length>>20)
	a.setDeadline(now, limit, "write", KindWriteTimeout)
	c.writeBy(now, limit)
	a.out = heads.Get().(*[]byte)
	out := a.b.appendHead((*a.out)[:0], &a.req)
	whole := len(out) + a.req.Length
	if whole <= gatherBytesMax {
		for _, p := range a.req.Body {
			out = append(out, p...)
		}
		*a.out = out
		_, err := c.Conn.Write(out)
		a.forget()
		a.wrote(now, a.b.writeError(err, limit))
		return
	}
	*a.out = out
	a.vec = append(append(a.vec[:0], out), a.req.Body...)
	if a.req.Length <= uploadBytesMax {
		n, err := c.writeNow(a.vec)
		if err == nil && n < whole {
			rest := unwritten(a.vec, n)
			_, err = rest.WriteTo(c.Conn.Conn)
		}
		a.forget()
		a.wrote(now, a.b.writeError(err, limit))
		return
	}
	// The socket mostly takes it all at once, and this processor has it at hand.
	rest, n, err := a.vec, 0, error(nil)
	if _, plain := c.Conn.Conn.(*net.TCPConn); plain && whole > windowBytes {
		for i := 1; i < len(rest) && len(out) < firstBytes; i++ {
			k := min(firstBytes-len(out), len(rest[i]))
			out, rest[i] = append(out, rest[i][:k]...), rest[i][k:]
		}
		*a.out, rest[0] = out, out
		n, err = c.writeNow(rest[:1])
	}
	if err == nil && (n == 0 || n == len(out)) {
		var more int
		more, err = c.writeNow(rest[min(n, 1):])
		n += more
	}
	if err != nil || n == whole {
		a.forget()
		a.wrote(time.Now(), a.b.writeError(err, limit))
		return
	}
	rest = unwritten(rest, n)
	ch := make(chan error, 1)
	a.uploaded = ch
	b := a.b
	go func() {
		vec := rest
		_, err := vec.WriteTo(c.Conn.Conn)
		err = b.writeError(err, limit)
		a.upErr = err
		a.upDone.Store(true)
		if err != nil && !errors.Is(err, io.EOF) {
			// The reader learns it from the connection: a peer that hung up
			// shows there by itself, our own deadline does not.
			if kindOf(err, PhaseUpload) == KindWriteTimeout {
				c.raw.Close()
			}
		} else {
			c.Conn.SetReadDeadline(time.Unix(1, 0)) // let the reader move on to its next deadline
		}
		ch <- err
	}()
}

// unwritten returns what is left of pieces, of which there is more, after their first n
// bytes.
func unwritten(pieces net.Buffers, n int) net.Buffers {
	for ; n >= len(pieces[0]); pieces = pieces[1:] {
		n -= len(pieces[0])
	}
	pieces[0] = pieces[0][n:]
	return pieces
}

// writeError names the deadline that ended a write: later, only that time was
// over could be told, not whose. Other errors pass.
func (b *Backend) writeError(err error, limit time.Duration) error {
	if err == nil || kindOf(err, PhaseUpload) != KindWriteTimeout {
		return err
	}
	return &Error{Kind: KindWriteTimeout, Phase: PhaseUpload, Backend: b.cfg.ID, After: limit, Setting: b.deadlinePath("write"), Err: err}
}

// uploadError returns why the request could not be sent, as far as is known.
func (a *Attempt) uploadError() error {
	if a.uploaded != nil && !a.upDone.Load() {
		return nil // its goroutine still writes
	}
	return a.upErr
}

// wrote moves on to waiting for the answer. A write error is not the last
// word: a backend may have answered before it stopped reading.
func (a *Attempt) wrote(now time.Time, err error) {
	a.upErr = err
	d := &a.b.cfg.Deadlines
	a.phase, a.sent = PhaseHeaders, now
	if err != nil {
		a.setDeadline(now, min(time.Second, d.Connect), "", KindClosed)
		return
	}
	if d.Headers > 0 {
		a.setDeadline(now, d.Headers, "headers", KindHeadersTimeout)
		return
	}
	budget, name := a.patience(now)
	a.setDeadline(now, budget, name, KindHeadersTimeout)
}

// ReadHead waits for the head of the answer. After nil, Head is filled and
// ReadBody may be called.
func (a *Attempt) ReadHead() error {
	if a.dialled != nil {
		if err := a.await(); err != nil {
			return a.cause(err)
		}
		a.send(time.Now())
	}
	if a.inBody {
		return nil
	}
	c, max := a.c, a.b.cfg.Limits.HeaderBytes
	for {
		if n := headEnd(c.buffered()); n > 0 {
			if err := a.Head.parse(c.buffered()[:n]); err != nil {
				return a.cause(err)
			}
			c.r += n
			if a.Head.Status == 101 {
				return a.cause(errHead)
			}
			if a.Head.Status >= 200 {
				break
			}
			continue
		}
		if err := c.fill(max); err != nil {
			return a.cause(err)
		}
		a.any = true
	}
	c.shrink()
	a.inBody = true
	a.body.reset(a.Head.Length)
	if a.sent.IsZero() {
		a.sent = time.Now() // an answer before the end of the upload
	}
	a.phase = PhaseContent
	budget, name := a.patience(a.sent)
	a.setDeadline(a.sent, budget, name, KindContentTimeout)
	return nil
}

// ReadBody reads some of the body. io.EOF is its true end: a body cut short is
// an *Error of KindTruncated.
func (a *Attempt) ReadBody(p []byte) (int, error) {
	n, err := a.body.read(a.c, p)
	if err != nil && err != io.EOF {
		err = a.cause(err)
	}
	return n, err
}

// Read is ReadBody, for those who want an io.Reader.
func (a *Attempt) Read(p []byte) (int, error) { return a.ReadBody(p) }

// Progress says that content came: the deadline is now the gap between events.
func (a *Attempt) Progress(now time.Time) {
	a.phase = PhaseStream
	a.setDeadline(now, a.b.cfg.Deadlines.Gap, "gap", KindGapTimeout)
}

// Arrived says that content came, where nothing is left to wait for: of a body whose
// length was told.
func (a *Attempt) Arrived() bool {
	if a.body.left != 0 || a.body.chunked {
		return false
	}
	a.phase = PhaseStream
	return true
}

// Finishing says that the backend has said its regular end: what may still
// come behind it has wait to come.
func (a *Attempt) Finishing(now time.Time, wait time.Duration) {
	a.setDeadline(now, min(wait, a.b.cfg.Deadlines.Gap), "gap", KindGapTimeout)
}

// Drain reads what is left behind an answer's semantic end, if it is there
// soon, so that the connection can be kept.
func (a *Attempt) Drain(wait time.Duration) {
	if a.c == nil || !a.inBody || a.body.eof || !a.Head.KeepAlive {
		return
	}
	var p [64]byte
	a.setDeadline(time.Now(), wait, "", KindGapTimeout)
	for range 64 {
		if _, err := a.body.read(a.c, p[:]); err != nil {
			return
		}
	}
}

// Close ends the attempt. A connection whose answer was read to its true end
// is kept for the next; every other is closed. It waits for what the attempt
// started.
func (a *Attempt) Close() { a.CloseAt(time.Time{}) }

// CloseAt is Close where the caller knows what time it is.
func (a *Attempt) CloseAt(now time.Time) {
	if a.b == nil {
		return
	}
	a.mu.Lock()
	a.closed = true
	cancelled := a.cancelled
	if a.stopDial != nil {
		a.stopDial()
		a.stopDial = nil
	}
	c := a.c
	a.c = nil
	a.mu.Unlock()
	if a.dialled != nil {
		if d := <-a.dialled; d.c != nil {
			d.c.raw.Close()
			a.b.release()
		}
		a.dialled = nil
	}
	if c != nil {
		keep := !cancelled && a.inBody && a.body.eof && a.body.fail == nil && a.Head.KeepAlive && c.r == c.w && a.uploadError() == nil
		if a.uploaded != nil {
			if !a.upDone.Load() {
				// Either it has just written the last byte, which the backend was
				// quick to answer, or the answer came before the backend had read
				// all. The latter waits, and does so no more.
				c.writeEnd = time.Unix(1, 0)
				c.Conn.SetWriteDeadline(c.writeEnd)
			}
			if err := <-a.uploaded; err != nil {
				keep = false
			}
			a.uploaded = nil
		}
		c.a = nil
		if keep {
			if now.IsZero() {
				now = time.Now()
			}
			a.b.put(c, now)
		} else {
			c.raw.Close()
			a.b.release()
		}
	}
	a.phase = PhaseDone
	if a.unconnected {
		a.unconnected = false
		a.b.busy.Add(-unconnected - 1)
	} else {
		a.b.busy.Add(-1)
	}
	a.req, a.w, a.b = Request{}, nil, nil
	a.forget()
}

// heads are buffers for the heads of requests, and the bodies of short ones: an attempt
// needs its own until it has sent them.
var heads = sync.Pool{New: func() any { return new([]byte) }}

// forget gives up what was written, so that a long stream does not hold it.
func (a *Attempt) forget() {
	clear(a.vec)
	if out := a.out; out != nil {
		a.out = nil
		if cap(*out) <= gatherBytesMax {
			heads.Put(out)
		}
	}
}

func (a *Attempt) await() error {
	timer := time.NewTimer(time.Until(a.wake()))
	defer timer.Stop()
	if err := a.flush(); err != nil {
		return err
	}
	for {
		select {
		case d := <-a.dialled:
			a.dialled = nil
			if d.err != nil {
				return d.err
			}
			a.attach(d.c)
			return nil
		case <-timer.C:
			if err := a.tick(time.Now()); err != nil {
				return err
			}
			timer.Reset(time.Until(a.wake()))
		}
	}
}

// uploadDone moves on when the upload's goroutine has finished.
func (a *Attempt) uploadDone() bool {
	if a.phase != PhaseUpload || a.uploaded == nil || !a.upDone.Load() {
		return false
	}
	a.wrote(time.Now(), a.upErr)
	return true
}

func (a *Attempt) flush() error { return a.w.Flush() }

func (a *Attempt) wake() time.Time {
	t := a.deadline
	if w := a.w.Wake(); !w.IsZero() && w.Before(t) {
		t = w
	}
	if !a.total.IsZero() && a.total.Before(t) {
		t = a.total
	}
	return t
}

func (a *Attempt) tick(now time.Time) error {
	if !a.total.IsZero() && !now.Before(a.total) {
		return a.late(KindTotalTimeout, a.b.cfg.Deadlines.Total, "total")
	}
	if !now.Before(a.deadline) {
		return a.late(a.kindLate, a.limit, a.setting)
	}
	return a.w.Tick(now)
}

func (a *Attempt) late(kind Kind, limit time.Duration, name string) error {
	if kind == KindClosed { // nothing came after a failed write
		return a.upErr
	}
	return &Error{Kind: kind, Phase: a.phase, Backend: a.b.cfg.ID, After: limit, Setting: a.b.deadlinePath(name)}
}

// cause gives an error its kind. Errors of the Waiter pass as they are.
func (a *Attempt) cause(err error) error {
	a.mu.Lock()
	cancelled := a.cancelled
	a.mu.Unlock()
	if cancelled {
		return &Error{Kind: KindCancelled, Phase: a.phase, Backend: a.b.cfg.ID, Err: errCancelled}
	}
	var e *Error
	if errors.As(err, &e) || errors.Is(err, ErrHold) {
		return err
	}
	if up := a.uploadError(); up != nil && !a.any {
		if err = up; errors.As(err, &e) {
			return err
		}
	}
	kind := kindOf(err, a.phase)
	if a.inBody && (kind == KindReset || kind == KindClosed) {
		kind = KindTruncated
	}
	if errors.Is(err, errTooLarge) {
		kind = KindTooLarge
	}
	stale := a.Reused() && !a.any && (kind == KindReset || kind == KindClosed)
	return &Error{Kind: kind, Phase: a.phase, Backend: a.b.cfg.ID, Stale: stale, Err: err}
}

// ErrHold is what a Waiter's Tick returns to be left alone by the attempt for
// now: it passes through unchanged, and the attempt can be taken up again.
var ErrHold = errors.New("held")

// appendHead appends the head of a request.
func (b *Backend) appendHead(dst []byte, r *Request) []byte {
	if r.Method == "" {
		dst = append(dst, "POST "...)
	} else {
		dst = append(append(dst, r.Method...), ' ')
	}
	dst = append(append(dst, b.prefix...), r.Path...)
	dst = append(append(dst, b.query...), b.fixed[r.Key]...)
	dst = append(dst, r.ModelLines...)
	dst = append(dst, r.Headers...)
	if r.Stream {
		dst = append(dst, "Accept: text/event-stream\r\n"...)
	} else {
		dst = append(dst, "Accept: */*\r\n"...)
	}
	if r.Method != "GET" {
		dst = append(dst, "Content-Type: "...)
		if r.ContentType == "" {
			dst = append(dst, "application/json"...)
		} else {
			dst = append(dst, r.ContentType...)
		}
		// Never chunked: mlx_lm.server answers 411 to that.
		dst = append(dst, "\r\nContent-Length: "...)
		dst = strconv.AppendInt(dst, int64(r.Length), 10)
		dst = append(dst, "\r\n"...)
	}
	return append(dst, "\r\n"...)
}

// dial connects, TLS included. The address policy speaks on the resolved
// address.
func (b *Backend) dial(ctx context.Context) (*conn, error) {
	d := &b.cfg.Deadlines
	began := time.Now()
	cctx, cancel := context.WithTimeout(ctx, d.Connect)
	host, port := b.host, b.port
	if b.via != nil {
		host, port = b.via.Hostname(), portOf(b.via, "80")
	}
	raw, err := b.dialer.DialContext(cctx, host, port)
	if err == nil && b.via != nil && b.tls != nil {
		if e := tunnel(cctx, raw, b.via, b.host, b.port); e != nil {
			raw.Close()
			err = fmt.Errorf("%w: %w", errTunnel, e)
		}
	}
	cancel()
	if err != nil {
		// The dialer has a timer of its own for the context's deadline, which may
		// fire first; a resolver's or the kernel's may do so much earlier.
		if ctx.Err() == nil && (cctx.Err() == context.DeadlineExceeded || kindOf(err, PhaseConnect) == KindConnectTimeout) {
			took := time.Since(began).Round(time.Millisecond)
			err = &Error{Kind: KindConnectTimeout, Phase: PhaseConnect, Backend: b.cfg.ID, After: min(d.Connect, took), Setting: b.deadlinePath("connect"), Err: err}
		}
		return nil, err
	}
	if b.tls == nil {
		return newConn(raw, raw), nil
	}
	hctx, cancel := context.WithTimeout(ctx, d.TLS)
	defer cancel()
	tc := tls.Client(raw, b.tls)
	if err := tc.HandshakeContext(hctx); err != nil {
		raw.Close()
		if ctx.Err() == nil && hctx.Err() == context.DeadlineExceeded {
			err = &Error{Kind: KindConnectTimeout, Phase: PhaseConnect, Backend: b.cfg.ID, After: d.TLS, Setting: b.deadlinePath("tls")}
			return nil, err
		}
		return nil, &Error{Kind: KindTLS, Phase: PhaseConnect, Backend: b.cfg.ID, Err: err}
	}
	return newConn(tc, raw), nil
}
