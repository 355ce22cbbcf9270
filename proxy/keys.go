package proxy

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"nearside/catalog"
	"nearside/proxy/fault"
	"nearside/proxy/meter"
	"nearside/upstream"
)

// CooldownConfig says how long keys are left alone that failed, and how many of them
// one exchange tries.
type CooldownConfig struct {
	upstream.Cooldown
	OverloadedRotations  int // further keys of a target that is overloaded
	RateLimitedRotations int // and of one where the key is limited
	Rotations            int // and in all
}

// keyUse is what an exchange knows of the keys of its present target.
type keyUse struct {
	ring    *upstream.Keyring // nil: no key is sent
	at      int               // the key of the present attempt
	tried   uint64            // a bit for each that failed
	rotated int               // how many further keys were tried,
	limited int               // of these because the one before was limited
	loaded  int               // or overloaded
	again   bool              // the same target is about to be tried with its next key
}

// keyring returns the keys that requests to a model are sent with; nil where it
// has a credential of its own, or none is sent.
func keyring(m *catalog.Model, b *upstream.Backend) *upstream.Keyring {
	if b == nil {
		return nil
	}
	for _, h := range m.Headers {
		switch strings.ToLower(h.Name) {
		case "authorization", "x-api-key", "api-key":
			return nil
		}
	}
	return b.Keys()
}

// probing says why a step is tried although all keys of its provider are left
// alone.
type probing uint8

const (
	probeNot      probing = iota
	probePrimary          // the plan's first target, near the end of the window
	probeFallback         // another, since the reason may be over
)

// cools says why a target is skipped on account of its keys, if it is.
func (st *Step) cools(now time.Time) bool {
	t := st.target
	w, cools := t.keys.Cooling(t.model.ID, now)
	if !cools {
		return false
	}
	if st.soft == "" { // what may not do anyway is not tried before its time
		window := w
		st.window = &window
	}
	st.soft, st.until = "", w.Until
	id, until := t.model.Provider.ID, w.Until.UTC().Format(time.RFC3339)
	which := t.keys.Label(w.Key)
	if t.keys.Len() > 1 {
		which = fmt.Sprintf("all %d keys are left alone, %s", t.keys.Len(), which)
	}
	switch {
	case w.Reason.Refused():
		st.skip, st.until = skipRefused, time.Time{}
		st.Reason = fmt.Sprintf("the backend refused our credential (models.providers.%s.apiKey): %s (%s); it is asked again after %s, or when the configuration is loaded again", id, which, w.Reason, until)
	case w.Reason == upstream.KeyBilling:
		st.skip = skipBilling
		st.Reason = fmt.Sprintf("%s until %s (billing): the account has no credit, or its limit is reached", which, until)
	default:
		st.skip = skipCooling
		st.Reason = fmt.Sprintf("%s until %s (%s)", which, until, w.Reason)
	}
	return true
}

// probe has a step tried whose keys are all left alone, where OpenClaw does: the
// primary shortly before the end of its window and not more often than
// Cooldown.ProbeEvery, other targets when the reason may be over, once for each
// provider. A refusal is waited for, an account without credit is tried for the
// primary alone. What a backend asked for (Retry-After) stands above all of it.
func (st *Step) probe(before []Step, primary, alone bool, now time.Time) {
	w, ring := *st.window, st.target.keys
	switch {
	case w.Reason.Refused():
		return
	case primary:
		due := ring.Due(w, now) || alone && w.Reason == upstream.KeyBilling
		if !due || !ring.Probable(now) {
			st.until = ring.Next(w)
			return
		}
		st.probes = probePrimary
	case !w.Reason.Transient() || !ring.Allowed(w, now):
		return
	default:
		for i := range before {
			if b := &before[i]; b.probes != probeNot && b.target.keys == ring {
				st.spare = true // should that one leave the provider's turn to it
				return
			}
		}
		st.probes = probeFallback
	}
	st.skip = skipNot
}

