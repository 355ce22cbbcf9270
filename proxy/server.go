// Package proxy owns the exchange: routes, plan, attempts, relay and replies,
// reload and drain. It is the only place that knows both shaping and upstream.
// It opens no listener, reads no file and handles no signal.
package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"nearside/breaker"
	"nearside/catalog"
	"nearside/proxy/access"
	"nearside/proxy/capture"
	"nearside/proxy/dash"
	"nearside/proxy/ledger"
	"nearside/proxy/meter"
	"nearside/proxy/store"
	"nearside/proxy/trace"
	"nearside/shaping"
	"nearside/upstream"
)

// Options are what a Server is given from outside.
type Options struct {
	Log     zerolog.Logger
	Meter   *meter.Meter
	Dialer  upstream.Dialer // resolver and dial hook; its Policy is set per backend
	Version string
	Shaping shaping.Options // what translations need
	Store   *store.Store    // of responses; nil keeps none. The caller closes it
	Ledger  *ledger.Ledger  // of exchanges; nil keeps none. The caller closes it
	// Accounts are what keys have used; nil begins with nothing.
	Accounts *access.Accounts
	Tracer   *trace.Tracer // of exchanges; nil traces none. The caller closes it, after Shutdown
	// Hostname is this machine's, by which clients may call it.
	Hostname string
	// Descriptors are those that the process may have open; 0 where nobody knows.
	Descriptors int
	// Captures keeps the bodies that CaptureConfig wants kept; nil keeps none. The
	// caller closes it.
	Captures *capture.Keeper
}

// Server is the proxy. New starts nothing; Serve blocks; Apply swaps the
// configuration; Shutdown drains.
type Server struct {
	log      zerolog.Logger
	meter    *meter.Meter
	version  string
	hostname string // in lower case
	apart    bool   // the operator's endpoints have an address of their own
	pool     *upstream.Pool
	shaping  shaping.Options
	store    *store.Store
	ledger   *ledger.Ledger
	accounts *access.Accounts
	tracer   *trace.Tracer
	captures *capture.Keeper
	jobs     jobs
	sockets  sockets
	http     *fasthttp.Server
	started  time.Time

	snap      atomic.Pointer[Snapshot]
	reload    atomic.Pointer[Reload]
	cooldowns sync.Map // ref → *atomic.Int64: declared models, and passed ones that cool down
	passedMu  sync.Mutex
	passed    map[string]*atomic.Int64 // guarded by passedMu: the cells of passed-through ids in cooldowns
	affinity  affinity
	refused   sync.Map // provider id or ref → refusal
	learned   learning // what backends taught by refusing
	paces     sync.Map // target.key → *[2]pace, where a policy hedges
	exchanges sync.Pool
	requests  sync.Pool // *shaping.Request
	ring      ring
	failures  failures
	gauges    gauges
	lines     lines
	footprint watched
	live      live
	pauses    pauses
	pages     *dash.Pages
	sessions  dash.Sessions
	network   network
	warm      warming
	dialer    upstream.Dialer // for images; its Policy is set there
	conns     atomic.Int64
	draining  atomic.Bool

	_        [64]byte     // what is above is hardly written; these are by each exchange
	inFlight atomic.Int64 // bytes of bodies
	retries  retries
	_        [64]byte

	strangers strangers
	room      room

	departures departures
	settling   settling
	quit       chan struct{} // closed by the first Shutdown
	// Connections that there was no place for and that are being told so.
	turnedBack atomic.Int64
	leaving    sync.WaitGroup

	mu      sync.Mutex // guards all below
	open    map[*clientConn]struct{}
	idle    chan struct{}  // closed when no exchange is under way any more; nil when nobody waits
	out     chan struct{}  // wakes written; holds one
	lns     []net.Listener // of Serve and ServeAdmin
	stopped bool           // by Shutdown: a Serve that comes late has nothing to do
}

