package upstream

import (
	"cmp"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"nearside/breaker"
	"nearside/catalog"
)

// The states that only asking shows, beside those of a look.
const (
	StateSwapping    = "swapping"    // another model makes room for the one that was asked for
	StateSaturated   = "saturated"   // it is well and has no room for a request now
	StateUnreachable = "unreachable" // nothing answers there
	StateUnknown     = "unknown"     // it was neither looked at nor asked
)

// BackendStates lists all states.
var BackendStates = []string{StateReady, StateLoading, StateSwapping, StateSaturated, StateAsleep, StateWaking, StateFailing, StateMisconfigured, StateUnreachable, StateUnknown}

// StateBounds bound how a backend that is not ready is asked again.
type StateBounds struct {
	First time.Duration // the first time after that
	Max   time.Duration // each further time after twice as long, and at the most after that
}

func (b StateBounds) first() time.Duration {
	return min(cmp.Or(b.First, 500*time.Millisecond), b.max())
}
func (b StateBounds) max() time.Duration { return cmp.Or(b.Max, 5*time.Second) }

// States is what is known of how each provider is now, and each of its models: one
// picture from what looks saw, what attempts came to, how breakers stand, and what
// a poll of those that are not ready tells. It is safe for concurrent use.
type States struct {
	now  func() time.Time
	told func(StateChange)
	kick chan struct{} // wakes the poll; holds one

	mu      sync.Mutex // guards all below
	rows    map[string]*stateRow
	models  map[modelKey]*Model
	passed  int // of them, those of models that the configuration does not list
	pending []StateChange
	telling bool
}

type modelKey struct{ provider, baseURL, id string }

// modelsMax bounds the models that are remembered though the configuration does
// not list them: clients make their ids up.
const modelsMax = 1024

// stateRow is one provider. All but calm is guarded by States.mu.
type stateRow struct {
	id   string
	cfg  Config
	kind catalog.Kind
	calm atomic.Bool // it is ready: content is no news

	look stateSaid         // what a look, or a poll, saw last
	said stateSaid         // what an attempt came to that speaks against it; empty for nothing
	open map[string]string // why breakers of its connections are not closed, by endpoint
	shut map[string]bool   // models whose breakers are not, with the endpoint behind them

	state, detail string // what comes of it all
	since         time.Time

	every   time.Duration // of the poll
	next    time.Time     // zero for none
	polling bool
}

type stateSaid struct{ state, detail string }

// StateChange is a step of a provider from one state to another. The first is
// from StateUnknown, the last to "gone".
type StateChange struct {
	Provider, From, To, Detail string
	At                         time.Time
}

// stateGone is what a provider steps to that is no longer configured.
const stateGone = "gone"

func newStates(now func() time.Time, told func(StateChange)) *States {
	return &States{now: now, told: told, kick: make(chan struct{}, 1), rows: map[string]*stateRow{}, models: map[modelKey]*Model{}}
}

// apply takes in which providers there are.
func (s *States) apply(configs map[string]Config) {
	s.mu.Lock()
	defer s.unlock()
	now := s.now()
	for id, c := range configs {
		if row := s.rows[id]; row != nil {
			changed := !reflect.DeepEqual(row.cfg, c)
			if row.cfg = c; changed {
				s.mended(row, now)
			}
			continue
		}
		s.rows[id] = &stateRow{id: id, cfg: c, kind: c.Kind, state: StateUnknown, since: now, open: map[string]string{}, shut: map[string]bool{}}
	}
	for id, row := range s.rows {
		if _, ok := configs[id]; !ok {
			delete(s.rows, id)
			s.tell(StateChange{Provider: id, From: row.state, To: stateGone, At: now})
		}
	}
	for key, m := range s.models {
		if s.rows[key.provider] != m.row {
			m.release(now, false)
			delete(s.models, key)
		}
	}
}