// taken says whether a provider has had its turn to be tried in this exchange.
func (p *Plan) taken(ring *upstream.Keyring) bool {
	for i := range p.Steps {
		if st := &p.Steps[i]; st.probed && st.target.keys == ring {
			return true
		}
	}
	return false
}

// mayTry says whether the exchange tries a step: one that the plan skipped because
// another stands for its provider is tried when that one has said nothing of the
// provider.
func (x *exchange) mayTry(st *Step) bool {
	return !st.done && (!st.Skip || st.spare && !x.plan.taken(st.target.keys))
}

// takeKey chooses the key of an attempt. It returns why there is none, empty when
// there is.
func (x *exchange) takeKey(st *Step) string {
	k, ring := &x.keys, st.target.keys
	if !k.again || k.ring != ring {
		*k = keyUse{ring: ring}
	}
	k.again = false
	if ring == nil || ring.Calm() && k.tried == 0 {
		return ""
	}
	now, prefer := time.Now(), -1
	if ring.Len() > 1 {
		if was := x.where(); was.key != 0 {
			prefer = ring.Find(was.key)
		}
	}
	if k.at = ring.Pick(st.target.model.ID, prefer, k.tried, now); k.at >= 0 {
		return ""
	}
	k.at = 0
	w, cools := ring.Cooling(st.target.model.ID, now)
	if !cools { // just over
		k.at = w.Key
		return ""
	}
	switch {
	case k.tried != 0:
	case st.probes == probePrimary && ring.Probe(now),
		st.probes != probePrimary && x.step > 1 && w.Reason.Transient() && ring.Allowed(w, now) && !x.plan.taken(ring):
		k.at, st.probed = w.Key, true
		x.s.log.Info().Str("request", x.receipt.ID).Str("target", st.target.ref).Str("key", ring.Label(w.Key)).Str("reason", string(w.Reason)).
			Time("until", w.Until).Msg("key tried before its time")
		return ""
	}
	return fmt.Sprintf("%s is left alone until %s (%s)", ring.Label(w.Key), w.Until.UTC().Format(time.RFC3339), w.Reason)
}

// keyLabel names the key of the present attempt, where there is a choice.
func (x *exchange) keyLabel() string {
	if k := &x.keys; k.ring.Len() > 1 {
		return k.ring.Label(k.at)
	}
	return ""
}

// keyFailed notes what a failed attempt says of its key, and whether it does. What
// it says of the target's own cooldown and credential is then the key's.
func (x *exchange) keyFailed(o *outcome, err error, now time.Time) (upstream.KeyReason, bool) {
	k := &x.keys
	if st := x.present(); st != nil && st.probed && !holdsTurn(o) {
		st.probed = false
	}
	if k.ring == nil {
		return "", false
	}
	f, ok := keyFailure(o, err)
	// One's own machine is busy whatever the key, unless it tells several apart.
	if !ok || x.cur.model.Provider.Near && (f.Reason == upstream.KeyOverloaded || f.Reason == upstream.KeyRateLimit && k.ring.Len() == 1) {
		return "", false
	}
	f.Model = x.cur.model.ID
	w, began := k.ring.Fail(k.at, f, now)
	k.tried |= 1 << k.at
	if began {
		x.alert(w, o, now)
	}
	return f.Reason, true
}

// present returns the step that is being tried.
func (x *exchange) present() *Step {
	if x.step > 0 && x.step <= len(x.plan.Steps) && x.plan.Steps[x.step-1].target.model == x.cur.model {
		return &x.plan.Steps[x.step-1]
	}
	return nil
}

// alert tells of a key that is left alone from now on.
func (x *exchange) alert(w upstream.KeyWindow, o *outcome, now time.Time) {
	id := x.cur.model.Provider.ID
	e := x.s.log.Warn().Str("target", x.cur.ref).Str("key", x.keys.ring.Label(w.Key)).Str("reason", string(w.Reason))
	if !w.Until.IsZero() {
		e.Dur("left_alone", w.Until.Sub(now))
	}
	if w.Model != "" {
		e.Str("model", w.Model)
	}
	if w.Reason.Refused() {
		x.s.meter.Problem("credential_refused")
		e.Str("setting", "models.providers."+id+".apiKey").Msg("credential refused")
		return
	}
	e.Msg("key left alone")
}

