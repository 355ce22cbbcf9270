package proxy

import (
	"time"

	"github.com/valyala/fasthttp"

	"nearside/breaker"
	"nearside/catalog"
	"nearside/shaping/wire"
)

// Status is what an operator wants to see of a running proxy: what state its
// backends are in and why, and what a request would find now. It holds no key and
// nothing of what clients say.
type Status struct {
	Version  string         `json:"version"`
	At       time.Time      `json:"at"`
	Started  time.Time      `json:"started"`
	State    string         `json:"state"` // ready or draining
	Config   *Reload        `json:"config,omitempty"`
	InFlight []StatusFlight `json:"in_flight"`
	More     int            `json:"in_flight_more,omitempty"` // beyond those listed
	Network  NetworkState   `json:"network"`

	Default  StatusPlan      `json:"default"` // what a request for default would do now
	Backends []StatusBackend `json:"backends"`
	Targets  []StatusTarget  `json:"targets"`
	Failures []Failure       `json:"failures"`
	Retries  RetryState      `json:"retries"` // the retry budget
	Clients  []StatusClient  `json:"keys"`    // of clients
}

// StatusPlan is a plan as it would be made now.
type StatusPlan struct {
	Requested string       `json:"requested"`
	First     string       `json:"first,omitempty"` // ref of the target that would be asked; empty when none can be
	Route     string       `json:"route,omitempty"`
	Why       string       `json:"why,omitempty"` // none can be asked
	Steps     []StatusStep `json:"steps"`
}

// StatusStep is one target of a plan.
type StatusStep struct {
	Ref    string `json:"ref"`
	Route  string `json:"route"`
	Skip   bool   `json:"skip"`
	Reason string `json:"reason"`
}

// StatusBackend is one provider.
type StatusBackend struct {
	Provider string       `json:"provider"`
	Route    string       `json:"route"`
	Kind     catalog.Kind `json:"kind,omitempty"`
	URL      string       `json:"url"`
	State    string       `json:"state"`
	Detail   string       `json:"detail,omitempty"`
	Since    time.Time    `json:"since,omitzero"` // of the state
	Models   int          `json:"models"`
	Paused   *Pause       `json:"paused,omitempty"` // by an operator

	Breaker *StatusBreaker `json:"breaker,omitempty"` // that of its connections
	Keys    []StatusKey    `json:"keys,omitempty"`    // those it was asked with, where there are several or one is left alone
	// Endpoints are the places that serve its models, where there are several.
	Endpoints []StatusEndpoint `json:"endpoints,omitempty"`
	Queue     *StatusQueue     `json:"queue,omitempty"` // where it has one
}

// StatusEndpoint is one of several places that serve a provider's models.
type StatusEndpoint struct {
	Name     string         `json:"name"`
	URL      string         `json:"url"`
	State    string         `json:"state,omitempty"` // as it was last looked at
	Detail   string         `json:"detail,omitempty"`
	Weight   float64        `json:"weight"`
	Now      float64        `json:"effective_weight"` // 0 while it takes no request
	Drain    bool           `json:"drain,omitempty"`
	Paused   *Pause         `json:"paused,omitempty"`
	InFlight int64          `json:"in_flight"`
	Penalty  float64        `json:"penalty,omitempty"` // requests in flight that its failures count as
	Breaker  *StatusBreaker `json:"breaker,omitempty"`
}

// StatusTarget is one model that was asked, that a chain names, or that is near.
type StatusTarget struct {
	Ref     string         `json:"ref"`
	Route   string         `json:"route"`
	State   string         `json:"state"`
	Why     string         `json:"why,omitempty"`
	Paused  *Pause         `json:"paused,omitempty"`
	Waiting int64          `json:"waiting,omitempty"` // requests that wait for it to load, or for room
	Breaker *StatusBreaker `json:"breaker,omitempty"`
	Warm    *StatusWarm    `json:"warm,omitempty"` // where it is kept warm
	// Load is how long its model takes to load, in seconds, Prefill the learned
	// rate, in prompt tokens a second, Ratio the learned tokens for each four bytes
	// of prompt; 0 when nothing was learned.
	Load    float64 `json:"load_seconds,omitempty"`
	Prefill float64 `json:"prefill_tokens_per_second,omitempty"`
	Ratio   float64 `json:"token_ratio,omitempty"`
}

// StatusBreaker is a breaker that has something to tell.
type StatusBreaker struct {
	State       string    `json:"state"`
	Cause       string    `json:"cause,omitempty"`
	Until       time.Time `json:"until,omitzero"`
	Opens       int       `json:"opens,omitempty"`
	Consecutive int       `json:"consecutive_failures,omitempty"`
}

// statusTargetsMax bounds the list of targets of a Status.
const statusTargetsMax = 256

