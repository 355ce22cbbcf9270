package proxy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"nearside/breaker"
	"nearside/proxy/meter"
	"nearside/proxy/queue"
	"nearside/upstream"
)

// QueueConfig is how those that wait for a slot of a backend take turns.
type QueueConfig struct {
	Short, ShortRun  int           // tokens of a short request, and how many in a row pass a long one
	Answer           int           // tokens that an answer is thought to have before any was seen
	Ageing           time.Duration // a batch request has a turn beside others after this
	Residence, Pause time.Duration // of a model on a box that holds few
	Learn            queue.LearnOptions
	Poll             time.Duration // how often a server that tells how busy it is is asked, while it is
}

// DefaultQueue returns the shipped settings.
func DefaultQueue() QueueConfig {
	return QueueConfig{Short: queue.DefaultShort, ShortRun: queue.DefaultShortRun, Answer: queue.DefaultAnswer, Ageing: queue.DefaultAgeing,
		Residence: queue.DefaultResidence, Pause: queue.DefaultPause, Poll: time.Second,
		Learn: queue.LearnOptions{Evidence: queue.DefaultEvidence, Least: queue.DefaultLearnLeast, Window: queue.DefaultWindow,
			Probe: queue.DefaultProbe, ProbeMax: queue.DefaultProbeMax, Most: queue.DefaultMost}}
}

// Who says how many slots a place has.
const (
	slotsConfigured = "configured"
	slotsServer     = "server" // it says so itself
	slotsLearned    = "learned"
)

// lines are the queues of the providers that are given no more requests than they
// serve. They outlive reloads; one whose provider has no slots any more is left to
// those who are in it.
type lines struct {
	mu   sync.Mutex
	of   map[string]*line // by provider id, and with a model's own address behind it
	told func(provider, place, from string, slots int)

	changed chan struct{} // wakes watchLines; holds one
}

// line is the queue of one provider: one for all its places, so that whoever is
// next goes wherever a slot is free.
type line struct {
	id      string
	q       *queue.Queue
	told    func(provider, place, from string, slots int)
	learned atomic.Bool // a place learns its slots

	mu     sync.Mutex // guards all below
	cfg    QueueConfig
	said   upstream.Config
	berths []*berth
	holds  holds
	slots  int
}

// berth is what one place of a line has.
type berth struct {
	name    string
	url     string
	from    string // who says its slots
	slots   atomic.Int64
	taken   atomic.Int64
	learner atomic.Pointer[queue.Learner] // nil where its slots are said
	drained bool
	shut    bool // its breaker is open
}

// full says whether it has no free slot.
func (r *berth) full() bool {
	n := r.slots.Load()
	return n > 0 && r.taken.Load() >= n
}

// apply makes the queues those of a configuration and of what looks saw.
func (l *lines) apply(snap *Snapshot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := map[string]*line{}
	for i := range snap.Backends {
		c := &snap.Backends[i]
		if c.Slots == 0 {
			continue
		}
		own := l.of[c.ID]
		if own == nil {
			own = newLine(c.ID, l.told)
		}
		own.apply(c, &snap.Config.Queue, snap.States[c.ID])
		next[c.ID] = own
		for id, other := range l.of { // of models with an address of their own
			if provider, _, is := strings.Cut(id, lineOf); is && provider == c.ID {
				other.apply(alone(c), &snap.Config.Queue, BackendState{})
				next[id] = other
			}
		}
	}
	l.of = next
	signal(l.changed)
}

// lineOf stands between a provider's id and the address of a model that has one.
const lineOf = "\n"

// alone is a provider's configuration for a place that it does not list.
func alone(c *upstream.Config) *upstream.Config {
	at := *c
	at.Endpoints, at.BaseURL = nil, ""
	return &at
}

func newLine(id string, told func(provider, place, from string, slots int)) *line {
	return &line{id: id, q: queue.New(queue.Options{}), told: told}
}

// line returns the queue for a model of a provider; nil where as many are sent as
// come.
func (l *lines) line(snap *Snapshot, provider, baseURL string) *line {
	l.mu.Lock()
	defer l.mu.Unlock()
	own := l.of[provider]
	if own == nil || baseURL == "" || baseURL == own.said.BaseURL {
		return own
	}
	id := provider + lineOf + baseURL
	other := l.of[id]
	if other == nil && len(l.of) < linesMax {
		other = newLine(provider, l.told)
		own.mu.Lock()
		c := alone(&own.said)
		own.mu.Unlock()
		other.apply(c, &snap.Config.Queue, BackendState{})
		l.of[id] = other
	}
	return other
}

// linesMax bounds the queues.
const linesMax = 1024

