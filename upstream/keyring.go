package upstream

import (
	"hash/maphash"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"nearside/catalog"
)

// KeysMax bounds the keys of one provider: those that an exchange has tried are
// the bits of a word.
const KeysMax = 64

// KeyReason is why a key is left alone.
type KeyReason string

// The reasons for which a key is left alone.
const (
	KeyRateLimit     KeyReason = "rate_limit"
	KeyOverloaded    KeyReason = "overloaded"
	KeyAuth          KeyReason = "auth"
	KeyUnknown       KeyReason = "unknown"
	KeyBilling       KeyReason = "billing"
	KeyAuthPermanent KeyReason = "auth_permanent"
)

// Disables says whether the reason blocks all models, and for hours.
func (r KeyReason) Disables() bool { return r == KeyBilling || r == KeyAuthPermanent }

// Refused says whether the backend did not take the key.
func (r KeyReason) Refused() bool { return r == KeyAuth || r == KeyAuthPermanent }

// Transient says whether the reason may be over sooner than was thought.
func (r KeyReason) Transient() bool { return !r.Disables() && !r.Refused() }

// Cooldown says for how long keys are left alone. As a part of Config the zero
// Cooldown means DefaultCooldown.
type Cooldown struct {
	First, Second, Further  time.Duration // rate_limit, overloaded, auth, unknown: by failures in a row
	Refused                 time.Duration // the least for auth
	Billing, BillingMax     time.Duration // the first window, which doubles, and its cap
	Permanent, PermanentMax time.Duration // the same for auth_permanent
	DisabledMin             time.Duration // no window of these two is shorter
	FailureWindow           time.Duration // failures further apart are not in a row
	ProbeWithin             time.Duration // so close to its end a window is tried
	ProbeEvery              time.Duration // at most so often for each provider
}

// DefaultCooldown returns the windows of OpenClaw, but that a key that was
// refused is left alone for five minutes from the first time on.
func DefaultCooldown() Cooldown {
	return Cooldown{First: 30 * time.Second, Second: time.Minute, Further: 5 * time.Minute, Refused: 5 * time.Minute,
		Billing: 5 * time.Hour, BillingMax: 24 * time.Hour, Permanent: 10 * time.Minute, PermanentMax: time.Hour, DisabledMin: time.Minute,
		FailureWindow: 24 * time.Hour, ProbeWithin: 2 * time.Minute, ProbeEvery: 30 * time.Second}
}

// window returns how long a key is left alone: n is how many failures in a row
// it has had, or for what disables it how many of this reason.
func (c *Cooldown) window(reason KeyReason, n int) time.Duration {
	switch reason {
	case KeyBilling:
		return c.doubled(c.Billing, c.BillingMax, n)
	case KeyAuthPermanent:
		return c.doubled(c.Permanent, c.PermanentMax, n)
	}
	d := c.Further
	switch n {
	case 1:
		d = c.First
	case 2:
		d = c.Second
	}
	if reason == KeyAuth {
		d = max(d, c.Refused)
	}
	return d
}

func (c *Cooldown) doubled(first, most time.Duration, n int) time.Duration {
	first = max(first, c.DisabledMin)
	most = max(first, most)
	for ; n > 1 && first < most; n-- {
		first *= 2
	}
	return min(first, most)
}

// Keyring holds the keys of one provider and says which of them may be used. It
// is safe for concurrent use; while nothing failed it takes no lock. Where a
// provider is given other keys it has another Keyring: of the keys that stay,
// both know the same.
type Keyring struct {
	provider string
	exempt   bool
	cfg      Cooldown
	keys     []*keyState
	labels   []string
	probed   *atomic.Int64 // when a window was tried last, unix nanoseconds
}

// keyState is what is known of one key, however many Keyrings it is on.
type keyState struct {
	id      uint64
	blocked atomic.Int64 // end of its last window, unix nanoseconds; 0 when there is nothing to forget

	mu       sync.Mutex // guards all below
	cool     window
	disabled window
	row      int               // failures in a row
	each     map[KeyReason]int // of which reason; nil for none
	last     time.Time         // when it failed
}