// Reload is what the last attempt to load a configuration came to.
type Reload struct {
	At       time.Time `json:"at"`
	OK       bool      `json:"ok"`
	Problems []string  `json:"problems,omitempty"`
	// NeedsRestart names the settings that differ from those in force and are
	// not taken over by a running process.
	NeedsRestart []string `json:"needs_restart,omitempty"`
}

// connsMax stands above every proxy.limits.conns: our listener holds that one,
// as it is now, and fasthttp's own bound could not change.
const connsMax = 1 << 30

// keptBodyMax bounds a body's buffer that is used again.
const keptBodyMax = 4 << 20

// New makes a server that serves snap. Its limit of heads and the client's read
// and idle deadlines hold for its life; all else follows Apply.
func New(snap *Snapshot, opt Options) *Server {
	s := &Server{log: opt.Log, meter: opt.Meter, version: opt.Version, dialer: opt.Dialer, shaping: opt.Shaping, store: opt.Store, ledger: opt.Ledger, tracer: opt.Tracer, captures: opt.Captures, hostname: strings.ToLower(opt.Hostname), apart: snap.Config.Admin.Listen != "", started: time.Now(),
		open: map[*clientConn]struct{}{}, out: make(chan struct{}, 1), quit: make(chan struct{})}
	if s.accounts = opt.Accounts; s.accounts == nil {
		s.accounts = access.NewAccounts(nil)
	}
	s.room.conns = connsFor(opt.Descriptors)
	// A body that is larger is not kept for a connection's next request.
	fasthttp.SetBodySizePoolLimit(keptBodyMax, keptBodyMax)
	s.pages = dash.NewPages()
	s.departures.wake = make(chan struct{}, 1)
	s.requests.New = func() any { return new(shaping.Request) }
	s.exchanges.New = func() any { return s.newExchange() }
	s.jobs.running, s.jobs.slots = map[string]*job{}, make(chan struct{}, snap.Config.Responses.Background)
	s.sockets.open, s.sockets.stop = map[*socket]struct{}{}, make(chan struct{})
	s.sockets.ping, s.sockets.pong, s.sockets.bye = socketPing, socketPong, socketBye
	if st := s.store; st != nil {
		s.meter.Watch(func() meter.Store {
			now := st.Stats()
			return meter.Store{Responses: now.Responses, Conversations: now.Conversations, Bytes: now.Bytes, Queue: now.Queue, QueueBytes: now.QueueBytes,
				Swept: now.Swept, WriteErrors: now.WriteErrors}
		})
	}
	if l := s.ledger; l != nil {
		s.meter.WatchLedger(func() meter.Ledger {
			now := l.Stats()
			return meter.Ledger{Written: now.Written, Lost: now.Lost, Failed: now.Failed, Waiting: now.Waiting, Bytes: now.Bytes}
		})
	}
	if t := s.tracer; t != nil {
		s.meter.WatchTraces(func() meter.Traces {
			now := t.Stats()
			return meter.Traces{Exported: now.Exported, Dropped: now.Dropped, Failed: now.Failed, Waiting: now.Waiting}
		})
	}
	if k := s.captures; k != nil {
		k.OnLoss(func() { s.meter.Problem("capture_lost") })
	}
	s.meter.WatchEndpoints(s.endpointGauges)
	s.meter.WatchLines(s.lines.gauges)
	s.warm.init(s)
	s.meter.WatchWarm(s.warm.gauges)
	s.meter.WatchPaused(s.pauses.names)
	s.meter.WatchInFlight(s.underWay)
	s.meter.WatchBudget(func() int { return s.Retries().Left })
	s.lines.told, s.lines.changed = s.slotsChanged, make(chan struct{}, 1)
	s.pool = upstream.NewPool(upstream.Options{Dialer: opt.Dialer, Agent: "nearside/" + opt.Version, Changed: s.breakerChanged, Gone: opt.Meter.Forget, State: s.stateChanged})
	s.meter.WatchKeys(s.coolingKeys)
	cfg := &snap.Config
	s.http = &fasthttp.Server{
		Handler:                      s.handler(),
		ErrorHandler:                 s.badHTTP,
		Name:                         "nearside",
		ReadBufferSize:               cfg.Limits.HeaderBytes,
		MaxRequestBodySize:           cfg.Limits.BodyBytes,
		HeaderReceived:               s.headerReceived,
		ReadTimeout:                  cfg.Client.Read,
		IdleTimeout:                  cfg.Client.Idle,
		Concurrency:                  connsMax,
		DisablePreParseMultipartForm: true,
		NoDefaultContentType:         true,
		SecureErrorLogMessage:        true,
		CloseOnShutdown:              true,
		TCPKeepalive:                 true,
		LazyRequestTime:              true,
		Logger:                       httpLog{s},
	}
	s.Apply(snap)
	return s
}

