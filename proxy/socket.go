package proxy

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/valyala/fasthttp"

	"nearside/shaping/wire"
)

// sockets serves Responses over WebSockets: each turn is a request of our own
// process to the server, whose events become text frames.
type sockets struct {
	mu       sync.Mutex // guards all below
	open     map[*socket]struct{}
	stopping bool
	stop     chan struct{} // closed when no further turn is to begin
	none     chan struct{} // closed when open becomes empty; nil when nobody waits

	// How often a client is asked whether it lives, how long it may take to say
	// so, and how long to answer our goodbye. Set by New.
	ping, pong, bye time.Duration
}

// socket is one client's WebSocket. One goroutine reads, one answers, one asks
// whether the client is there.
type socket struct {
	s       *Server
	conn    *clientConn
	ws      *websocket.Conn
	headers []byte
	begun   bool          // serve runs, or will; guarded by sockets.mu
	gone    chan struct{} // closed by the reader when the client has left
	more    chan struct{} // holds one when the queue has got something

	writing sync.Mutex // held while a message is written; never together with mu

	mu      sync.Mutex // guards all below
	queue   []*turn
	running *turn
	closing bool // we said goodbye

	// Of the answering goroutine, and of the server while that one waits for it.
	kept  map[string][]byte // the history that responses which no store has stand for
	order []string
	bytes int
}

// turn is one response that the client asked for.
type turn struct {
	body     []byte
	previous string
	warm     bool

	cancelled bool         // guarded, as the two below, by socket.mu
	over      bool         // its end is being told: there is nothing to cancel
	client    *localClient // where it runs
}

const (
	socketPing = 30 * time.Second
	socketPong = 75 * time.Second
	socketBye  = time.Second // shorter than endGrace
)

var upgrader = websocket.FastHTTPUpgrader{
	ReadBufferSize: 4 << 10, WriteBufferSize: 4 << 10,
	CheckOrigin: func(*fasthttp.RequestCtx) bool { return true }, // guard was asked before
	Error: func(ctx *fasthttp.RequestCtx, status int, reason error) {
		ctx.Response.Header.Set("Sec-WebSocket-Version", "13")
		replyError(ctx, &wire.Error{Status: status, Type: "invalid_request_error", Code: "bad_upgrade", Message: reason.Error()}, 0, false)
	},
}

// socket answers the upgrade of GET /v1/responses. Where WebSockets are off it
// answers 426, which makes clients fall back to POST at once.
func (s *Server) socket(ctx *fasthttp.RequestCtx) {
	cfg := &s.snap.Load().Config.Responses
	if len(ctx.Request.Header.Peek("Upgrade")) == 0 || !cfg.WebSocket {
		s.noWebSocket(ctx)
		return
	}
	conn, ok := ctx.Conn().(*clientConn)
	if !ok {
		panic("BUG: a socket's connection did not come through our listener")
	}
	k := &socket{s: s, conn: conn, headers: callerHeaders(ctx), gone: make(chan struct{}), more: make(chan struct{}, 1), kept: map[string][]byte{}}
	if !s.admitSocket(k, cfg.Sockets) {
		replyError(ctx, &wire.Error{Status: 503, Type: "server_error", Code: "overloaded", Message: "too many sockets are open (proxy.responses.sockets), or the proxy is shutting down"}, retryAfterDefault, true)
		return
	}
	// The upgrade's answer may not get through: nobody calls us then, but the
	// connection is closed.
	conn.onClose(func() {
		s.sockets.mu.Lock()
		begun := k.begun
		s.sockets.mu.Unlock()
		if !begun {
			s.dropSocket(k)
		}
	})
	err := upgrader.Upgrade(ctx, func(ws *websocket.Conn) {
		conn.socket = true
		s.sockets.mu.Lock()
		k.begun = true
		s.sockets.mu.Unlock()
		defer s.dropSocket(k)
		defer s.survive("socket")
		k.ws = ws
		k.serve()
	})
	if err != nil {
		conn.onClose(nil)
		s.dropSocket(k)
	}
}

func (s *Server) admitSocket(k *socket, max int) bool {
	s.sockets.mu.Lock()
	defer s.sockets.mu.Unlock()
	if s.sockets.stopping || len(s.sockets.open) >= max {
		return false
	}
	s.sockets.open[k] = struct{}{}
	return true
}

