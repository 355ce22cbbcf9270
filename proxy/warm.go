package proxy

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"nearside/catalog"
	"nearside/proxy/meter"
	"nearside/upstream"
)

// Warm says when a near model is loaded ahead of requests and how long it stays
// loaded (proxy.models.<ref>.warm).
type Warm struct {
	Start bool    // when the proxy starts, or learns of the model
	Knock bool    // when somebody lists the models, or asks for a chain that it is in
	Hours []Hours // and throughout these

	Keep  time.Duration // how long after that, or after it was last asked; 0 for as long as the proxy runs
	Every time.Duration // how often it is looked after meanwhile
	Load  time.Duration // the longest a load may take
}

// DefaultWarm returns what holds where nothing else is said.
func DefaultWarm() Warm {
	return Warm{Keep: 30 * time.Minute, Every: 2 * time.Minute, Load: 5 * time.Minute}
}

// The states of a model that is kept warm.
const (
	warmIdle    = "idle"    // nothing asks for it now
	warmBusy    = "waiting" // its provider works on a request, which goes first
	warmLoading = "loading"
	warmReady   = "warm"
	warmWaking  = "waking" // its box was sent a packet
	warmFailed  = "failed"
)

const (
	warmRetry      = time.Second // for a provider that is busy, or a box that wakes
	warmBackoff    = 5 * time.Second
	warmBackoffMax = 5 * time.Minute
	warmLoadsMax   = 4 // at once; one for each provider
)

// warming keeps models warm. One goroutine decides, each load has one of its own.
type warming struct {
	s    *Server
	kick chan struct{} // wakes run; holds one

	mu      sync.Mutex // guards all below
	rows    map[string]*warmRow
	loads   map[meter.WarmLoad]uint64 // with Count 0
	packets map[string]uint64         // by provider
}

// warmRow is one model, by its ref. All but cfg is guarded by warming.mu.
type warmRow struct {
	ref            string
	cfg            Warm
	begun, knocked time.Time
	state, why     string
	since, until   time.Time // of the state; until when it is wanted, zero for ever
	next           time.Time // when it is looked after
	busy           bool
	gone           bool // from the configuration: what was loaded is given back, and it goes
	fails          int
	instances      map[string]string // what we have loaded and must unload, by address
}

func (w *warming) init(s *Server) {
	w.s, w.kick = s, make(chan struct{}, 1)
	w.rows, w.loads, w.packets = map[string]*warmRow{}, map[meter.WarmLoad]uint64{}, map[string]uint64{}
}

// apply makes the models those of a configuration.
func (w *warming) apply(cfg map[string]Warm) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	for ref, row := range w.rows {
		if _, ok := cfg[ref]; !ok {
			if !row.busy && len(row.instances) == 0 {
				delete(w.rows, ref)
				continue
			}
			row.gone, row.knocked, row.next = true, time.Time{}, now
			row.cfg = Warm{Every: row.cfg.Every, Load: row.cfg.Load}
		} else if row.next.After(now) && row.state != warmReady {
			row.next = now // what was amiss may be mended
		}
	}
	for ref, c := range cfg {
		row := w.rows[ref]
		if row == nil {
			row = &warmRow{ref: ref, begun: now, state: warmIdle, since: now, instances: map[string]string{}}
			w.rows[ref] = row
		}
		if c.Start && !row.cfg.Start {
			row.begun = now
		}
		row.cfg, row.next, row.gone = c, now, false
	}
	w.kicked()
}

func (w *warming) kicked() {
	signal(w.kick)
}

// knock notes that somebody is about to ask for models, which are loaded after wait.
func (w *warming) knock(refs func(yield func(string) bool), wait time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now, wakes := time.Now(), false
	for ref := range refs {
		row := w.rows[ref]
		if row == nil || !row.cfg.Knock {
			continue
		}
		row.knocked = now
		if row.state == warmIdle { // else it is looked after anyhow
			row.next, wakes = now.Add(min(wait, row.cfg.Every)), true
		}
	}
	if wakes {
		w.kicked()
	}
}

// knockAll is a knock at every model.
func (s *Server) knockAll(snap *Snapshot) {
	if len(snap.Config.Warm) > 0 {
		s.warm.knock(maps.Keys(snap.Config.Warm), 0)
	}
}

// knocks is the knock of a request: at the targets of its plan. The one that it asks
// loads for the request itself, and its provider works for it by the time that the
// others are looked after.
func (x *exchange) knocks() {
	x.s.warm.knock(func(yield func(string) bool) {
		for i := range x.plan.Steps {
			if !yield(x.plan.Steps[i].Ref) {
				return
			}
		}
	}, warmRetry)
}