func (s *Server) newExchange() *exchange {
	x := &exchange{nudge: make(chan struct{}, 1), enc: new(shaping.StreamEncoder)}
	x.departed = x.depart
	return x
}

// Apply swaps the configuration. Exchanges under way finish on the one they
// began with.
func (s *Server) Apply(snap *Snapshot) {
	s.pool.Apply(snap.Backends)
	s.applyStates(snap)
	s.gauges.apply(snap.Catalog)
	s.lines.apply(snap)
	s.ring.resize(snap.Config.ExchangesKept)
	s.meter.LimitKeys(snap.Config.MetricsKeys)
	s.keepPauses(snap)
	s.snap.Store(snap)
	s.warm.apply(snap.Config.Warm)
}

// Snapshot returns the configuration in force.
func (s *Server) Snapshot() *Snapshot { return s.snap.Load() }

// Reloaded notes what came of loading a configuration, for /readyz and the
// metrics.
func (s *Server) Reloaded(r Reload) {
	s.reload.Store(&r)
	if r.OK {
		s.pool.ForgiveKeys()
		s.refused.Clear() // the credential may have been mended where it lies
		s.learned.reset() // and the server, or what is said of it
	}
	s.meter.Reload(r.OK)
}

// Serve accepts connections from ln until Shutdown, and probes backends until
// ctx ends. cert is nil for plain HTTP.
func (s *Server) Serve(ctx context.Context, ln net.Listener, cert *tls.Config) error {
	s.departures.begin() // Shutdown ends both: those that are let finish may leave
	s.settling.begin(s)
	ctx, cancel := context.WithCancel(ctx)
	var probing sync.WaitGroup
	probing.Go(func() { s.pool.Run(ctx) })
	probing.Go(func() { s.warm.run(ctx) })
	probing.Go(func() { s.watchMemory(ctx) })
	probing.Go(func() { s.watchLines(ctx) })
	defer probing.Wait()
	defer cancel()
	return s.accept(ln, cert, false)
}

// accept serves the connections of one listener until Shutdown.
func (s *Server) accept(ln net.Listener, cert *tls.Config, admin bool) error {
	s.mu.Lock()
	stopped := s.stopped
	s.lns = append(s.lns, ln)
	s.mu.Unlock()
	if stopped {
		return ln.Close()
	}
	if cert != nil {
		ln = tls.NewListener(ln, cert)
	}
	return s.http.Serve(listener{ln, s, admin})
}