func (s *Server) dropSocket(k *socket) {
	s.sockets.mu.Lock()
	defer s.sockets.mu.Unlock()
	delete(s.sockets.open, k)
	if len(s.sockets.open) == 0 && s.sockets.none != nil {
		close(s.sockets.none)
		s.sockets.none = nil
	}
}

// serve reads the client's messages and has them answered, one after the other.
func (k *socket) serve() {
	cfg := &k.s.snap.Load().Config
	end := time.Now().Add(cfg.Responses.SocketFor)
	k.ws.SetReadLimit(int64(cfg.Limits.BodyBytes))
	k.alive()
	k.ws.SetPongHandler(func(string) error { k.alive(); return nil })
	k.ws.SetPingHandler(func(data string) error {
		k.alive()
		// Not the library's own second: a client that is slow is not dead.
		_ = k.ws.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(k.s.snap.Load().Config.Client.Write))
		return nil
	})
	var others sync.WaitGroup
	others.Go(func() {
		defer k.s.survive("socket")
		defer k.conn.Close() // ends the reader
		k.answer(end)
	})
	others.Go(k.ask)
	defer func() {
		close(k.gone)
		k.hangUp()
		k.conn.Close()
		others.Wait()
		k.unqueue()
	}()
	for {
		kind, msg, err := k.ws.ReadMessage()
		if err != nil {
			if errors.Is(err, websocket.ErrReadLimit) {
				k.conn.lingers() // so that the client gets to read why
			}
			return
		}
		k.alive()
		if kind != websocket.TextMessage {
			k.fail(badRequest("invalid_request", "", "only text frames are understood"))
			continue
		}
		k.hear(msg)
	}
}

// alive notes a sign of life: the reader waits for the next one so long.
func (k *socket) alive() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.closing {
		_ = k.ws.SetReadDeadline(time.Now().Add(k.s.sockets.pong))
	}
}

// ask pings the client, during long responses too, until it has gone.
func (k *socket) ask() {
	tick := time.NewTicker(k.s.sockets.ping)
	defer tick.Stop()
	for {
		select {
		case <-k.gone:
			return
		case <-tick.C:
			_ = k.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(k.s.snap.Load().Config.Client.Write))
		}
	}
}

// hear takes one message of the client.
func (k *socket) hear(msg []byte) {
	var env wire.Envelope
	cfg := &k.s.snap.Load().Config
	if err := wire.Scan(msg, wire.ScanLimits{Depth: cfg.Limits.Depth, Fields: cfg.Limits.Fields}, &env); err != nil {
		var e *wire.Error
		if !errors.As(err, &e) {
			e = badRequest("", "", err.Error())
		}
		k.fail(e)
		return
	}
	kind := ""
	if at, ok := env.Field(msg, "type"); ok {
		kind = unquoted(at.Of(msg))
	}
	switch kind {
	case "response.create":
		if e := k.enqueue(newTurn(msg, &env), cfg); e != nil {
			k.fail(e)
		}
	case "response.cancel":
		if !k.cancel() {
			k.fail(badRequest("response_cancel_not_active", "", "no response is running on this socket"))
		}
	case "response.steer":
		k.fail(badRequest("steering_not_supported", "type", "a running response cannot be steered"))
	default:
		k.fail(badRequest("invalid_value", "type", "Invalid value: '"+printable([]byte(kind))+"'. Supported values are: 'response.create' and 'response.cancel'."))
	}
}

// newTurn reads a response.create. What is left of it is the body of a POST.
func newTurn(msg []byte, env *wire.Envelope) *turn {
	t := new(turn)
	if at, ok := env.Field(msg, "previous_response_id"); ok {
		t.previous = unquoted(at.Of(msg))
	}
	if at, ok := env.Field(msg, "generate"); ok {
		t.warm = msg[at.Start] == 'f'
	}
	var edits wire.Edits
	edits.Reset(msg, env)
	for _, key := range [...]string{"type", "generate", "stream_id", "background", "stream_options"} {
		edits.Remove(key)
	}
	edits.Set("stream", []byte("true"))
	t.body = wire.Splice(nil, msg, edits.List())
	return t
}

// enqueue lets a turn wait, within the bounds on how many and how much may.
func (k *socket) enqueue(t *turn, cfg *Config) *wire.Error {
	if k.s.inFlight.Add(int64(len(t.body))) > cfg.Limits.InFlightBytes {
		k.s.inFlight.Add(-int64(len(t.body)))
		return overloaded()
	}
	k.mu.Lock()
	n := len(k.queue)
	if k.running == nil || k.running.over {
		n-- // the first is about to run
	}
	full := n >= cfg.Responses.SocketQueue
	if !full {
		k.queue = append(k.queue, t)
	}
	k.mu.Unlock()
	if full {
		k.s.inFlight.Add(-int64(len(t.body)))
		return &wire.Error{Status: 429, Type: "rate_limit_exceeded", Code: "rate_limit_exceeded", Message: "too many responses are waiting on this socket (proxy.responses.socketQueue)"}
	}
	signal(k.more)
	return nil
}