// Status returns what is to be seen now. It sends nothing and changes nothing.
func (s *Server) Status() *Status {
	snap, now := s.snap.Load(), time.Now()
	out := &Status{Version: s.version, At: now, Started: s.started, State: "ready", Network: s.Network(), Config: s.reload.Load(), Retries: s.Retries(), Failures: s.failures.list(), Targets: []StatusTarget{}, Backends: []StatusBackend{}}
	if s.draining.Load() {
		out.State = "draining"
	}
	s.flights(out, now)
	out.Clients = s.statusClients(snap.Config.Keys)
	out.Default = s.planNow(snap, catalog.DefaultName, now)
	breakers := map[string]breaker.Status{}
	for _, b := range s.pool.EachBreaker() {
		breakers[b.Name] = b.Status
	}
	endpoints, states := s.Endpoints(), s.backendStates(snap)
	keys := s.Keys()
	for _, p := range snap.Catalog.Providers {
		if p.Source == catalog.FromBuiltin && p.Unavailable != "" {
			continue // hosted ones that nobody has a key for
		}
		row := statusBackend(states, p, breakers)
		row.Endpoints = endpointsOf(snap, p, endpoints)
		if row.Paused = s.paused(p.ID); row.Paused != nil {
			row.State, row.Detail = "paused", pausedReason(p.ID, row.Paused)
		}
		for i := range row.Endpoints {
			e := &row.Endpoints[i]
			e.Paused = s.paused(p.ID + "@" + e.Name)
		}
		if q := s.lines.line(snap, p.ID, ""); q != nil {
			row.Queue = q.status()
		}
		row.Keys = statusKeys(keys, p.ID)
		out.Backends = append(out.Backends, row)
	}
	s.statusTargets(snap, out, breakers)
	return out
}

// planNow says what a request for a name would do now.
func (s *Server) planNow(snap *Snapshot, name string, now time.Time) StatusPlan {
	out := StatusPlan{Requested: name, Steps: []StatusStep{}}
	var p Plan
	if err := s.plan(snap, request{model: name, dialect: wire.Chat}, now, &p); err != nil {
		out.Why = err.Error()
		return out
	}
	for i := range p.Steps {
		st := &p.Steps[i]
		out.Steps = append(out.Steps, StatusStep{Ref: st.Ref, Route: st.Route, Skip: st.Skip, Reason: st.Reason})
		if !st.Skip && out.First == "" {
			out.First, out.Route = st.Ref, st.Route
		}
	}
	if out.First == "" {
		e, _ := p.noTarget(now)
		out.Why = e.Message
	}
	return out
}

func statusBackend(states map[string]BackendState, p *catalog.Provider, breakers map[string]breaker.Status) StatusBackend {
	b := StatusBackend{Provider: p.ID, Route: "far", Kind: p.Kind, URL: p.BaseURL, Models: len(p.Models), State: "unknown"}
	if p.Near {
		b.Route = "near"
	}
	if st, ok := states[p.ID]; ok {
		b.State, b.Detail, b.Since = st.State, st.Detail, st.Since
	}
	if p.Unavailable != "" {
		b.State, b.Detail = "unavailable", p.Unavailable
	}
	if st, ok := breakers[p.ID]; ok {
		b.Breaker = statusBreaker(st)
	}
	return b
}

// statusBreaker returns nil for one that is closed and has counted nothing.
func statusBreaker(st breaker.Status) *StatusBreaker {
	if st.State == breaker.Closed && st.Consecutive == 0 {
		return nil
	}
	return &StatusBreaker{State: st.State.String(), Cause: st.Cause, Until: st.Until, Opens: st.Opens, Consecutive: st.Consecutive}
}

// statusTargets lists the models that are near, that chains name, and that
// breakers know.
func (s *Server) statusTargets(snap *Snapshot, out *Status, breakers map[string]breaker.Status) {
	named := map[string]bool{}
	for _, c := range snap.Catalog.Chains {
		for _, ref := range c.Refs {
			named[ref] = true
		}
	}
	for _, p := range snap.Catalog.Providers {
		for _, m := range p.Models {
			ref := m.Ref()
			st, asked := breakers[ref]
			if !p.Near && !named[ref] && (!asked || st.State == breaker.Closed && st.Consecutive == 0) {
				continue
			}
			if len(out.Targets) == statusTargetsMax {
				return
			}
			t := s.target(snap, m)
			row := StatusTarget{Ref: ref, Route: t.route, Ratio: t.gauge.load().Mean}
			row.State, row.Why, _ = s.stateOf(snap, t)
			row.Warm = s.warm.status(ref)
			if asked {
				row.Breaker = statusBreaker(st)
			}
			row.Paused = s.paused(ref)
			row.Waiting = t.state.Waiting.Load()
			for _, p := range t.places {
				row.Waiting += p.state.Waiting.Load()
			}
			if t.backend != nil {
				row.Prefill, row.Load = t.state.PrefillRate(), t.state.LoadTime().Seconds()
			}
			out.Targets = append(out.Targets, row)
		}
	}
}

func (s *Server) status(ctx *fasthttp.RequestCtx) {
	s.settled()
	writeJSON(ctx, 200, s.Status())
}