// Shutdown announces, stops accepting, lets exchanges finish, ends the rest
// with an error event when the grace or ctx is over, and closes. It returns an
// error when exchanges had to be ended.
func (s *Server) Shutdown(ctx context.Context) error {
	cfg := s.snap.Load().Config.Drain
	s.draining.Store(true)
	s.mu.Lock()
	if !s.stopped {
		close(s.quit)
	}
	s.stopped = true
	s.mu.Unlock()
	if cfg.Announce > 0 {
		select {
		case <-time.After(cfg.Announce):
		case <-ctx.Done():
		}
	}
	s.live.feed.Close()
	s.stopTurns()
	s.stopWaiting()
	// fasthttp's own wait has no notion of our streams: it gets a context that
	// is over, stops accepting, and leaves the open connections to us.
	over, cancel := context.WithCancel(context.Background())
	cancel()
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		_ = s.http.ShutdownWithContext(over)
	}()
	grace, cancelGrace := context.WithTimeout(ctx, cfg.Grace)
	defer cancelGrace()
	err := s.wait(grace)
	if err != nil {
		s.mu.Lock()
		n := s.active((*exchange).end)
		s.mu.Unlock()
		last, cancelLast := context.WithTimeout(context.Background(), endGrace)
		_ = s.wait(last)
		cancelLast()
		when := "when proxy.drain.graceSeconds was over"
		if ctx.Err() != nil { // whoever shuts down did not want to wait any longer
			when = "before proxy.drain.graceSeconds was over, as asked"
		}
		err = fmt.Errorf("%d exchanges were ended with an error event %s", n, when)
	}
	<-stop
	out, cancelOut := context.WithTimeout(context.Background(), endGrace)
	s.written(out)
	cancelOut()
	last, cancelLast := context.WithTimeout(context.Background(), endGrace)
	s.stopSockets(last)
	cancelLast()
	s.mu.Lock()
	for _, ln := range s.lns { // fasthttp closes only what its Serve has got to know
		ln.Close()
	}
	for c := range s.open {
		c.Conn.Close()
	}
	s.mu.Unlock()
	s.leaving.Wait()
	s.stopJobs()
	s.departures.end()
	s.settling.end(s)
	s.pool.Close()
	return err
}

// endGrace is how long ended exchanges have to write their error event.
const endGrace = 2 * time.Second

// wait returns when no exchange is active.
func (s *Server) wait(ctx context.Context) error {
	idle := make(chan struct{})
	s.mu.Lock()
	s.idle = idle
	s.mu.Unlock()
	s.rest()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// written returns when no answer is on its way out any more. An exchange is over
// before its answer is written.
func (s *Server) written(ctx context.Context) {
	for {
		busy := false
		s.mu.Lock()
		for c := range s.open {
			if busy = c.answering.Load(); busy {
				break
			}
		}
		s.mu.Unlock()
		if !busy {
			return
		}
		select {
		case <-s.out:
		case <-ctx.Done():
			return
		}
	}
}

// answered wakes written.
func (s *Server) answered() {
	signal(s.out)
}

func (s *Server) track(c *clientConn, open bool) {
	s.mu.Lock()
	if open {
		s.open[c] = struct{}{}
	} else {
		delete(s.open, c)
	}
	s.mu.Unlock()
	if !open {
		s.answered()
	}
}

func (s *Server) breakerChanged(c breaker.Change) {
	s.placeChanged(c)
	s.meter.Breaker(c.Name, c.To.String())
	s.log.Warn().Str("target", c.Name).Str("from", c.From.String()).Str("to", c.To.String()).Str("cause", c.Cause).Msg("breaker")
}

// Explain returns the plan of a request as the server would make it now.
func (s *Server) Explain(model, fallback string, x ExplainRequest) (*Plan, error) {
	p, snap := new(Plan), s.snap.Load()
	by, err := x.narrowing(&snap.Config)
	if err != nil {
		return nil, err
	}
	err = s.plan(snap, request{narrow: by, model: model, fallback: fallback, dialect: x.Dialect,
		size: catalog.Prompt{TextBytes: x.Env.TextBytes, Images: x.Media.Images}, media: x.Media, body: x.Body, env: x.Env,
		output: int(min(x.Env.MaxTokens, 1<<30))}, time.Now(), p)
	for i := range p.Steps {
		p.Steps[i].Queue = p.Steps[i].target.line.text()
	}
	return p, err
}

// recovered makes a handler survive a panic: the client gets a 500, the log a
// stack without the body.
func (s *Server) recovered(h fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		defer func() {
			if r := recover(); r != nil {
				s.meter.Problem("panic")
				s.log.Error().Str("panic", fmt.Sprint(r)).Bytes("stack", debug.Stack()).Msg("panic in a handler")
				if c, ok := ctx.Conn().(*clientConn); ok {
					c.unwatch()
				}
				ctx.SetConnectionClose()
				replyError(ctx, internalError(), 0, true)
			}
		}()
		h(ctx)
	}
}

