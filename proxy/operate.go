package proxy

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"nearside/catalog"
	"nearside/proxy/access"
	"nearside/shaping/wire"
	"nearside/upstream"
)

// Pause is what an operator has said of a provider, of a target, or of an endpoint
// that is to get no new requests. Those that it has, or that wait for it, are
// finished.
type Pause struct {
	Since time.Time `json:"since"`
	By    string    `json:"by,omitempty"`    // whose key said so
	Drain bool      `json:"drain,omitempty"` // somebody waits for it to be done
	// InFlight is how many requests are under way there, those that wait for it
	// among them. A drain is over when there are none.
	InFlight int `json:"in_flight"`
}

// pausesMax bounds what is paused at once.
const pausesMax = 1024

// pauses are what operators have paused, by provider, ref, or provider@endpoint.
// They outlive reloads and end with the process. An exchange reads one pointer when
// nothing is paused.
type pauses struct {
	now atomic.Pointer[map[string]*Pause] // immutable; nil for none
	mu  sync.Mutex                        // held by who changes it
}

// of returns why a target is paused, and the name under which it is; nil when it is
// not.
func (p *pauses) of(t *target) (name string, pause *Pause) {
	all := p.now.Load()
	if all == nil {
		return "", nil
	}
	for _, name := range [...]string{t.ref, t.model.Provider.ID} {
		if pause := (*all)[name]; pause != nil {
			return name, pause
		}
	}
	return "", nil
}

// at returns the pause of one name.
func (p *pauses) at(name string) *Pause {
	if all := p.now.Load(); all != nil {
		return (*all)[name]
	}
	return nil
}

// set pauses a name; a nil pause ends that. It says false when too many are paused.
func (p *pauses) set(name string, pause *Pause) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := map[string]*Pause{}
	if all := p.now.Load(); all != nil {
		for k, v := range *all {
			next[k] = v
		}
	}
	delete(next, name)
	switch {
	case pause == nil && len(next) == 0:
		p.now.Store(nil)
		return true
	case pause != nil && len(next) >= pausesMax:
		return false
	case pause != nil:
		next[name] = pause
	}
	p.now.Store(&next)
	return true
}

