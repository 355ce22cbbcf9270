package proxy

import (
	"time"

	"nearside/breaker"
	"nearside/catalog"
)

// targetsState says what requests would find now, over all models that are
// listed: "ready" when a plan would try one that was not down at the last look,
// "unready" when only such as were, "none" when every one is skipped (open
// breakers, missing keys, windows that are too small) or there is none. It does
// not make /readyz say 503: the reply to a request tells which target fails
// why and when to come back, and whoever took the proxy out of service for it
// would put a refused connection in its place.
func (s *Server) targetsState(snap *Snapshot) string {
	state, now := "none", time.Now()
	for _, p := range snap.Catalog.Providers {
		if p.Unavailable != "" {
			continue
		}
		up := snap.Ready(&catalog.Model{Provider: p})
		tried := len(p.Models) == 0 && p.Source != catalog.FromBuiltin && s.providerCallable(p.ID, now) // ids are passed through
		for _, m := range p.Models {
			if _, _, tried = s.stateOf(snap, s.target(snap, m)); tried {
				break
			}
		}
		switch {
		case tried && up:
			return "ready"
		case tried:
			state = "unready"
		}
	}
	return state
}

// providerCallable says whether no breaker of a provider as a whole is open, or
// of its endpoints not every one.
func (s *Server) providerCallable(id string, now time.Time) bool {
	open := false
	for _, b := range s.pool.EachBreaker() {
		if b.Provider != id || b.Model != "" {
			continue
		}
		if b.State == breaker.Closed || b.Callable(now) {
			return true
		}
		open = true
	}
	return !open
}