// survive makes a goroutine of ours that no handler stands around survive a
// panic; to be deferred.
func (s *Server) survive(where string) {
	if r := recover(); r != nil {
		s.meter.Problem("panic")
		s.log.Error().Str("panic", fmt.Sprint(r)).Bytes("stack", debug.Stack()).Msg("panic in a " + where)
	}
}

// httpLog takes what fasthttp itself has to say.
type httpLog struct{ s *Server }

// Printf logs at debug level: these are clients that misbehave on the wire.
func (l httpLog) Printf(format string, args ...any) {
	l.s.log.Debug().Str("detail", fmt.Sprintf(format, args...)).Msg("http")
}

// departed says whether a request ended because its client did.
func departed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// leftEarly notes a client that left while its request was still arriving.
func (s *Server) leftEarly(ctx *fasthttp.RequestCtx) {
	id := newID()
	r := newReceipt(nil)
	r.ID, r.Started, r.Outcome, r.Status, r.Code, r.Abort = string(id[:]), time.Now(), "client_closed", 499, "client_closed", "request"
	ctx.SetStatusCode(r.Status)
	s.settle(r, nil)
}

// badHTTP answers what fasthttp could not parse as a request. The error's own
// text may hold header bytes, keys among them, and is never echoed.
func (s *Server) badHTTP(ctx *fasthttp.RequestCtx, err error) {
	var small *fasthttp.ErrSmallBuffer
	var timeout net.Error
	e, wait := badRequest("bad_http", "", "the request is not valid HTTP/1.1"), time.Duration(0)
	known := s.strangers.noted(&ctx.Request.Header)
	switch {
	case errors.Is(err, errNoRoom):
		e, wait = overloaded(), retryAfterMin
		if c, ok := ctx.Conn().(*clientConn); ok {
			c.lingers()
		}
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		e = tooLarge(&s.snap.Load().Config)
		cfg := &s.snap.Load().Config // see headerReceived; the head of what came in chunks is gone
		if n := ctx.Request.Header.ContentLength(); n > 0 && n <= cfg.Limits.BodyBytes || n <= 0 && !s.fits(cfg.Limits.BodyBytes, cfg) {
			e, wait = overloaded(), retryAfterMin
		}
		if c, ok := ctx.Conn().(*clientConn); ok {
			c.lingers()
		}
		if _, ok := s.caller(ctx); !ok && !known {
			s.unauthorized(ctx)
			return
		}
	case errors.As(err, &small):
		if c, ok := ctx.Conn().(*clientConn); ok {
			c.lingers()
		}
		e = &wireError{Status: 431, Type: "invalid_request_error", Code: "headers_too_large", Message: "the request's head is larger than proxy.limits.headerBytes allows"}
	case errors.As(err, &timeout) && timeout.Timeout():
		e = &wireError{Status: 408, Type: "invalid_request_error", Code: "request_timeout", Message: "the request did not arrive within proxy.client.readSeconds"}
	}
	ctx.SetConnectionClose()
	if departed(err) {
		s.leftEarly(ctx)
		return
	}
	replyError(ctx, e, wait, false)
	// There is no exchange to be logged; its client looks for a trace all the same.
	s.log.Info().Bytes("request", ctx.Response.Header.Peek("X-Request-Id")).Int("status", e.Status).Str("outcome", "rejected").Str("code", e.Code).Msg("exchange")
}
