package proxy

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"nearside/breaker"
	"nearside/catalog"
	"nearside/proxy/fault"
	"nearside/proxy/meter"
	"nearside/upstream"
)

// A target whose provider has several endpoints has a place at each: a target of
// its own, that differs in where it is asked and in what became of it there. A
// plan names the target once; which of its places is asked is decided when its
// turn comes.

// spread gives a target a place at each endpoint that serves its model.
func (s *Server) spread(t *target, endpoints []*upstream.Endpoint) {
	t.places = make([]*target, len(endpoints))
	for i, e := range endpoints {
		p := &target{model: t.model, ref: t.ref, name: t.name, route: t.route, region: t.region, pinned: t.pinned, lines: t.lines, line: t.line, gauge: t.gauge, window: t.window, refText: t.refText, okText: t.okText, windowWarn: t.windowWarn, windowBad: t.windowBad,
			simulated: t.simulated, shapes: t.shapes, shapeErrs: t.shapeErrs, known: t.known, at: e}
		p.backend, p.backendErr = s.pool.BackendAt(t.model, e)
		if t.line != nil {
			p.berth = t.line.at(e.Name)
		}
		p.keys = keyring(t.model, p.backend)
		t.keys = p.keys // the same for all
		p.state = s.pool.ModelAt(t.model, e)
		p.breaker, p.provider = s.pool.BreakersAt(t.model, e)
		p.cool = s.cooldown(p.key(), t.model.Declared)
		if t.backendErr == nil {
			t.backendErr = p.backendErr
		}
		t.places[i] = p
		if p.backendErr == nil && p.backend.Leaves() { // one way out makes all of it far
			t.route = "far"
		}
	}
	for _, p := range t.places {
		p.route = t.route
	}
}

// key tells a target from all others: its ref, and where several endpoints serve
// it, which of them.
func (t *target) key() string {
	if t.at == nil {
		return t.ref
	}
	return t.ref + "\n" + t.at.Name
}

// endpoint is the name of the endpoint that a place is at; empty for a target
// whose provider has one address.
func (t *target) endpoint() string {
	if t.at == nil {
		return ""
	}
	return t.at.Name
}

// loads appends what a pick must know of each place of a target.
func (t *target) loads(dst []upstream.Load, now time.Time, b *upstream.Balance) []upstream.Load {
	for _, p := range t.places {
		l := p.at.Load(now, b, p.backend, p.provider.Peek(), p.breaker.Peek())
		if p.cool.Load() > nanos(now) {
			l.Weight = 0
		}
		dst = append(dst, l)
	}
	return dst
}

// stand returns the place that stands for a target when it is asked whether it
// may be called: one that may, else the one that may the soonest. It is t itself
// where there is one address.
func (t *target) stand(now time.Time) *target {
	if t.places == nil {
		return t
	}
	var soonest *target
	var at time.Time
	for _, p := range t.places {
		if p.at.Drains() {
			continue
		}
		var until time.Time
		for _, b := range [...]*breaker.Breaker{p.provider, p.breaker} {
			if s := b.Peek(); !s.Callable(now) && s.Until.After(until) {
				until = s.Until
			}
		}
		if c := p.cool.Load(); c > nanos(now) && c > nanos(until) {
			until = moment(c)
		}
		if soonest == nil || until.Before(at) {
			soonest, at = p, until
		}
	}
	if soonest == nil { // all drain
		return t.places[0]
	}
	return soonest
}

// drains says why a target is not asked although nothing fails: all its
// endpoints are being drained or paused. Empty where that is not so.
func (t *target) drains() string {
	if t.places == nil {
		return ""
	}
	id, resume := t.model.Provider.ID, ""
	for _, p := range t.places {
		switch {
		case p.at.Drain:
		case p.at.Drains():
			resume += ", nearside resume " + id + "@" + p.at.Name
		default:
			return ""
		}
	}
	if resume != "" {
		return fmt.Sprintf("all its endpoints are drained or paused (proxy.providers.%s.endpoints%s)", id, resume)
	}
	return fmt.Sprintf("all its endpoints are drained (proxy.providers.%s.endpoints)", id)
}

// allOut adds to the reason why a target is skipped that none of its endpoints
// is better off.
func (t *target) allOut(st *Step, now time.Time) {
	if t.places != nil && (st.skip == skipOpen || st.skip == skipCooling) {
		st.Reason = fmt.Sprintf("none of its %d endpoints can be asked; the first to be again is %s: %s", len(t.places), t.stand(now).at.Name, st.Reason)
	}
}

