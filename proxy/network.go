package proxy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"nearside/breaker"
	"nearside/shaping/wire"
	"nearside/upstream"
)

// network is what is known of this machine's own network. While there is no way
// out, far targets are passed over together and none of them is held to be
// failing; after a while one request finds out whether there is a way again.
type network struct {
	until   atomic.Int64 // far targets are passed over until then, unix nanoseconds; 0 while all is well
	blaming atomic.Bool  // blamed holds a provider

	mu     sync.Mutex // guards all below
	since  time.Time
	length time.Duration // of the present mark
	cause  string
	by     string          // the provider whose failure it was told by
	many   bool            // and others
	blamed map[string]bool // providers whose names or addresses were alone in having no way
}

// NetworkState is what is known of this machine's own network.
type NetworkState struct {
	State string    `json:"state"` // up or down
	Cause string    `json:"cause,omitempty"`
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"` // far targets are passed over until then
}

// Network returns what is known of this machine's own network, as far targets
// have shown it.
func (s *Server) Network() NetworkState {
	n := &s.network
	until := n.until.Load()
	if until == 0 {
		return NetworkState{State: "up"}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return NetworkState{State: "down", Cause: n.cause, Since: n.since, Until: moment(until)}
}

// down returns until when far targets are passed over; zero when they are not.
func (n *network) down(now time.Time) time.Time {
	if until := n.until.Load(); until > nanos(now) {
		return moment(until)
	}
	return time.Time{}
}

// doubtful says whether the network was down when it was last heard of.
func (n *network) doubtful() bool { return n.until.Load() != 0 }

// claim says whether a request may find out whether there is a way again: one at
// a time, once the mark has run out.
func (n *network) claim(now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	until := n.until.Load()
	if until > nanos(now) {
		return false
	}
	if until != 0 {
		n.until.Store(nanos(now.Add(n.length)))
	}
	return true
}

// failed takes note that a provider could not be reached for want of a way out.
// tried says that the request had claimed to find out. It says whether that is
// believed, and whether the network was thought to be up until now.
func (n *network) failed(provider, cause string, tried bool, now time.Time, cfg *Network) (believed, news bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.blamed[provider] {
		return false, false
	}
	if cfg.Offline <= 0 {
		return true, false
	}
	until := n.until.Load()
	switch {
	case until == 0:
		n.since, n.length, n.by, n.many, news = now, cfg.Offline, provider, false, true
	case tried || until <= nanos(now):
		n.length = min(2*n.length, cfg.OfflineMax)
	}
	n.many = n.many || n.by != provider
	n.cause = cause
	if news || tried || until <= nanos(now) {
		n.until.Store(nanos(now.Add(time.Duration((0.8 + 0.4*rand.Float64()) * float64(n.length)))))
	}
	return true, news
}

// blamedMax bounds the providers that are blamed; more are not configured.
const blamedMax = 1024

// answered takes note that a provider did answer. If only one other had told that
// there is no way out, the fault is that one's: what it tells next counts against
// it. answered says how long the network was thought to be down; 0 when it was not.
func (n *network) answered(provider string, now time.Time) time.Duration {
	if n.until.Load() == 0 && !n.blaming.Load() {
		return 0
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.blamed, provider)
	was := n.until.Load()
	if was != 0 && !n.many && n.by != provider && len(n.blamed) < blamedMax {
		if n.blamed == nil {
			n.blamed = map[string]bool{}
		}
		n.blamed[n.by] = true
	}
	n.blaming.Store(len(n.blamed) > 0)
	if was == 0 {
		return 0
	}
	n.until.Store(0)
	return max(now.Sub(n.since), 1)
}

// offlineReason says why a far target is passed over.
func (s *Server) offlineReason(until time.Time) string {
	return fmt.Sprintf("this machine's own network is down: %s; far targets are asked again after %s", s.Network().Cause, until.UTC().Format(time.RFC3339))
}

// reaches says whether a far target may be asked now: while the network is down
// only by who found it down, and by the one that finds out whether it still is.
func (x *exchange) reaches(now time.Time) bool {
	if !x.s.network.doubtful() || x.leaving.stranded || x.leaving.scout {
		return true
	}
	x.leaving.scout = x.s.network.claim(now)
	return x.leaving.scout
}

// wayLost says whether the present target's stream broke while this machine's own
// network is held to be down, which is the likelier reason.
func (x *exchange) wayLost() bool { return x.cur.route == "far" && x.s.network.doubtful() }

// wayOut judges the failure of a far target once more: whether it is for want of
// a way out of this machine's own network, which no backend is to blame for.
func (x *exchange) wayOut(err error, o *outcome, now time.Time) {
	n, id := &x.s.network, x.cur.model.Provider.ID
	if x.at.Head.Status != 0 {
		x.reached(now)
		return
	}
	var up *upstream.Error
	if !errors.As(err, &up) {
		return
	}
	if !up.OwnNetwork() {
		if x.wayLost() && o.verdict == breaker.Bad { // a connection from before, most likely
			o.verdict, o.provider = breaker.Unknown, breaker.Unknown
		}
		return
	}
	believed, news := n.failed(id, up.Error(), x.leaving.scout && !x.leaving.stranded, now, &x.snap.Config.Network)
	if !believed {
		return
	}
	x.leaving.stranded = true
	o.verdict, o.provider = breaker.Unknown, breaker.Unknown
	o.reply = wire.Error{Status: 503, Type: "server_error", Code: codeNetwork, Message: "this machine's own network is down: " + up.Error()}
	o.retryAfter = retryAfterMin
	if until := n.down(now); !until.IsZero() {
		o.retryAfter = max(o.retryAfter, until.Sub(now))
	}
	if news {
		x.s.meter.Network(true)
		x.s.log.Warn().Str("state", "down").Str("cause", up.Error()).Str("provider", id).Msg("network")
	}
}

// codeNetwork is the code of what could not be answered for want of a way out.
const codeNetwork = "network_down"

// reached notes that a far target has answered.
func (x *exchange) reached(now time.Time) {
	if was := x.s.network.answered(x.cur.model.Provider.ID, now); was > 0 {
		x.s.meter.Network(false)
		x.s.log.Info().Str("state", "up").Dur("after", was).Str("provider", x.cur.model.Provider.ID).Msg("network")
	}
}
