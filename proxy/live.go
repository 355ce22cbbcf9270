package proxy

import (
	"errors"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/goccy/go-json"
	"github.com/valyala/fasthttp"

	"nearside/proxy/access"
	"nearside/proxy/dash"
	"nearside/shaping/wire"
)

// live is what those who watch are told: a picture of everything every so often, and
// each exchange when it is settled. It has no goroutine: the pictures are made by
// the connections of those who watch, one for all of them.
type live struct {
	feed dash.Feed[*Receipt]

	mu    sync.Mutex // guards all below
	rates rates
	frame *Frame // the last picture
}

// Frame is a picture of everything as it is now, with what only a sequence of them
// can tell.
type Frame struct {
	*Status
	// Rates are the tokens a second that each provider's answers brought of late:
	// counted by events while they run, and as the backend says at their end.
	Rates map[string]float64 `json:"tokens_per_second,omitempty"`
	Near  float64            `json:"near_tokens_per_second"`
	Far   float64            `json:"far_tokens_per_second"`
	// Names are what people call the keys, by id.
	Names map[string]string `json:"names,omitempty"`
}

// namesMax bounds the names of keys that a picture has.
const namesMax = 256

// namesOf are what people call the keys of a table, by their ids.
func namesOf(keys *access.Table) map[string]string {
	names := map[string]string{}
	for _, g := range keys.Grants() {
		if g.Label != "" && len(names) < namesMax {
			names[g.ID] = g.Label
		}
	}
	return names
}

// of is what a key sees that may not see what others use: its own requests, and how
// the backends are.
func (f *Frame) of(g *access.Grant) *Frame {
	was := f.Status
	st := &Status{Version: was.Version, At: was.At, Started: was.Started, State: was.State, Network: was.Network,
		Default:  StatusPlan{Requested: was.Default.Requested, First: was.Default.First, Route: was.Default.Route, Steps: []StatusStep{}},
		InFlight: []StatusFlight{}, Backends: []StatusBackend{}, Targets: []StatusTarget{}, Failures: []Failure{}, Clients: []StatusClient{}}
	for _, c := range was.Clients {
		if c.ID == g.ID {
			st.Clients = append(st.Clients, c)
		}
	}
	for _, x := range was.InFlight {
		if x.Key == g.ID {
			st.InFlight = append(st.InFlight, x)
		}
	}
	for i := range f.Backends {
		b := &f.Backends[i]
		st.Backends = append(st.Backends, StatusBackend{Provider: b.Provider, Route: b.Route, State: b.State})
	}
	return &Frame{Status: st, Names: map[string]string{g.ID: g.Name()}}
}

// seenBy says which receipts a key may see; nil stands for a proxy without keys.
func seenBy(g *access.Grant) func(*Receipt) bool {
	if g.Sees() {
		return func(*Receipt) bool { return true }
	}
	return func(r *Receipt) bool { return r.Key == g.ID }
}

// told tells a settled exchange to those who watch. They keep the receipt.
func (l *live) told(r *Receipt) {
	l.mu.Lock()
	l.rates.settled(r)
	l.mu.Unlock()
	l.feed.Tell(r)
}

// picture returns the picture for those who watch, made anew when the last one is
// older than that.
func (s *Server) picture(old time.Duration) *Frame {
	s.settled() // not below: who tells takes the lock
	l := &s.live
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if f := l.frame; f != nil && now.Sub(f.At) < old {
		return f
	}
	f := &Frame{Status: s.Status(), Names: namesOf(s.snap.Load().Config.Keys)}
	l.rates.sample(f.Status, now)
	f.Rates, f.Near, f.Far = l.rates.now()
	l.frame = f
	return f
}