// keyFailure is what a failure says of the key it was made with; false for
// nothing, as all that the request, the server or the network is at fault for.
func keyFailure(o *outcome, err error) (upstream.KeyFailure, bool) {
	var f upstream.KeyFailure
	var be *backendError
	if errors.As(err, &be) && be.retryAfter > 0 {
		f.RetryAfter = min(max(be.retryAfter, retryAfterMin), retryAfterMax)
	}
	switch o.reason {
	case fault.RateLimit:
		f.Reason, f.Scoped = upstream.KeyRateLimit, true
	case fault.Overloaded:
		f.Reason = upstream.KeyOverloaded
	case fault.Auth:
		f.Reason, f.Scoped = upstream.KeyAuth, o.refused == 403 // which may be about one model
	case fault.AuthPermanent:
		f.Reason = upstream.KeyAuthPermanent
	case fault.Billing:
		f.Reason = upstream.KeyBilling
	default:
		return f, false
	}
	return f, true
}

// holdsTurn says whether a failed try of a provider has told anything of it: what
// does not leaves the turn to its next model.
func holdsTurn(o *outcome) bool {
	switch o.reason {
	case fault.ModelNotFound, fault.Format, fault.Auth, fault.AuthPermanent, fault.SessionExpired:
		return false
	}
	return true
}

// rotates says whether the same target is tried again with its next key, and
// counts it.
func (x *exchange) rotates(reason upstream.KeyReason, now time.Time) bool {
	k, cfg := &x.keys, &x.snap.Config.Cooldown
	if k.rotated >= cfg.Rotations || k.ring.Len() < 2 {
		return false
	}
	switch reason {
	case upstream.KeyRateLimit:
		if k.limited >= cfg.RateLimitedRotations {
			return false
		}
		k.limited++
	case upstream.KeyOverloaded:
		if k.loaded >= cfg.OverloadedRotations {
			return false
		}
		k.loaded++
	}
	if k.ring.Pick(x.cur.model.ID, -1, k.tried, now) < 0 {
		return false
	}
	k.rotated++
	k.again = true
	x.tries--         // it is no further target
	x.placesAsked = 0 // and any of its endpoints may be asked
	return true
}

// keyServed notes that the present target served: its key works.
func (x *exchange) keyServed() {
	if k := &x.keys; k.ring != nil {
		k.ring.Succeed(k.at, x.cur.model.ID)
	}
}

// coolingKeys lists the keys that are left alone, for the metrics.
func (s *Server) coolingKeys() []meter.Key {
	var all []meter.Key
	now := time.Now()
	for _, k := range s.pool.EachKey() {
		if k.Reason != "" {
			all = append(all, meter.Key{Provider: k.Provider, Index: k.Index, Reason: string(k.Reason), Left: k.Until.Sub(now)})
		}
	}
	return all
}

// Keys returns the state of the keys of all providers that were asked, those of one
// in their order.
func (s *Server) Keys() []upstream.KeyStatus { return s.pool.EachKey() }

// StatusKey is one key of a provider. It is named by its place and its last four
// characters, and never shown.
type StatusKey struct {
	Key    string    `json:"key"`
	State  string    `json:"state"` // ready, cooling_down or disabled
	Reason string    `json:"reason,omitempty"`
	Until  time.Time `json:"until,omitzero"`
	Model  string    `json:"model,omitempty"` // which alone it must not be used for
}

// statusKeys lists the keys of a provider, unless there is one and it is ready.
func statusKeys(all []upstream.KeyStatus, provider string) []StatusKey {
	var rows []StatusKey
	for _, k := range all {
		if k.Provider == provider {
			rows = append(rows, StatusKey{Key: k.Label, State: k.State, Reason: string(k.Reason), Until: k.Until, Model: k.Model})
		}
	}
	if len(rows) == 1 && rows[0].Reason == "" {
		return nil
	}
	return rows
}