// all returns the queues, by id.
func (l *lines) all() []*line {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]*line, 0, len(l.of))
	for _, one := range l.of {
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b *line) int { return strings.Compare(a.id, b.id) })
	return out
}

// shut takes in that the breaker of a place opened or closed: its slots are none
// while it is open.
func (l *lines) shut(name string, open bool) {
	if strings.Contains(name, "/") { // a model's
		return
	}
	provider, place, _ := strings.Cut(name, "@")
	l.mu.Lock()
	one := l.of[provider]
	l.mu.Unlock()
	if one == nil || place == "" {
		return
	}
	one.mu.Lock()
	for _, r := range one.berths {
		if r.name == place {
			r.shut = open
		}
	}
	one.count(time.Now())
	one.mu.Unlock()
}

// apply takes in what a configuration and the looks say.
func (l *line) apply(c *upstream.Config, cfg *QueueConfig, seen BackendState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.berths
	l.said, l.cfg, l.berths = *c, *cfg, nil
	places, names := c.EachPlace()
	for i, name := range names {
		r := &berth{name: name}
		for _, old := range was {
			if old.name == name {
				r = old
			}
		}
		slots, told, away := places[i].Slots, seen.Slots, seen.State == upstream.StateUnreachable && !seen.Late
		r.drained = false
		if name != "" {
			e := &c.Endpoints[i]
			told, away, r.drained = 0, false, e.Drain
			if e.Slots > 0 {
				slots = e.Slots
			}
			for _, s := range seen.Endpoints {
				if s.Name == name {
					told, away = s.Slots, s.State == upstream.StateUnreachable && !s.Late
				}
			}
		}
		r.say(slots, told, &cfg.Learn)
		if away || r.url != places[i].BaseURL {
			r.forget() // what is there, or will be, is another server
		}
		r.url = places[i].BaseURL
		l.berths = append(l.berths, r)
	}
	l.learned.Store(slices.ContainsFunc(l.berths, func(r *berth) bool { return r.learner.Load() != nil }))
	l.holds.apply(c.Resident, seen.Loaded, time.Now())
	l.count(time.Now())
}

// say sets how many slots a place has: as it is configured, as the server says, or
// what is learned of it.
func (r *berth) say(slots, told int, opt *queue.LearnOptions) {
	switch {
	case slots > 0:
		r.from = slotsConfigured
		r.learner.Store(nil)
		r.slots.Store(int64(slots))
	case told > 0:
		r.from = slotsServer
		r.learner.Store(nil)
		r.slots.Store(int64(told))
	case r.learner.Load() != nil:
		r.learner.Load().Set(*opt)
	default:
		r.from = slotsLearned
		r.learner.Store(queue.NewLearner(*opt))
		r.slots.Store(0)
	}
}

// forget takes back what was learned of its server.
func (r *berth) forget() {
	if learner := r.learner.Load(); learner != nil {
		learner.Forget()
	}
}

// count sets the queue's slots to those of its places together. The caller holds
// l.mu.
func (l *line) count(now time.Time) {
	sum, out := 0, 0
	for _, r := range l.berths {
		if learner := r.learner.Load(); learner != nil {
			was, n := r.slots.Load(), learner.Limit(now)
			if r.slots.Store(int64(n)); was != int64(n) && l.told != nil {
				l.told(l.id, r.name, slotsLearned, learner.Learned())
			}
		}
		switch n := int(r.slots.Load()); {
		case r.drained || r.shut:
			out += max(n, 1)
		case n == 0:
			sum = -1
		case sum >= 0:
			sum += n
		}
	}
	switch {
	case sum < 0:
		sum = 0
	case sum == 0: // all are out: who tries all the same finds it out
		sum = max(out, 1)
	}
	l.slots = sum
	l.q.Set(queue.Options{Slots: sum, Queue: l.said.QueueMax, Short: l.cfg.Short, ShortRun: l.cfg.ShortRun, Answer: l.cfg.Answer, Ageing: l.cfg.Ageing,
		Resident: l.holds.most(), Residence: l.cfg.Residence, Pause: l.cfg.Pause})
}

// learn follows what a place has learned, where that changed.
func (l *line) learn(r *berth, now time.Time) {
	if learner := r.learner.Load(); learner == nil || int64(learner.Limit(now)) == r.slots.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count(now)
}

// swapping takes in that the server said that one model makes room for another.
func (l *line) swapping(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holds.swapping(now) {
		l.count(now)
	}
}

// at is the berth of a place; that of the only one for "".
func (l *line) at(name string) *berth {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.berths {
		if r.name == name {
			return r
		}
	}
	return nil
}

// from is who says the slots of a line's places.
func (l *line) from() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []string
	for _, r := range l.berths {
		if !slices.Contains(all, r.from) {
			all = append(all, r.from)
		}
	}
	return strings.Join(all, ", ")
}