// mended forgets what was said against a configuration that is another now.
func (s *States) mended(row *stateRow, now time.Time) {
	if row.said.state == StateMisconfigured {
		row.said = stateSaid{}
	}
	for _, m := range s.models {
		if m.row == row && m.state == StateMisconfigured {
			m.wrong("", "", now)
		}
	}
	s.settle(row, now)
}

// Is says what software a provider is, where its configuration does not.
func (s *States) Is(provider string, kind catalog.Kind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if row := s.rows[provider]; row != nil && kind != catalog.KindUnknown {
		row.kind = kind
	}
}

// Listed forgets which models the configuration does not list: they make room for
// others.
func (s *States) Listed(listed func(provider, baseURL, id string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.passed = 0
	for key, m := range s.models {
		if m.listed = listed(key.provider, key.baseURL, key.id); !m.listed {
			s.passed++
		}
	}
}

// model returns what is learned of a model. That of one that is not listed is kept
// once there is something to know.
func (s *States) model(c *catalog.Model, baseURL string) *Model {
	key := modelKey{c.Provider.ID, baseURL, c.ID}
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.models[key]; m != nil {
		return m
	}
	row := s.rows[key.provider]
	if row == nil {
		return new(Model)
	}
	m := &Model{states: s, key: key, row: row, listed: c.Declared}
	if m.listed {
		s.keep(m)
	}
	return m
}

// keep has a model remembered, and says whether it is. Of two made for one id at
// once the second learns for itself alone.
func (s *States) keep(m *Model) bool {
	if m.kept.Load() {
		return true
	}
	if s.rows[m.key.provider] != m.row || s.models[m.key] != nil || !m.listed && s.passed >= modelsMax {
		return false
	}
	if !m.listed {
		s.passed++
	}
	s.models[m.key] = m
	m.kept.Store(true)
	return true
}

// Seen is what a look at a provider saw.
type Seen struct {
	State, Detail string
	Late          bool // it did not answer in time
}

// Looked takes in what a look saw. Working says how many attempts it may be at work
// on: a server that computes for us and does not answer meanwhile is busy, not
// away.
func (s *States) Looked(provider string, seen Seen, working int) {
	s.mu.Lock()
	defer s.unlock()
	if row := s.rows[provider]; row != nil {
		s.looked(row, polled{Seen: seen}, working, s.now())
	}
}

func (s *States) looked(row *stateRow, p polled, working int, now time.Time) {
	if p.Late && working > 0 {
		p.State, p.Detail = StateSaturated, "it does not answer while it works on requests"
	}
	row.look = stateSaid{p.State, p.Detail}
	if row.said.state == StateUnreachable { // what speaks of the configuration only content takes back
		row.said = stateSaid{}
	}
	for _, m := range s.models {
		if m.row != row || !m.held.Load() {
			continue
		}
		switch h := &m.hold; {
		case p.url != "" && p.url != m.key.baseURL: // another endpoint's
		case h.state == StateWaking && p.State != "" && p.State != StateUnreachable: // it is awake, whatever it has loaded
			m.release(now, false)
		case !h.doubted && (h.state == StateSaturated && p.State == StateReady && p.room || h.state != StateSaturated && p.ready[m.key.id]):
			m.free(now)
		case p.State == StateReady:
			m.forget(now)
		case !p.Late && (p.State == StateSaturated) == (h.state == StateSaturated): // it sees what is the matter, and will see the end of it
			h.doubted = false
		}
	}
	s.settle(row, now)
}

// holdStale is for how long a model stays held that nobody asks and against which
// nothing speaks.
const holdStale = 30 * time.Second

func (m *Model) forget(now time.Time) {
	if h := &m.hold; m.held.Load() && !h.asking && now.Sub(h.heard) >= holdStale {
		m.release(now, false)
	}
}

// Said takes in what an attempt came to that concerns the provider as a whole:
// StateUnreachable or StateMisconfigured; with an empty state that it answers.
func (s *States) Said(provider, state, detail string) {
	s.mu.Lock()
	defer s.unlock()
	row := s.rows[provider]
	if row == nil || state == "" && row.said.state != StateUnreachable && row.look.state != StateUnreachable {
		return
	}
	if row.said = (stateSaid{state, detail}); state == "" && row.look.state == StateUnreachable {
		row.look = stateSaid{}
	}
	s.settle(row, s.now())
}

// breaker takes in how a breaker stands: that of a provider, or of one of its
// models.
func (s *States) breaker(c breaker.Change) {
	s.mu.Lock()
	defer s.unlock()
	id, model, target := strings.Cut(c.Name, "/")
	row, endpoint := s.rows[id], ""
	if i := strings.LastIndexByte(id, '@'); row == nil && i >= 0 {
		row, endpoint = s.rows[id[:i]], id[i+1:]
	}
	if row == nil {
		return
	}
	why := "its answers failed"
	if c.Cause == breaker.CauseConnect {
		why = "it could not be reached"
	}
	switch {
	case !target && c.To == breaker.Closed:
		delete(row.open, endpoint)
		if row.said.state == StateUnreachable {
			row.said = stateSaid{}
		}
		if row.look.state == StateUnreachable {
			row.look = stateSaid{StateReady, ""}
		}
	case !target:
		row.open[endpoint] = why
	case c.To == breaker.Closed:
		delete(row.shut, model+"@"+endpoint)
	default:
		row.shut[model+"@"+endpoint] = true
	}
	for _, m := range s.models {
		if target && m.row == row && m.key.id == model && (endpoint == "" || row.cfg.nameOf(m.key.baseURL) == endpoint) {
			if c.To != breaker.Closed {
				m.wrong(StateFailing, why, c.At)
			} else if m.state == StateFailing {
				m.wrong("", "", c.At)
			}
		}
	}
	s.settle(row, s.now())
}

// settle makes a provider's state of what is known.
func (s *States) settle(row *stateRow, now time.Time) {
	state, detail := row.verdict(s.models)
	row.calm.Store(state == StateReady)
	if state == StateReady || state == StateUnknown || state == StateAsleep || state == StateMisconfigured {
		row.next, row.every = time.Time{}, 0
	} else if row.every == 0 || state != row.state {
		row.every = row.cfg.States.first()
		row.next = now.Add(row.every)
		s.kicked()
	}
	row.detail = detail
	if state == row.state {
		return
	}
	s.tell(StateChange{Provider: row.id, From: row.state, To: state, Detail: detail, At: now})
	row.state, row.since = state, now
}

// verdict orders what speaks against a provider: an open breaker, what attempts
// came to, a model that is held, and what was seen.
func (row *stateRow) verdict(models map[modelKey]*Model) (state, detail string) {
	if why := row.shutOff(); why != "" {
		return StateFailing, why
	}
	if row.said.state != "" {
		return row.said.state, row.said.detail
	}
	var last *Model
	well := false // another model of it serves
	for _, m := range models {
		if m.row != row {
			continue
		}
		if m.held.Load() && (last == nil || m.hold.heard.After(last.hold.heard)) {
			last = m
		}
		well = well || m.warm.Load() > 0 && !row.shut[m.key.id+"@"+row.cfg.nameOf(m.key.baseURL)]
	}
	switch {
	case last != nil:
		return last.hold.state, last.key.id + ": " + last.hold.detail
	case len(row.shut) > 0 && !well:
		return StateFailing, "its answers failed"
	case row.look.state != "":
		return row.look.state, row.look.detail
	}
	return StateUnknown, ""
}

// shutOff says why no connection is made to a provider: its breaker is open, or
// that of every endpoint which takes requests. Empty where one is.
func (row *stateRow) shutOff() string {
	why := row.open[""]
	for _, e := range row.cfg.Endpoints {
		if e.Drain {
			continue
		}
		if why = row.open[e.Name]; why == "" {
			return ""
		}
	}
	return why
}

// tell notes a change; unlock hands it out.
func (s *States) tell(c StateChange) {
	if s.told == nil {
		return
	}
	s.pending = append(s.pending, c)
}

// unlock releases the lock and then hands out changes, unless another goroutine is
// at it: it will take ours along, in order.
func (s *States) unlock() {
	if s.telling || len(s.pending) == 0 {
		s.mu.Unlock()
		return
	}
	s.telling = true
	for len(s.pending) > 0 {
		all := s.pending
		s.pending = nil
		s.mu.Unlock()
		for _, c := range all {
			s.told(c)
		}
		s.mu.Lock()
	}
	s.telling = false
	s.mu.Unlock()
}

func (s *States) kicked() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// StateRow is a provider as it is now.
type StateRow struct {
	Provider string       `json:"provider"`
	Kind     catalog.Kind `json:"kind,omitempty"`
	State    string       `json:"state"`
	Detail   string       `json:"detail,omitempty"`
	Since    time.Time    `json:"since"`
	Models   []ModelState `json:"models,omitempty"` // those of which there is something to tell
}

// ModelState is what is known of one model.
type ModelState struct {
	ID     string    `json:"id"`
	State  string    `json:"state,omitempty"` // empty where it is the provider's
	Detail string    `json:"detail,omitempty"`
	Since  time.Time `json:"since,omitzero"`
	// LoadSeconds is how long it takes to load, ReadySeconds how much longer the
	// present load is expected to take, Prefill the learned rate in prompt tokens
	// a second; 0 where that is not known.
	LoadSeconds  float64 `json:"load_seconds,omitempty"`
	ReadySeconds float64 `json:"ready_in_seconds,omitempty"`
	Prefill      float64 `json:"prefill_tokens_per_second,omitempty"`
}

// Rows returns all providers, by id.
func (s *States) Rows() []StateRow {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	byID := make(map[string][]ModelState, len(s.rows))
	for key, m := range s.models {
		if st := m.now(now); st.State != "" || st.LoadSeconds > 0 || st.Prefill > 0 {
			byID[key.provider] = append(byID[key.provider], st)
		}
	}
	out := make([]StateRow, 0, len(s.rows))
	for id, row := range s.rows {
		models := byID[id]
		slices.SortFunc(models, func(a, b ModelState) int { return cmp.Compare(a.ID, b.ID) })
		out = append(out, StateRow{Provider: id, Kind: row.kind, State: row.state, Detail: row.detail, Since: row.since, Models: models})
	}
	slices.SortFunc(out, func(a, b StateRow) int { return cmp.Compare(a.Provider, b.Provider) })
	return out
}

// now is what is known of the model, under States.mu.
func (m *Model) now(now time.Time) ModelState {
	st := ModelState{ID: m.key.id, LoadSeconds: m.LoadTime().Seconds(), Prefill: m.PrefillRate()}
	switch h := &m.hold; {
	case m.held.Load():
		st.State, st.Detail, st.Since = h.state, h.detail, h.since
		if h.loads() {
			left, _ := m.Remaining(h.since, now)
			st.ReadySeconds = left.Seconds()
		}
	case m.state != "":
		st.State, st.Detail, st.Since = m.state, m.detail, m.stateSince
	}
	return st
}

// Of returns how a provider is now; StateUnknown for one that is not configured.
func (s *States) Of(provider string) (state, detail string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if row := s.rows[provider]; row != nil {
		return row.state, row.detail
	}
	return StateUnknown, ""
}

// State returns how the model is now: its provider's state where there is nothing
// of its own.
func (m *Model) State() (state, detail string) {
	if m.states == nil {
		return StateUnknown, ""
	}
	m.states.mu.Lock()
	defer m.states.mu.Unlock()
	if st := m.now(m.states.now()); st.State != "" {
		return st.State, st.Detail
	}
	return m.row.state, m.row.detail
}
