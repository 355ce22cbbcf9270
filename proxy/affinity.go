package proxy

import (
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"nearside/catalog"
)

// AffinityConfig says how long a conversation stays where it was served.
type AffinityConfig struct {
	Sessions int           // how many are remembered; 0 for none
	For      time.Duration // after the last answer
	Targets  bool          // also at a target
}

// home is where a conversation was served, and where its prompt is cached.
type home struct {
	ref string // of the target; empty for nowhere
	key uint64 // id of the key; 0 for none
}

// stay is a conversation's home, in the order in which they were used.
type stay struct {
	id           uint64
	at           home
	until        time.Time
	newer, older *stay
}

// affinity remembers where conversations were served: a bounded number of them,
// and each for a while after its last answer.
type affinity struct {
	mu     sync.Mutex
	byID   map[uint64]*stay
	newest *stay
	oldest *stay
}

// find returns the home of a conversation; none when it is not known.
func (a *affinity) find(id uint64, now time.Time) home {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.byID[id]
	if s == nil {
		return home{}
	}
	if now.After(s.until) {
		a.remove(s)
		return home{}
	}
	return s.at
}

// keep remembers where a conversation was served.
func (a *affinity) keep(id uint64, at home, cfg *AffinityConfig, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.byID[id]; s != nil {
		a.unlink(s)
		s.at, s.until = at, now.Add(cfg.For)
		a.link(s)
		return
	}
	for a.oldest != nil && (len(a.byID) >= cfg.Sessions || now.After(a.oldest.until)) {
		a.remove(a.oldest)
	}
	if cfg.Sessions <= 0 {
		return
	}
	if a.byID == nil {
		a.byID = map[uint64]*stay{}
	}
	s := &stay{id: id, at: at, until: now.Add(cfg.For)}
	a.byID[id] = s
	a.link(s)
}

// forget has a conversation go anywhere: where it was served it failed.
func (a *affinity) forget(id uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.byID[id]; s != nil {
		a.remove(s)
	}
}

func (a *affinity) remove(s *stay) {
	a.unlink(s)
	delete(a.byID, s.id)
}

func (a *affinity) link(s *stay) {
	s.older, s.newer = a.newest, nil
	if a.newest != nil {
		a.newest.newer = s
	}
	a.newest = s
	if a.oldest == nil {
		a.oldest = s
	}
}

func (a *affinity) unlink(s *stay) {
	if s.newer != nil {
		s.newer.older = s.older
	} else {
		a.newest = s.older
	}
	if s.older != nil {
		s.older.newer = s.newer
	} else {
		a.oldest = s.newer
	}
	s.newer, s.older = nil, nil
}

// where returns the home where the exchange's conversation was served before. It
// is looked up once, by whoever has a choice first: where nobody has, never.
func (x *exchange) where() home {
	if !x.sought {
		x.sought = true
		if id := x.session(); id != 0 && x.snap.Config.Affinity.Sessions > 0 {
			// A client's small questions beside a conversation, to another name, are
			// not the conversation.
			x.stay = id ^ maphash.String(sessionSeed, x.plan.Name) | 1
			if x.goesOn { // else it may be another that begins with the same words
				x.was = x.s.affinity.find(x.stay, x.start)
			}
		}
	}
	return x.was
}

// stays remembers that the conversation was served here, where somebody asked.
func (x *exchange) stays(now time.Time) {
	if x.stay == 0 {
		return
	}
	at := home{ref: x.cur.ref}
	if k := &x.keys; k.ring.Len() > 1 {
		at.key = k.ring.ID(k.at)
	}
	x.s.affinity.keep(x.stay, at, &x.snap.Config.Affinity, now)
}

// moves has the conversation go elsewhere: the present target has failed it.
func (x *exchange) moves() {
	if x.stay != 0 && x.was.ref == x.cur.ref {
		x.s.affinity.forget(x.stay)
	}
}

// keptReason is what a plan says of a target that was moved up.
const keptReason = "kept: served this conversation before"

// homeFirst returns the models of a chain with the one that served the conversation
// moved up, before others that are as near or far as it: never before a nearer
// one that stands earlier. kept is that model, nil when nothing was moved.
func (x *exchange) homeFirst(models []*catalog.Model) (order []*catalog.Model, kept *catalog.Model) {
	if x == nil || !x.snap.Config.Affinity.Targets {
		return models, nil
	}
	choice := false
	for i := 1; i < len(models); i++ {
		choice = choice || models[i].Near() == models[i-1].Near()
	}
	if !choice {
		return models, nil
	}
	was := x.where()
	if was.ref == "" {
		return models, nil
	}
	at := slices.IndexFunc(models, func(m *catalog.Model) bool { return m.Ref() == was.ref })
	to := at
	for to > 0 && models[to-1].Near() == models[at].Near() {
		to--
	}
	if to == at {
		return models, nil
	}
	order = slices.Clone(models)
	kept = order[at]
	copy(order[to+1:at+1], order[to:at])
	order[to] = kept
	return order, kept
}