// next takes the first turn of the queue, which runs from now on; nil if none
// waits.
func (k *socket) next() *turn {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.queue) == 0 {
		return nil
	}
	t := k.queue[0]
	k.queue[0] = nil
	k.queue = k.queue[1:]
	k.running = t
	k.s.inFlight.Add(-int64(len(t.body))) // its request counts it again
	return t
}

// unqueue drops what waits and says how much that was.
func (k *socket) unqueue() (n int) {
	for ; k.next() != nil; n++ {
	}
	k.mu.Lock()
	k.running = nil
	k.mu.Unlock()
	return n
}

// cancel ends the response that runs, or is about to. It says false if none is.
func (k *socket) cancel() bool {
	k.mu.Lock()
	t := k.running
	if t == nil || t.over { // a client asks for the next as soon as it has heard the end
		if len(k.queue) == 0 {
			k.mu.Unlock()
			return false
		}
		t = k.queue[0]
	}
	t.cancelled = true
	c := t.client
	k.mu.Unlock()
	if c != nil {
		c.hangUp()
	}
	return true
}

// hangUp ends the response that runs because nobody listens any more.
func (k *socket) hangUp() {
	k.mu.Lock()
	var c *localClient
	if k.running != nil {
		c = k.running.client
	}
	k.mu.Unlock()
	if c != nil {
		c.hangUp()
	}
}

// fail tells an error that no response carries.
func (k *socket) fail(e *wire.Error) {
	b := append([]byte(`{"type":"error","status":`), strconv.Itoa(e.Status)...)
	b = append(b, `,"error":{"type":`...)
	b = wire.AppendString(b, e.Type)
	code := e.Code
	if code == "" {
		code = "invalid_request"
	}
	b = append(wire.AppendString(append(b, `,"code":`...), code), `,"message":`...)
	b = append(wire.AppendString(b, e.Message), `,"param":`...)
	if e.Param == "" {
		b = append(b, "null"...)
	} else {
		b = wire.AppendString(b, e.Param)
	}
	_ = k.write(append(b, "}}"...)) // a client that is not there needs no error
}

func (k *socket) write(p []byte) error {
	k.writing.Lock()
	defer k.writing.Unlock()
	_ = k.ws.SetWriteDeadline(time.Now().Add(k.s.snap.Load().Config.Client.Write))
	return k.ws.WriteMessage(websocket.TextMessage, p)
}

// answer runs the turns, until the client has gone, the socket's time is over
// or the server stops. A response that runs is not cut off by the latter two.
func (k *socket) answer(end time.Time) {
	limit := time.NewTimer(time.Until(end))
	defer limit.Stop()
	for {
		select {
		case <-k.gone:
			return
		case <-k.s.sockets.stop:
			for range k.unqueue() {
				k.fail(shuttingDown())
			}
			k.close(websocket.CloseGoingAway, "the proxy is shutting down")
			return
		case <-limit.C:
			k.fail(&wire.Error{Status: 400, Type: "invalid_request_error", Code: "websocket_connection_limit_reached", Message: "the socket has been open for as long as it may be (proxy.responses.socketForSeconds); open another"})
			k.close(websocket.ClosePolicyViolation, "connection limit reached")
			return
		default:
		}
		t := k.next()
		if t == nil {
			select {
			case <-k.more:
			case <-k.gone:
			case <-k.s.sockets.stop:
			case <-limit.C:
				limit.Reset(0) // told above
			}
			continue
		}
		err := k.turn(t)
		k.mu.Lock()
		k.running = nil
		k.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// close says goodbye and waits a little for the client to do so, too.
func (k *socket) close(code int, text string) {
	_ = k.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, text), time.Now().Add(k.s.sockets.bye))
	k.mu.Lock()
	k.closing = true
	_ = k.ws.SetReadDeadline(time.Now().Add(k.s.sockets.bye))
	k.mu.Unlock()
	<-k.gone // the reader has heard the answer, or its time is over
}

func shuttingDown() *wire.Error {
	return &wire.Error{Status: 503, Type: "server_error", Code: "server_shutting_down", Message: "the proxy is shutting down"}
}