// text says in words how many are served and wait, for explain.
func (l *line) text() string {
	if l == nil {
		return ""
	}
	st, from := l.q.Status(), l.from()
	s := "as many at once as come; fewer once the server shows that it serves fewer"
	if st.Slots > 0 {
		s = strconv.Itoa(st.Slots) + " at once (" + from + ")"
	}
	if st.Running > 0 || st.Waiting > 0 {
		s += fmt.Sprintf(", now %d served and %d waiting", st.Running, st.Waiting)
	}
	if n := l.resident(); n > 0 {
		s += fmt.Sprintf("; %d of its models loaded at a time, requests for those first", n)
	}
	return s
}

func (l *line) resident() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.holds.most()
}

// gauges are how full the queues are.
func (l *lines) gauges() []meter.Line {
	var all []meter.Line
	for _, one := range l.all() {
		st := one.q.Status()
		row := meter.Line{Provider: one.id, Slots: st.Slots, Running: st.Running, Waiting: st.Waiting, Oldest: st.Oldest, Turned: st.Turned, Swaps: st.Swaps}
		if n := len(all); n > 0 && all[n-1].Provider == row.Provider { // models with addresses of their own
			all[n-1].Add(&row)
			continue
		}
		all = append(all, row)
	}
	return all
}

// statusQueue is how a line stands.
func (l *line) status() *StatusQueue {
	st := l.q.Status()
	out := &StatusQueue{Slots: st.Slots, From: l.from(), Running: st.Running, Waiting: st.Waiting, Service: st.Service.Seconds(), Oldest: st.Oldest.Seconds(),
		TurnedAway: st.Turned, Resident: l.resident(), Loaded: st.Held, Swaps: st.Swaps, Keys: []StatusShare{}, Line: []StatusWaiter{}}
	for _, s := range l.q.Shares(statusSharesMax) {
		out.Keys = append(out.Keys, StatusShare{Key: s.Key, Running: s.Running, Waiting: s.Waiting})
	}
	for _, w := range l.q.Waiters(statusWaitersMax) {
		out.Line = append(out.Line, StatusWaiter{ID: w.ID, Key: w.Key, Model: w.Model, Batch: w.Batch, Tokens: w.Tokens, Ahead: w.Ahead, Waited: w.Waited.Seconds(), Expected: w.Expected.Seconds()})
	}
	return out
}

// statusSharesMax and statusWaitersMax bound the lists of a StatusQueue.
const (
	statusSharesMax  = 20
	statusWaitersMax = 50
)

// StatusQueue is how full the queue of a provider is.
type StatusQueue struct {
	Slots   int     `json:"slots"`                // 0 for as many as come
	From    string  `json:"slots_from,omitempty"` // configured, server, learned
	Running int     `json:"running"`
	Waiting int     `json:"waiting"`
	Service float64 `json:"service_seconds,omitempty"` // that a request takes, on average
	Oldest  float64 `json:"oldest_seconds,omitempty"`  // for which the one that waits the longest does
	// Resident is how many models the backend holds at once, where it is few, Loaded
	// those it is thought to hold, Swaps how often one took another's place.
	Resident   int            `json:"resident,omitempty"`
	Loaded     []string       `json:"loaded,omitempty"`
	Swaps      int            `json:"swaps,omitempty"`
	TurnedAway int            `json:"turned_away,omitempty"`
	Keys       []StatusShare  `json:"keys"` // of clients, who has most first
	Line       []StatusWaiter `json:"line"` // who is likely to be next first
}

// StatusShare is what one client's key has in a queue.
type StatusShare struct {
	Key     string `json:"key"` // empty for those without one
	Running int    `json:"running"`
	Waiting int    `json:"waiting"`
}

// StatusWaiter is one request that waits.
type StatusWaiter struct {
	ID       string  `json:"request_id"`
	Key      string  `json:"key,omitempty"`
	Model    string  `json:"model"`
	Batch    bool    `json:"batch,omitempty"`
	Tokens   int     `json:"prompt_tokens"`
	Ahead    int     `json:"ahead"`
	Waited   float64 `json:"waited_seconds"`
	Expected float64 `json:"expected_seconds,omitempty"`
}

// slotsChanged tells the log what was learned of a place's slots.
func (s *Server) slotsChanged(provider, place, from string, slots int) {
	if s.snap.Load() == nil {
		return
	}
	e := s.log.Info().Str("backend", provider)
	if place != "" {
		e.Str("endpoint", place)
	}
	e.Int("slots", slots).Str("from", from).Msg("slots")
}

// placeChanged has the queues follow a breaker.
func (s *Server) placeChanged(c breaker.Change) { s.lines.shut(c.Name, c.To == breaker.Open) }