// wanted says until when a model is to be loaded; for ever is zero. used is when
// it was last asked. Where it is not wanted, next is when that changes by itself.
func (r *warmRow) wanted(used, now time.Time) (until time.Time, yes bool, next time.Time) {
	var since time.Time
	if r.cfg.Start {
		since = r.begun
	}
	if r.knocked.After(since) {
		since = r.knocked
	}
	if !since.IsZero() {
		if r.cfg.Keep == 0 {
			return time.Time{}, true, time.Time{}
		}
		if used.After(since) {
			since = used
		}
		until = since.Add(r.cfg.Keep)
	}
	for _, h := range r.cfg.Hours {
		end, begin := h.Around(now)
		if end.After(until) {
			until = end
		}
		if !begin.IsZero() && (next.IsZero() || begin.Before(next)) {
			next = begin
		}
	}
	return until, until.After(now), next
}

// run looks after the models until ctx ends. It waits for the loads it started.
func (w *warming) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var loads sync.WaitGroup
	defer loads.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.kick:
		case <-timer.C:
		}
		due, next := w.due(time.Now())
		for _, d := range due {
			loads.Go(func() {
				defer w.s.survive("load of a model")
				w.tend(ctx, d)
				w.kicked()
			})
		}
		wait := time.Hour
		if !next.IsZero() {
			wait = max(0, time.Until(next))
		}
		timer.Reset(wait)
	}
}

// warmDue is one model to be looked after now.
type warmDue struct {
	row  *warmRow
	cfg  Warm
	t    *target // nil where the model is not there
	why  string  // then
	want bool
	keep time.Duration // 0 for ever
}