// admit takes both tickets of a target, and returns the place of it that is
// asked: t itself where its provider has one address.
func (x *exchange) admit(t *target) (*target, error) {
	if t.places == nil {
		return t, x.enter(t)
	}
	if x.placesOf != t {
		x.placesOf, x.placesAsked = t, 0
	}
	var err error
	for {
		i := x.pick(t, time.Now(), true)
		if i < 0 && t.line != nil { // a slot was to be free: of what is left the least busy
			i = x.pick(t, time.Now(), false)
		}
		if i < 0 {
			break
		}
		x.placesAsked |= 1 << i
		if err = x.enter(t.places[i]); err == nil {
			return t.places[i], nil
		}
	}
	if err == nil {
		err = fmt.Errorf("none of its endpoints can be asked: %s", strings.TrimSpace(t.drains()+" their breakers are open, or they asked to be left alone"))
	}
	return t, err
}

// pick returns the place that a request goes to among those that were not tried,
// -1 for none; with slots only of those that have one free.
func (x *exchange) pick(t *target, now time.Time, slots bool) int {
	var space [upstream.EndpointsMax]upstream.Load
	loads := t.loads(space[:0], now, &x.snap.Config.Balance)
	for i := range loads {
		if r := t.places[i].berth; x.placesAsked&(1<<i) != 0 || slots && r != nil && r.full() {
			loads[i].Weight = 0
		}
	}
	return upstream.Pick(loads, x.session(), x.snap.Config.Balance.Load, rand.Uint64())
}

// elsewhere says whether another endpoint is asked after one has failed, and
// then has the present step tried once more. Each counts as a target of
// proxy.fallback.targets, of which one is left to the next of the chain.
func (x *exchange) elsewhere(o *outcome, now time.Time) bool {
	if x.cur.at == nil || !ofEndpoint(o) {
		return false
	}
	x.cur.at.Failed(now, &x.snap.Config.Balance)
	left := x.snap.Config.Fallback.Targets - x.tries
	if x.more() {
		left--
	}
	if left <= 0 || x.placesOf == nil || x.pick(x.placesOf, now, false) < 0 {
		return false
	}
	x.step--
	return true
}

// ofEndpoint says whether a failure is the endpoint's own, so that another of
// the same provider may do better: not what the request, or the credential that
// all share, is at fault for.
func ofEndpoint(o *outcome) bool {
	switch o.reason {
	case fault.Auth, fault.AuthPermanent, fault.Billing, fault.ContextOverflow:
		return false
	}
	return o.next
}

// spent says whether an exchange has asked as many as it may. Only endpoints can
// make it: of targets the plan has no more.
func (x *exchange) spent() bool { return x.tries >= x.snap.Config.Fallback.Targets }

// unasked notes a step that the plan had, and that endpoints of an earlier one
// left nothing for.
func (x *exchange) unasked(st *Step) {
	if !st.Skip {
		st.skip, st.Skip = skipBound, true
		st.Reason = fmt.Sprintf("at most %d targets are tried, each endpoint counted (proxy.fallback.targets)", x.snap.Config.Fallback.Targets)
	}
}

// Endpoints returns how the endpoints of all providers that have several are at
// the moment.
func (s *Server) Endpoints() []upstream.EndpointState {
	return s.pool.EachEndpoint(&s.snap.Load().Config.Balance)
}

// endpointsOf returns those of one provider, in the order of the configuration.
func endpointsOf(snap *Snapshot, p *catalog.Provider, all []upstream.EndpointState) []StatusEndpoint {
	var rows []StatusEndpoint
	for i := range all {
		e := &all[i]
		if e.Provider != p.ID {
			continue
		}
		row := StatusEndpoint{Name: e.Name, URL: e.URL, Weight: e.Weight, Now: e.Now, Drain: e.Drain, InFlight: e.InFlight, Penalty: e.Phantom, Breaker: statusBreaker(e.Breaker)}
		for _, seen := range snap.States[p.ID].Endpoints {
			if seen.Name == e.Name {
				row.State, row.Detail = seen.State, seen.Detail
			}
		}
		if s := row.Breaker; s != nil && s.State != breaker.Closed.String() { // which knows of later than the look
			row.State, row.Detail = upstream.StateFailing, "its breaker is "+s.State+" ("+s.Cause+")"
		}
		rows = append(rows, row)
	}
	return rows
}

// endpointGauges are the endpoints as the metrics show them.
func (s *Server) endpointGauges() []meter.Endpoint {
	all := s.Endpoints()
	out := make([]meter.Endpoint, len(all))
	for i := range all {
		out[i] = meter.Endpoint{Provider: all[i].Provider, Name: all[i].Name, InFlight: all[i].InFlight, Weight: all[i].Now}
	}
	return out
}

// sampleBad counts a stream that broke after its first content.
func (x *exchange) sampleBad() {
	if x.wayLost() {
		return
	}
	x.cur.breaker.Sample(breaker.Bad)
	if x.cur.at != nil {
		x.cur.at.Failed(time.Now(), &x.snap.Config.Balance)
	}
}