// turn asks for one response and tells its events. The error is one of the
// socket, not of the response. Each turn has a connection of its own: one that
// is kept would be closed by the server as idle, between two turns or in the
// middle of the second's request.
func (k *socket) turn(t *turn) error {
	c := k.s.dial()
	k.mu.Lock()
	t.client = c
	stop := t.cancelled
	k.mu.Unlock()
	select {
	case <-k.gone: // it left before the reader could see the client
		stop = true
	default:
	}
	var told, failed bool // the response's end; that it was none to build on
	var err error
	if !stop {
		told, failed, err = k.tell(c, t)
	}
	c.Close() // the server is done with k.kept
	cancelled := k.ends(t)
	select {
	case <-k.gone:
		return errGone
	default:
	}
	switch {
	case err != nil:
		return err
	case told:
	case cancelled:
		k.fail(badRequest("response_cancelled", "", "the response was cancelled"))
		return nil
	case k.s.draining.Load():
		failed = true
		k.fail(shuttingDown())
	default:
		failed = true
		k.fail(&wire.Error{Status: 500, Type: "server_error", Code: "server_error", Message: "the response was broken off"})
	}
	if failed {
		k.forget(t.previous) // a continuation that failed must not be tried again
	}
	return nil
}

// ends notes that a turn is over, before its client hears of it, and says whether
// it was cancelled until then.
func (k *socket) ends(t *turn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	t.over = true
	return t.cancelled
}

// tell has a turn answered over c and passes on what comes. The client was told
// how it ended, and that was a failure, or the socket takes nothing.
func (k *socket) tell(c *localClient, t *turn) (told, failed bool, err error) {
	e := &errand{warm: t.warm, history: func(id string) ([]byte, bool) { h, ok := k.kept[id]; return h, ok }, done: k.keep}
	resp, broken := c.post("/v1/responses", k.headers, t.body, e)
	t.body = nil
	if broken != nil {
		return false, false, nil
	}
	if resp.StatusCode != 200 {
		e := errorOf(resp)
		k.ends(t)
		k.fail(e)
		return true, true, nil
	}
	// Its end is told by its terminal event. That the connection may break behind
	// it is nobody's concern.
	_ = c.events(resp, func(name, data []byte) error {
		switch string(name) {
		case "response.completed", "response.incomplete":
			told = true
		case "response.failed":
			told, failed = true, true
		}
		if told {
			k.ends(t)
		}
		err = k.write(data)
		return err
	})
	return told, failed, err
}

// keep remembers what a response stands for that is not stored, within
// proxy.responses.socketBytes; the oldest go first. The answering goroutine
// waits while the server calls it.
func (k *socket) keep(id string, history []byte) {
	max := k.s.snap.Load().Config.Responses.SocketBytes
	if len(history) > max {
		return
	}
	k.forget(id)
	for k.bytes+len(history) > max {
		k.forget(k.order[0])
	}
	k.kept[id] = history
	k.order = append(k.order, id)
	k.bytes += len(history)
}

func (k *socket) forget(id string) {
	h, ok := k.kept[id]
	if !ok {
		return
	}
	delete(k.kept, id)
	k.bytes -= len(h)
	for i, o := range k.order {
		if o == id {
			k.order = append(k.order[:i], k.order[i+1:]...)
			break
		}
	}
}

// stopTurns lets no further turn begin: sockets say goodbye once they are quiet.
func (s *Server) stopTurns() {
	s.sockets.mu.Lock()
	defer s.sockets.mu.Unlock()
	if !s.sockets.stopping {
		s.sockets.stopping = true
		close(s.sockets.stop)
	}
}

// stopSockets waits for all sockets, and closes those that are there after ctx.
func (s *Server) stopSockets(ctx context.Context) {
	s.stopTurns()
	s.sockets.mu.Lock()
	if len(s.sockets.open) == 0 {
		s.sockets.mu.Unlock()
		return
	}
	if s.sockets.none == nil {
		s.sockets.none = make(chan struct{})
	}
	none := s.sockets.none
	s.sockets.mu.Unlock()
	select {
	case <-none:
		return
	case <-ctx.Done():
	}
	s.sockets.mu.Lock()
	all := make([]*socket, 0, len(s.sockets.open))
	for k := range s.sockets.open {
		all = append(all, k)
	}
	s.sockets.mu.Unlock()
	for _, k := range all {
		k.conn.Close()
	}
	<-none
}
