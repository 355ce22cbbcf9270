package proxy

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// failuresMax bounds the kinds of failure that are remembered; the one that was
// seen longest ago makes room.
const failuresMax = 128

// Failure is one way in which attempts at a target failed since the start, and
// the last of them.
type Failure struct {
	Ref     string    `json:"ref"`
	Outcome string    `json:"outcome"`
	Count   int       `json:"count"`
	Last    time.Time `json:"last"`
	Reason  string    `json:"reason,omitempty"` // of the last
	Request string    `json:"request_id"`       // of the last
}

// failures remember how attempts failed, for people who look at what is wrong.
type failures struct {
	mu   sync.Mutex
	kept map[failureKey]*Failure
}

type failureKey struct{ ref, outcome string }

// note takes in the attempts of a settled exchange that failed.
func (f *failures) note(r *Receipt) {
	for i := range r.Attempts {
		a := &r.Attempts[i]
		switch {
		case a.Skipped, a.Outcome == "ok", a.Outcome == "client_closed", a.Outcome == "cancelled", a.Outcome == nameLostRace:
			continue
		}
		f.add(r, a)
	}
}

func (f *failures) add(r *Receipt, a *Attempt) {
	key := failureKey{a.Ref, a.Outcome}
	if !a.declared {
		key.ref = a.provider + "/*" // clients make these ids up
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	had := f.kept[key]
	if had == nil {
		if f.kept == nil {
			f.kept = map[failureKey]*Failure{}
		}
		if len(f.kept) >= failuresMax {
			f.forgetOldest()
		}
		had = &Failure{Ref: key.ref, Outcome: key.outcome}
		f.kept[key] = had
	}
	had.Count++
	had.Last, had.Reason, had.Request = time.Now(), a.Reason, r.ID
}

func (f *failures) forgetOldest() {
	var oldest failureKey
	var at time.Time
	for key, v := range f.kept {
		if at.IsZero() || v.Last.Before(at) {
			oldest, at = key, v.Last
		}
	}
	delete(f.kept, oldest)
}

// list returns them, the latest first.
func (f *failures) list() []Failure {
	f.mu.Lock()
	all := make([]Failure, 0, len(f.kept))
	for _, v := range f.kept {
		all = append(all, *v)
	}
	f.mu.Unlock()
	slices.SortFunc(all, func(a, b Failure) int {
		if c := b.Last.Compare(a.Last); c != 0 {
			return c
		}
		return cmp.Or(cmp.Compare(a.Ref, b.Ref), cmp.Compare(a.Outcome, b.Outcome))
	})
	return all
}