// due returns the models to be looked after now, one of a provider, and when the
// next one is.
func (w *warming) due(now time.Time) (all []warmDue, next time.Time) {
	snap := w.s.snap.Load()
	w.mu.Lock()
	refs := slices.Sorted(maps.Keys(w.rows))
	w.mu.Unlock()
	found := make(map[string]warmDue, len(refs))
	used := map[string]time.Time{}
	for _, ref := range refs {
		d := warmDue{}
		if d.t, d.why = w.find(snap, ref); d.t != nil {
			for _, m := range d.t.models() {
				if at := m.state.LastContent(); at.After(used[ref]) {
					used[ref] = at
				}
			}
		}
		found[ref] = d
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := map[string]bool{} // providers
	running := 0
	for _, row := range w.rows {
		if row.busy {
			running++
			id, _, _ := catalog.ParseRef(row.ref)
			taken[id] = true
		}
	}
	sooner := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	for _, ref := range refs {
		row := w.rows[ref]
		if row == nil || row.busy {
			continue
		}
		id, _, _ := catalog.ParseRef(ref)
		d := found[ref]
		until, want, begins := row.wanted(used[ref], now)
		switch {
		case row.gone && len(row.instances) == 0:
			delete(w.rows, ref)
			continue
		case !want && len(row.instances) == 0:
			row.set(warmIdle, "", now)
			row.next, row.until, row.fails = begins, time.Time{}, 0
		case now.Before(row.next) && (want || row.state == warmBusy):
		case taken[id] || running >= warmLoadsMax: // its end kicks
			continue
		default:
			row.until, row.busy, taken[id] = until, true, true
			running++
			d.row, d.cfg, d.want = row, row.cfg, want
			if !until.IsZero() {
				d.keep = until.Sub(now)
			}
			all = append(all, d)
			continue
		}
		sooner(row.next)
		if row.state == warmReady {
			sooner(row.until)
		}
	}
	return all, next
}

// find returns the target of a ref, or why it cannot be kept warm.
func (w *warming) find(snap *Snapshot, ref string) (*target, string) {
	e, ok := snap.Catalog.Lookup(ref)
	if m := e.Model; !ok || m == nil || m.Ref() != ref {
		return nil, "no model is called that now"
	}
	m := e.Model
	t := w.s.target(snap, m)
	switch {
	case cmp.Or(m.Provider.Unavailable, m.Unavailable) != "":
		return nil, cmp.Or(m.Provider.Unavailable, m.Unavailable)
	case t.backendErr != nil:
		return nil, t.backendErr.Error()
	case t.route != "near":
		return nil, "it is far: only near models are kept warm"
	}
	return t, ""
}

// models returns a target's places, or itself where it has none.
func (t *target) models() []*target {
	if len(t.places) > 0 {
		return t.places
	}
	return []*target{t}
}

// set says how a model is from now on, under warming.mu.
func (r *warmRow) set(state, why string, now time.Time) {
	if r.state != state {
		r.since = now
	}
	r.state, r.why = state, why
}

// tend looks after one model: loads it, has its server keep it, or gives it back.
func (w *warming) tend(ctx context.Context, d warmDue) {
	began := time.Now()
	state, why, next := warmFailed, d.why, d.cfg.Every
	if d.t != nil {
		state, why, next = w.attend(ctx, d)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	row := d.row
	row.busy = false
	row.set(state, why, now)
	if row.fails++; state != warmFailed {
		row.fails = 0
	}
	row.next = now.Add(next)
	if !d.want && state != warmBusy { // what is at an address that is not asked any more stays there
		clear(row.instances)
	}
	if d.t != nil && state == warmFailed {
		row.next = now.Add(min(warmBackoff<<min(row.fails-1, 10), warmBackoffMax))
	}
	if !d.want && (row.knocked.After(began) || row.begun.After(began)) {
		row.next = now
	}
}

// attend does so for a model that is there, and says how it is now, why, and how
// soon it is to be looked after again.
func (w *warming) attend(ctx context.Context, d warmDue) (state, why string, next time.Duration) {
	s, t, id := w.s, d.t, d.t.model.Provider.ID
	retry := min(warmRetry, d.cfg.Every)
	if w.busy(t) {
		return warmBusy, id + " works on a request, which goes first", retry
	}
	serving := ctx
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Load)
	defer cancel()
	for _, place := range t.models() {
		url := t.model.BaseURL
		if place.at != nil {
			url = place.at.URL
		}
		if !d.want {
			w.cool(ctx, d.row, t, url)
			continue
		}
		if place.at != nil && place.at.Drain {
			continue
		}
		busy, err := w.load(ctx, d, place, url)
		if busy {
			return warmBusy, id + " works on a request, which goes first", retry
		}
		if err == nil {
			continue
		}
		now := time.Now()
		if since, sent, _ := place.backend.Wake(err, now); !since.IsZero() {
			if sent {
				w.woke(id)
				s.log.Info().Str("backend", id).Str("target", d.row.ref).Msg("wake-on-LAN packet sent")
			}
			if now.Before(place.backend.WakeUntil()) {
				return warmWaking, "a wake-on-LAN packet was sent " + ago(now.Sub(since)), retry
			}
		}
		why := place.backend.Mask(err.Error())
		if serving.Err() == nil {
			w.count(d.row.ref, "failed")
			s.log.Warn().Str("target", d.row.ref).Str("detail", why).Msg("model not loaded ahead")
		}
		return warmFailed, why, d.cfg.Every
	}
	if !d.want {
		return warmIdle, "", d.cfg.Every
	}
	return warmReady, "", d.cfg.Every
}

// busy says whether requests of clients are under way at the target's provider, or
// wait for the target.
func (w *warming) busy(t *target) bool {
	for _, m := range t.models() {
		if m.state.Waiting.Load() > 0 {
			return true
		}
	}
	return w.s.pool.Working(t.model.Provider.ID) > 0
}

// load has one place load the model, or keep it, unless a request came in between.
func (w *warming) load(ctx context.Context, d warmDue, place *target, url string) (busy bool, err error) {
	s, m := w.s, d.t.model
	is, err := s.pool.Warmth(ctx, m, url)
	if err != nil {
		return false, err
	}
	now := time.Now()
	was := w.state(d.row)
	stays := is.Until.IsZero() || d.keep > 0 && !is.Until.Before(now.Add(d.keep)) || is.Until.After(now.Add(2*d.cfg.Every))
	if is.Known && is.Loaded && stays {
		return false, nil
	}
	if w.busy(d.t) {
		return true, nil
	}
	cold := is.Known && !is.Loaded || !is.Known && was != warmReady
	if cold {
		w.loading(d.row, now)
		place.state.Warming(place.state.LoadTime(), now)
		defer func() { place.state.Warmed(err == nil, time.Now()) }()
	}
	opt := upstream.WarmOptions{Keep: d.keep, Again: d.cfg.Every}
	if m.Provider.Source == catalog.FromConfig && m.ContextWindow > 0 {
		opt.Context = m.Window().Effective
	}
	instance, err := s.pool.Warm(ctx, m, url, opt)
	if err != nil {
		return false, err
	}
	if instance != "" {
		w.mu.Lock()
		d.row.instances[url] = instance
		w.mu.Unlock()
	}
	if cold {
		w.count(d.row.ref, "loaded")
		s.log.Info().Str("target", d.row.ref).Dur("took", time.Since(now)).Dur("keep", d.keep).Msg("model loaded ahead")
	}
	return false, nil
}

// cool has a place unload what it loaded for us.
func (w *warming) cool(ctx context.Context, row *warmRow, t *target, url string) {
	w.mu.Lock()
	instance := row.instances[url]
	delete(row.instances, url)
	w.mu.Unlock()
	if instance == "" {
		return
	}
	if err := w.s.pool.Cool(ctx, t.model, url, instance); err != nil {
		w.s.log.Warn().Str("target", row.ref).Str("detail", t.backend.Mask(err.Error())).Msg("model not given back")
		return
	}
	w.count(row.ref, "unloaded")
	w.s.log.Info().Str("target", row.ref).Msg("model given back")
}

func (w *warming) state(row *warmRow) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return row.state
}

func (w *warming) loading(row *warmRow, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	row.set(warmLoading, "", now)
}

func (w *warming) count(ref, outcome string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.loads[meter.WarmLoad{Ref: ref, Outcome: outcome}]++
}

// woke counts a wake-on-LAN packet.
func (w *warming) woke(provider string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.packets[provider]++
}