// live serves the feed as server-sent events, until the client or the server
// leaves.
func (s *Server) liveEvents(ctx *fasthttp.RequestCtx) {
	cfg := s.snap.Load().Config.Dashboard
	if !ctx.Request.Header.IsHTTP11() {
		replyError(ctx, badRequest("http_version", "", "/proxy/live needs HTTP/1.1"), 0, false)
		return
	}
	conn, _ := ctx.Conn().(*clientConn)
	w, err := s.live.feed.Watch(cfg.Watchers, cfg.Buffer)
	switch {
	case errors.Is(err, dash.ErrFull):
		replyError(ctx, &wire.Error{Status: 503, Type: "server_error", Code: "too_many_watchers",
			Message: strconv.Itoa(cfg.Watchers) + " watch already (proxy.dashboard.watchers)"}, 5*time.Second, true)
		return
	case err != nil:
		replyError(ctx, &wire.Error{Status: 503, Type: "server_error", Code: "server_shutting_down", Message: "the proxy is shutting down"}, retryAfterMin, true)
		return
	}
	h := &ctx.Response.Header
	ctx.SetStatusCode(200)
	h.SetContentType("text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	h.Set("X-Content-Type-Options", "nosniff")
	g := grantOf(ctx)
	v := &viewer{s: s, w: w, holds: s.stays(ctx), sees: seenBy(g), key: g, conn: conn, every: cfg.Every, write: s.snap.Load().Config.Client.Write, gone: make(chan struct{})}
	if conn != nil {
		conn.watch(time.Now(), 0, v.depart)
	}
	ctx.SetBodyStream(v, -1)
}

// viewer is one who watches, on its connection's goroutine.
type viewer struct {
	s     *Server
	w     *dash.Watcher[*Receipt]
	conn  *clientConn
	holds func() (*access.Grant, bool) // who watches still may
	sees  func(*Receipt) bool
	key   *access.Grant // nil without keys
	every time.Duration
	write time.Duration // for one write
	left  sync.Once
	gone  chan struct{} // closed when the client has left
	buf   []byte
}

func (v *viewer) depart() { v.left.Do(func() { close(v.gone) }) }

// SupportsBodyWriteTo makes fasthttp call WriteTo, as for an exchange.
func (v *viewer) SupportsBodyWriteTo() bool { return true }

// Read is never called; it satisfies io.Reader.
func (v *viewer) Read([]byte) (int, error) { return 0, errors.New("BUG: WriteTo is expected") }

// WriteTo tells what happens until somebody leaves. Who is too slow hears so before
// the end.
func (v *viewer) WriteTo(out io.Writer) (int64, error) {
	defer v.s.survive("view of what happens")
	tick := time.NewTicker(v.every)
	defer tick.Stop()
	if err := v.tell(out, "now", v.picture()); err != nil {
		return 0, err
	}
	for {
		select {
		case <-v.gone:
			return 0, errGone
		case <-v.w.Over():
			reason := "the proxy is shutting down"
			if v.w.Late() {
				reason = "this view was too slow: what happened did not fit into proxy.dashboard.buffer; it can be opened again"
			}
			return 0, v.tell(out, "over", map[string]any{"late": v.w.Late(), "reason": reason})
		case r := <-v.w.Told():
			if !v.sees(r) {
				continue
			}
			if err := v.tell(out, "exchange", r); err != nil {
				return 0, err
			}
		case <-tick.C:
			if !v.may() {
				return 0, v.tell(out, "over", map[string]any{"signed_out": true, "reason": "the key or the session does not hold any more"})
			}
			if err := v.tell(out, "now", v.picture()); err != nil {
				return 0, err
			}
		}
	}
}

// may says whether who watches still may, as much as when the watch began.
func (v *viewer) may() bool {
	g, ok := v.holds()
	return ok && (g == nil) == (v.key == nil) && (g == nil || g.ID == v.key.ID && g.Sees() == v.key.Sees())
}

// picture is what the watcher may see of the present one.
func (v *viewer) picture() *Frame {
	f := v.s.picture(v.every / 2)
	if !v.key.Sees() {
		return f.of(v.key)
	}
	return f
}

func (v *viewer) tell(out io.Writer, event string, what any) error {
	b, err := json.MarshalWithOption(what, json.DisableHTMLEscape())
	if err != nil {
		return err
	}
	v.buf = append(append(append(v.buf[:0], "event: "...), event...), "\ndata: "...)
	v.buf = append(append(v.buf, b...), "\n\n"...)
	if v.conn != nil {
		v.conn.writeWithin(v.write, time.Now())
	}
	_, err = out.Write(v.buf)
	return err
}

// CloseWithError is called by fasthttp when the body is done with.
func (v *viewer) CloseWithError(error) error {
	v.w.Leave()
	if v.conn != nil {
		v.conn.unwatch()
		_ = v.conn.SetWriteDeadline(time.Time{})
	}
	return nil
}

// Close is CloseWithError without an error.
func (v *viewer) Close() error { return v.CloseWithError(nil) }