// window is a time in which a key is left alone.
type window struct {
	until  time.Time
	asked  time.Time // until when the backend itself wants to be left alone
	reason KeyReason
	model  string // which alone must not be used; empty for all
}

// KeyWindow is why and until when a key is left alone.
type KeyWindow struct {
	Key    int
	Reason KeyReason
	Until  time.Time
	Asked  time.Time // the backend wants to be left alone until then; zero when it did not say
	Model  string    // which alone must not be used; empty for all
}

// KeyFailure is what became of a request with a key.
type KeyFailure struct {
	Reason     KeyReason
	Model      string
	Scoped     bool          // it says nothing of other models
	RetryAfter time.Duration // what the backend asked for; 0 when it did not
}

// keySeed makes the ids of keys unlike their hashes elsewhere.
var keySeed = maphash.MakeSeed()

// newKeyring returns the keyring of a configuration, nil where no credential is
// sent. What old knows of the same keys is kept.
func newKeyring(c Config, old *Keyring) *Keyring {
	secrets := c.ringSecrets()
	if len(secrets) == 0 {
		return nil
	}
	r := &Keyring{provider: c.ID, cfg: c.Cooldown, exempt: c.ID == "openrouter" || c.ID == "kilocode" || c.Kind == catalog.KindOpenRouter, probed: new(atomic.Int64)}
	if r.cfg == (Cooldown{}) {
		r.cfg = DefaultCooldown()
	}
	if old != nil {
		r.probed = old.probed
	}
	for i, s := range secrets {
		id := maphash.String(keySeed, s)
		k := &keyState{id: id}
		if old != nil {
			if at := old.Find(id); at >= 0 {
				k = old.keys[at]
			}
		}
		r.keys = append(r.keys, k)
		r.labels = append(r.labels, keyLabel(i, s))
	}
	return r
}

// ringSecrets returns the keys or, where there are none, what stands for them:
// headers that hold a credential are sent together, and are one key.
func (c *Config) ringSecrets() []string {
	if all := c.credentials(); len(all) > 0 {
		return all
	}
	_, proofs := c.headerSecrets()
	return proofs[:min(1, len(proofs))]
}

// keyLabel names a key by its place and its end; a short one by its place.
func keyLabel(i int, secret string) string {
	label := "key " + strconv.Itoa(i+1)
	if len(secret) < 16 {
		return label
	}
	return label + " (…" + strings.ToValidUTF8(secret[len(secret)-4:], "?") + ")"
}

// Len returns how many keys there are; a nil Keyring has none.
func (r *Keyring) Len() int {
	if r == nil {
		return 0
	}
	return len(r.keys)
}

// Label names a key without showing it.
func (r *Keyring) Label(i int) string { return r.labels[i] }

// ID tells a key from all others of this process, whatever its place.
func (r *Keyring) ID(i int) uint64 { return r.keys[i].id }

// Find returns the place of the key with an id, or -1.
func (r *Keyring) Find(id uint64) int {
	return slices.IndexFunc(r.keys, func(k *keyState) bool { return k.id == id })
}

// Calm says that there is one key and that it may be used: there is nothing to
// choose.
func (r *Keyring) Calm() bool { return len(r.keys) == 1 && r.keys[0].blocked.Load() == 0 }

// Pick returns the key to use for a model: prefer, if it may be used, else the
// first that may; -1 when none may. tried has a bit for each key that is out of
// the question, prefer is -1 for none.
func (r *Keyring) Pick(model string, prefer int, tried uint64, now time.Time) int {
	if prefer >= 0 && tried>>prefer&1 == 0 && r.keys[prefer].usable(model, now) {
		return prefer
	}
	for i, k := range r.keys {
		if tried>>i&1 == 0 && k.usable(model, now) {
			return i
		}
	}
	return -1
}

