package proxy

import (
	"time"

	"nearside/upstream"
)

// BackendState is how a provider is, as far as was seen.
type BackendState struct {
	State  string    `json:"state"` // as upstream.BackendStates
	Detail string    `json:"detail,omitempty"`
	Since  time.Time `json:"since,omitzero"` // not of a look
	Late   bool      `json:"-"`              // a look: it did not answer in time
	// Slots are how many requests it serves at once, as a look heard, 0 when it does
	// not say, and Loaded the models that it has in memory.
	Slots  int      `json:"slots,omitempty"`
	Loaded []string `json:"-"`
	// Endpoints are what was seen of each, where the provider has several.
	Endpoints []EndpointSeen `json:"endpoints,omitempty"`
}

// Looked takes in what looks saw of providers, by id. Apply does so with those of
// its snapshot; this is for looks after which the snapshot stays.
func (s *Server) Looked(seen map[string]BackendState) {
	for id, st := range seen {
		s.pool.States().Looked(id, upstream.Seen{State: st.State, Detail: st.Detail, Late: st.Late}, s.pool.Working(id))
	}
}

// States returns how each provider is now, since when and why, with what was
// learned of its models.
func (s *Server) States() []upstream.StateRow { return s.pool.States().Rows() }

// applyStates has the picture of the backends follow a snapshot.
func (s *Server) applyStates(snap *Snapshot) {
	states := s.pool.States()
	snap.live = states
	s.Looked(snap.States)
	if snap.Catalog == nil {
		return
	}
	type key struct{ provider, baseURL, id string }
	listed := map[key]bool{}
	for _, p := range snap.Catalog.Providers {
		states.Is(p.ID, p.Kind)
		for _, m := range p.Models {
			listed[key{p.ID, m.BaseURL, m.ID}] = true
			for _, e := range s.pool.Endpoints(m) {
				listed[key{p.ID, e.URL, m.ID}] = true
			}
		}
	}
	states.Listed(func(provider, baseURL, id string) bool { return listed[key{provider, baseURL, id}] })
}

// stateChanged tells the log and the metrics how a provider is from now on.
func (s *Server) stateChanged(c upstream.StateChange) {
	s.meter.Backend(c.Provider, c.To)
	if s.snap.Load() == nil { // at the start everything is new
		return
	}
	s.log.Info().Str("backend", c.Provider).Str("from", c.From).Str("to", c.To).Str("detail", c.Detail).Msg("backend state")
}

// backendStates are the providers' states for /readyz: those that were looked at
// or asked, and the addresses that our own policy refuses.
func (s *Server) backendStates(snap *Snapshot) map[string]BackendState {
	out := make(map[string]BackendState, len(snap.States))
	for id, st := range snap.States {
		out[id] = st
	}
	for _, row := range s.States() {
		if row.State != upstream.StateUnknown {
			out[row.Provider] = BackendState{State: row.State, Detail: row.Detail, Since: row.Since, Endpoints: out[row.Provider].Endpoints, Slots: out[row.Provider].Slots}
		}
	}
	return out
}