// names lists what is paused, in order.
func (p *pauses) names() []string {
	out := []string{}
	if all := p.now.Load(); all != nil {
		for name := range *all {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// pausedReason says in words that a name is paused, and how that ends.
func pausedReason(name string, p *Pause) string {
	what := "paused"
	if p.Drain {
		what = "being drained"
	}
	if p.By != "" {
		what += " by " + p.By
	}
	return fmt.Sprintf("%s is %s since %s (nearside resume %s)", name, what, p.Since.UTC().Format(time.RFC3339), name)
}

// operated is what an operation is about.
type operated struct {
	name      string // as it is kept: a provider, a ref, or provider@endpoint
	provider  *catalog.Provider
	models    []*catalog.Model
	endpoints []*upstream.Endpoint // those of that name, of each model; nil for no endpoint
}

// operands finds what an operation is about.
func (s *Server) operands(snap *Snapshot, name string) (o operated, err error) {
	id, model, isRef := strings.Cut(name, "/")
	id, endpoint, isPlace := strings.Cut(id, "@")
	for _, p := range snap.Catalog.Providers {
		if !strings.EqualFold(p.ID, id) {
			continue
		}
		o.provider, o.name = p, p.ID
		for _, m := range p.Models {
			if isRef && !strings.EqualFold(m.ID, model) {
				continue
			}
			if isRef {
				o.name = m.Ref()
			}
			if isPlace {
				for _, e := range s.pool.Endpoints(m) {
					if strings.EqualFold(e.Name, endpoint) {
						o.name, o.endpoints = p.ID+"@"+e.Name, append(o.endpoints, e)
						o.models = append(o.models, m)
					}
				}
				continue
			}
			o.models = append(o.models, m)
		}
		if isRef && isPlace || isRef && len(o.models) == 0 || isPlace && o.endpoints == nil {
			break
		}
		return o, nil
	}
	return o, fmt.Errorf("%s is no provider (lmstudio), model (lmstudio/qwen3) or endpoint (lmstudio@left) that is configured or was found; nearside status lists them", printable([]byte(name)))
}

// Operate pauses, drains, resumes or resets a provider, a model of one
// (provider/model) or an endpoint (provider@endpoint), and returns its name. by is
// whose key says so.
func (s *Server) Operate(action, name, by string) (string, error) {
	snap, now := s.snap.Load(), time.Now()
	o, err := s.operands(snap, name)
	if err != nil {
		return "", err
	}
	switch action {
	case "pause", "drain":
		p := &Pause{Since: now, By: by, Drain: action == "drain"}
		if was := s.pauses.at(o.name); was != nil { // paused, and now somebody waits for it to be done
			p.Since = was.Since
		}
		if !s.pauses.set(o.name, p) {
			return "", fmt.Errorf("%d are paused already", pausesMax)
		}
		o.hold(true)
	case "resume":
		s.pauses.set(o.name, nil)
		o.hold(false)
	case "reset":
		s.forgive(snap, &o)
	default:
		return "", fmt.Errorf("%s is none of pause, drain, resume, reset", printable([]byte(action)))
	}
	s.log.Info().Str("target", o.name).Str("action", action).Str("by", by).Msg("operated")
	return o.name, nil
}

// keepPauses has endpoints that came with a configuration be paused as they were.
func (s *Server) keepPauses(snap *Snapshot) {
	for _, name := range s.pauses.names() {
		if strings.Contains(name, "@") {
			if o, err := s.operands(snap, name); err == nil {
				o.hold(true)
			}
		}
	}
}

func (o *operated) hold(yes bool) {
	for _, e := range o.endpoints {
		e.Hold(yes)
	}
}

// forgive forgets what failed: breakers close, and who asked to be left alone or
// refused a key is asked again.
func (s *Server) forgive(snap *Snapshot, o *operated) {
	forgive := func(t *target) {
		t.breaker.Reset()
		t.provider.Reset()
		t.cool.Store(0)
		if t.keys != nil {
			t.keys.Forgive()
		}
	}
	s.refused.Delete(o.provider.ID)
	for i, m := range o.models {
		t := s.target(snap, m)
		s.refused.Delete(t.ref)
		if t.places == nil {
			forgive(t)
			continue
		}
		t.cool.Store(0)
		for _, p := range t.places {
			if o.endpoints == nil || p.at.Name == o.endpoints[i].Name {
				forgive(p)
			}
		}
	}
}

// paused returns the pause of a name with what is under way there; nil when it is
// not paused.
func (s *Server) paused(name string) *Pause {
	p := s.pauses.at(name)
	if p == nil {
		return nil
	}
	out := *p
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active(func(x *exchange) {
		if t := x.pulse.target.Load(); t != nil && (name == t.ref || name == t.model.Provider.ID || t.at != nil && name == t.model.Provider.ID+"@"+t.at.Name) {
			out.InFlight++
		}
	})
	return &out
}

// operate answers POST /proxy/targets/{ref}/{action}.
func (s *Server) operate(ctx *fasthttp.RequestCtx) {
	raw, _ := ctx.UserValue("ref").(string)
	at := strings.LastIndexByte(raw, '/')
	name, err := url.PathUnescape(raw[:max(at, 0)])
	action := raw[at+1:]
	if at < 1 || err != nil || !slices.Contains([]string{"pause", "drain", "resume", "reset"}, action) {
		replyError(ctx, &wire.Error{Status: 404, Type: "invalid_request_error", Code: "unknown_url",
			Message: "it is POST /proxy/targets/{provider, provider/model or provider@endpoint}/{pause, drain, resume or reset}"}, 0, false)
		return
	}
	done, err := s.Operate(action, name, operatorName(grantOf(ctx)))
	if err != nil {
		replyError(ctx, &wire.Error{Status: 404, Type: "invalid_request_error", Code: "target_not_found", Param: "ref", Message: err.Error()}, 0, false)
		return
	}
	out := struct {
		Target string `json:"target"`
		Action string `json:"action"`
		Pause  *Pause `json:"paused,omitempty"`
	}{done, action, s.paused(done)}
	writeJSON(ctx, 200, out)
}

// operatorName is what the key of whoever operates is called; empty without keys.
func operatorName(g *access.Grant) string {
	if g == nil {
		return ""
	}
	return g.Name()
}