// usable says whether no window of the key stands for a model.
func (k *keyState) usable(model string, now time.Time) bool {
	if until := k.blocked.Load(); until == 0 || until <= nanos(now) {
		return true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	_, stands := k.standing(model, now)
	return !stands
}

// standing returns the window that keeps the key from a model. The caller holds
// mu.
func (k *keyState) standing(model string, now time.Time) (window, bool) {
	cools := k.cool.until.After(now) && (k.cool.model == "" || k.cool.model == model)
	if !k.disabled.until.After(now) {
		return k.cool, cools
	}
	w := k.disabled
	if cools && k.cool.until.After(w.until) {
		w.until = k.cool.until
	}
	return w, true
}

// Cooling says whether every key is left alone for a model, and returns the
// window most worth trying: of a reason that may be over before one that
// money mends before a refusal, and of these the one that is over first.
func (r *Keyring) Cooling(model string, now time.Time) (KeyWindow, bool) {
	if r.Pick(model, -1, 0, now) >= 0 {
		return KeyWindow{}, false
	}
	var best KeyWindow
	for i, k := range r.keys {
		k.mu.Lock()
		w, stands := k.standing(model, now)
		k.mu.Unlock()
		if !stands { // it has just ended
			return KeyWindow{}, false
		}
		if i == 0 || rank(w.reason) < rank(best.Reason) || rank(w.reason) == rank(best.Reason) && w.until.Before(best.Until) {
			best = KeyWindow{Key: i, Reason: w.reason, Until: w.until, Asked: w.asked, Model: w.model}
		}
	}
	return best, true
}

func rank(r KeyReason) int {
	switch {
	case r.Transient():
		return 0
	case r == KeyBilling:
		return 1
	}
	return 2
}

// Fail notes that a key failed and returns the window in which it is left alone
// now; its Until is zero for a provider whose keys are never left alone. began says
// whether this failure began it (or, where none begins, that it is worth a word):
// a window that stands is never made longer, but a failure with another model
// widens it to all. Counts begin anew when all windows are over, or after
// Cooldown.FailureWindow.
func (r *Keyring) Fail(i int, f KeyFailure, now time.Time) (w KeyWindow, began bool) {
	k := r.keys[i]
	k.mu.Lock()
	defer k.mu.Unlock()
	if over := later(k.cool.until, k.disabled.until); !now.Before(over) || now.Sub(k.last) > r.cfg.FailureWindow {
		k.row, k.each = 0, nil
	}
	quiet := now.Sub(k.last) >= r.cfg.Refused
	k.last = now
	k.row++
	if k.each == nil {
		k.each = map[KeyReason]int{}
	}
	k.each[f.Reason]++
	at, n := &k.cool, k.row
	if f.Reason.Disables() {
		at, n = &k.disabled, k.each[f.Reason]
	}
	var asked time.Time
	if f.RetryAfter > 0 {
		asked = now.Add(f.RetryAfter)
	}
	switch {
	case at.until.After(now):
		if at.model != "" && (!f.Scoped || f.Model != at.model) {
			at.model = ""
		}
		if asked.After(at.until) {
			asked = at.until
		}
		at.asked = later(at.asked, asked)
	case r.exempt:
		// Such a provider routes between many: what one of them refused says
		// nothing of the next request.
		return KeyWindow{Key: i, Reason: f.Reason}, quiet
	default:
		began = true
		*at = window{until: later(now.Add(r.cfg.window(f.Reason, n)), asked), asked: asked, reason: f.Reason}
		if f.Scoped && !f.Reason.Disables() {
			at.model = f.Model
		}
	}
	k.blocked.Store(nanos(later(k.cool.until, k.disabled.until)))
	return KeyWindow{Key: i, Reason: at.reason, Until: at.until, Asked: at.asked, Model: at.model}, began
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// Succeed notes that a key served a model, and forgets its failures: all but the
// limit of another model, of which that tells nothing.
func (r *Keyring) Succeed(i int, model string) {
	if k := r.keys[i]; k.blocked.Load() != 0 {
		k.forget(func(w *window) bool { return w.model == "" || w.model == model })
	}
}

// Forgive ends the windows of keys that were refused, which may have been mended
// where they lie.
func (r *Keyring) Forgive() {
	for _, k := range r.keys {
		k.forget(func(w *window) bool { return w.reason.Refused() })
	}
}

// forget ends some windows.
func (k *keyState) forget(some func(*window) bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, w := range [...]*window{&k.cool, &k.disabled} {
		if some(w) {
			*w = window{}
		}
	}
	until := later(k.cool.until, k.disabled.until)
	if until.IsZero() {
		k.row, k.each = 0, nil
		k.blocked.Store(0)
		return
	}
	k.blocked.Store(nanos(until))
}

// Due says whether a window is so near to its end that it is worth being tried,
// and no backend wants to be left alone for longer.
func (r *Keyring) Due(w KeyWindow, now time.Time) bool {
	return r.Allowed(w, now) && !now.Before(w.Until.Add(-r.cfg.ProbeWithin))
}

// Next returns when a window may be tried by the primary target, or is over.
func (r *Keyring) Next(w KeyWindow) time.Time {
	t := later(later(w.Asked, w.Until.Add(-r.cfg.ProbeWithin)), moment(r.probed.Load()).Add(r.cfg.ProbeEvery))
	if t.After(w.Until) {
		return w.Until
	}
	return t
}

// Allowed says whether the backend itself does not want to be left alone now.
func (r *Keyring) Allowed(w KeyWindow, now time.Time) bool { return !now.Before(w.Asked) }

// Probable says whether the last try of a window of this provider was long
// enough ago.
func (r *Keyring) Probable(now time.Time) bool {
	return nanos(now)-r.probed.Load() >= int64(r.cfg.ProbeEvery)
}

// Probe takes the right to try a window; false when another was quicker.
func (r *Keyring) Probe(now time.Time) bool {
	was := r.probed.Load()
	return nanos(now)-was >= int64(r.cfg.ProbeEvery) && r.probed.CompareAndSwap(was, nanos(now))
}

// KeyStatus is one key as operators see it.
type KeyStatus struct {
	Provider string
	Index    int // from 1
	Label    string
	State    string    // ready, cooling_down or disabled
	Reason   KeyReason // empty when it is ready
	Until    time.Time
	Model    string // the only one that the window stands for; empty for all
}

// Status returns the state of every key.
func (r *Keyring) Status(now time.Time) []KeyStatus {
	if r == nil {
		return nil
	}
	all := make([]KeyStatus, len(r.keys))
	for i, k := range r.keys {
		all[i] = KeyStatus{Provider: r.provider, Index: i + 1, Label: r.labels[i], State: "ready"}
		k.mu.Lock()
		w := k.disabled
		if !w.until.After(now) {
			w = k.cool
		}
		k.mu.Unlock()
		if w.until.After(now) {
			all[i].State, all[i].Reason, all[i].Until, all[i].Model = "cooling_down", w.reason, w.until, w.model
			if w.reason.Disables() {
				all[i].State = "disabled"
			}
		}
	}
	return all
}

// applyKeys gives providers whose keys changed another Keyring. The caller holds
// mu.
func (p *Pool) applyKeys(next map[string]Config) {
	for id, r := range p.keyrings {
		c, ok := next[id]
		if was := p.configs[id]; ok && !sameKeys(c, was) {
			p.keyrings[id] = newKeyring(c, r)
		} else if !ok {
			delete(p.keyrings, id)
		}
	}
}

func sameKeys(a, b Config) bool {
	return slices.Equal(a.ringSecrets(), b.ringSecrets()) && a.Cooldown == b.Cooldown && a.Kind == b.Kind
}

// keyring returns the keys of a provider. The caller holds mu.
func (p *Pool) keyring(c Config) *Keyring {
	r, ok := p.keyrings[c.ID]
	if !ok {
		r = newKeyring(c, nil)
		p.keyrings[c.ID] = r
	}
	return r
}

// EachKey returns the state of the keys of all providers that were asked.
func (p *Pool) EachKey() []KeyStatus {
	now := p.opt.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []KeyStatus
	for _, r := range p.keyrings {
		all = append(all, r.Status(now)...)
	}
	return all
}

// ForgiveKeys ends the windows of keys that backends refused.
func (p *Pool) ForgiveKeys() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.keyrings {
		if r != nil {
			r.Forgive()
		}
	}
}
