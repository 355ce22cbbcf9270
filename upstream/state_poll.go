package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"nearside/catalog"
)

const (
	pollTime = 2 * time.Second // for all questions of one poll
	pollsMax = 8               // at once
)

// polled is what a poll tells.
type polled struct {
	Seen
	url   string          // of the endpoint that was asked, where there are several
	ready map[string]bool // models that are there now
	room  bool            // there is room for a request
}

// poll asks the near providers again that are not ready, each after a while that
// grows, until ctx ends. It waits for what it started.
func (p *Pool) poll(ctx context.Context) {
	s := p.states
	timer := time.NewTimer(0)
	defer timer.Stop()
	var polls sync.WaitGroup
	defer polls.Wait()
	slots := make(chan struct{}, pollsMax)
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.kick:
		case <-timer.C:
		}
		due, next := s.due(s.now())
		for _, w := range due {
			polls.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				if !w.cfg.Near { // requests find out
					s.unheard(w.row)
					s.later(w.row)
					return
				}
				places, names := w.cfg.EachPlace()
				for i, place := range places { // the first that is ready speaks for all
					if names[i] != "" && w.cfg.Endpoints[i].Drain {
						continue // requests do not go there
					}
					at := w
					at.cfg = place
					seen := ask(ctx, at, p.opt.Dialer)
					if ctx.Err() != nil {
						return
					}
					if seen.State != StateUnreachable && seen.State != StateFailing {
						p.reached(breakerKey{provider: place.ID, endpoint: names[i]})
					}
					if names[i] != "" {
						seen.url = place.BaseURL
					}
					if s.polled(w, seen, p.Working(place.ID)); seen.State == StateReady {
						break
					}
				}
				s.later(w.row)
			})
		}
		wait := time.Hour
		if !next.IsZero() {
			wait = max(0, next.Sub(s.now()))
		}
		timer.Reset(wait)
	}
}

// reached tells the breaker of a provider's connections that it answers again.
func (p *Pool) reached(place breakerKey) {
	p.mu.Lock()
	b := p.breakers[place]
	p.mu.Unlock()
	if b != nil {
		b.Probed(true)
	}
}

// due is one poll to be made.
type due struct {
	row  *stateRow
	cfg  Config
	kind catalog.Kind
	held map[string]string // state of the models that are held, by id
}

// due returns the polls to be made now, and when the next one is.
func (s *States) due(now time.Time) (all []due, next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, row := range s.rows {
		switch {
		case row.next.IsZero() || row.polling:
		case now.Before(row.next):
			if next.IsZero() || row.next.Before(next) {
				next = row.next
			}
		default:
			row.polling = true
			w := due{row: row, cfg: row.cfg, kind: row.kind, held: map[string]string{}}
			for key, m := range s.models {
				if m.row == row && m.held.Load() {
					w.held[key.id] = m.hold.state
				}
			}
			all = append(all, w)
		}
	}
	return all, next
}

// polled takes in what a poll told.
func (s *States) polled(w due, seen polled, working int) {
	s.mu.Lock()
	defer s.unlock()
	s.looked(w.row, seen, working, s.now())
}

// unheard is polled for a provider that is not asked.
func (s *States) unheard(row *stateRow) {
	s.mu.Lock()
	defer s.unlock()
	now := s.now()
	for _, m := range s.models {
		if m.row == row {
			m.forget(now)
		}
	}
	s.settle(row, now)
}

// later says when the next poll is.
func (s *States) later(row *stateRow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if row.polling = false; !row.next.IsZero() {
		row.every = min(2*row.every, row.cfg.States.max())
		row.next = now.Add(row.every)
		s.kicked()
	}
}

// ask asks one provider what costs it nothing, as its software wants to be asked.
func ask(ctx context.Context, w due, d Dialer) (p polled) {
	ctx, cancel := context.WithTimeout(ctx, pollTime)
	defer cancel()
	a, err := newAsker(w.cfg, d)
	if err != nil {
		return polled{Seen: Seen{State: StateMisconfigured, Detail: err.Error()}}
	}
	defer a.close()
	p.ready = map[string]bool{}
	switch w.kind {
	case catalog.KindLlamaCPP:
		err = a.pollLlamaCPP(ctx, w, &p)
	case catalog.KindVLLM:
		err = a.pollVLLM(ctx, w, &p)
	default:
		err = a.pollList(ctx, w, &p)
	}
	if err != nil {
		p.Seen = unreachable(err)
	}
	return p
}

// unreachable is what it means that a question came to an error.
func unreachable(err error) Seen {
	var e *Error
	return Seen{State: StateUnreachable, Detail: err.Error(), Late: errors.As(err, &e) && e.Kind.Timeout()}
}

// pollLlamaCPP asks for its health, and for its slots where it had no room. One
// that serves several models says in their list which are loaded.
func (a *asker) pollLlamaCPP(ctx context.Context, w due, p *polled) error {
	r, err := a.own(ctx, "/health")
	if err != nil {
		return err
	}
	if r.status == http.StatusServiceUnavailable {
		p.State, p.Detail = StateLoading, "a model is being loaded"
		return nil
	}
	if err := a.pollList(ctx, w, p); err != nil || p.State != StateReady {
		return err
	}
	var slots []struct {
		Busy *bool `json:"is_processing"`
	}
	r, err = a.own(ctx, "/slots")
	if err != nil || !r.into(&slots) || len(slots) == 0 { // they are off by default in some versions
		return nil
	}
	for _, slot := range slots {
		if p.room = slot.Busy == nil || !*slot.Busy; p.room {
			return nil
		}
	}
	p.State, p.Detail = StateSaturated, "all its "+strconv.Itoa(len(slots))+" slots are busy"
	return nil
}

// pollVLLM asks for its health and for how many requests wait.
func (a *asker) pollVLLM(ctx context.Context, w due, p *polled) error {
	r, err := a.own(ctx, "/health")
	if err != nil {
		return err
	}
	if r.status >= 500 {
		p.State, p.Detail = StateFailing, "/health answers "+http.StatusText(r.status)
		return nil
	}
	if err := a.pollList(ctx, w, p); err != nil || p.State != StateReady {
		return err
	}
	r, err = a.own(ctx, "/metrics")
	if err != nil || r.status != http.StatusOK {
		return nil
	}
	if waiting, ok := metric(r.body, "vllm:num_requests_waiting"); ok && waiting > 0 {
		p.State, p.Detail = StateSaturated, strconv.Itoa(int(waiting))+" requests wait there"
	} else {
		p.room = ok
	}
	return nil
}

// metric is the sum of a metric over its labels.
func metric(text []byte, name string) (sum float64, ok bool) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		rest, is := strings.CutPrefix(lines.Text(), name)
		if !is || !strings.HasPrefix(rest, "{") && !strings.HasPrefix(rest, " ") {
			continue
		}
		if v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64); err == nil {
			sum, ok = sum+v, true
		}
	}
	return sum, ok
}

// pollList asks for the model list, and for what the server has loaded.
func (a *asker) pollList(ctx context.Context, w due, p *polled) error {
	r, err := a.get(ctx, a.modelsPath())
	if err != nil {
		return err
	}
	f := Found{URL: a.base, Kind: w.kind}
	list, listed := readList(r)
	a.judge(ctx, &f, r, listed)
	p.State, p.Detail = f.State, f.Detail
	if f.State != StateReady || len(w.held) == 0 {
		return nil
	}
	f.Models = list.found()
	switch w.kind {
	case catalog.KindLMStudio:
		a.lmStudio(ctx, &f)
	case catalog.KindOllama:
		a.loadedOllama(ctx, &f)
	case catalog.KindLlamaCPP:
		if len(f.Models) == 1 && !list.says() { // its one model is there, or it would say that it is loading
			f.Models[0].Loaded = true
		}
	}
	for id := range w.held {
		if m := f.Model(id); m != nil && m.Loaded {
			p.ready[id] = true
		}
	}
	p.State, p.Detail = f.State, f.Detail // now with what it has loaded
	return nil
}

// says tells whether the list says of its models which are loaded.
func (l modelList) says() bool {
	for _, m := range l.Data {
		if len(m.Status) > 0 {
			return true
		}
	}
	return false
}

// loadedOllama marks the models that Ollama holds in memory.
func (a *asker) loadedOllama(ctx context.Context, f *Found) {
	var ps struct {
		Models []struct {
			Name string `json:"name"`
		} `json:"models"`
	}
	if r, err := a.own(ctx, "/api/ps"); err != nil || !r.into(&ps) {
		return
	}
	for i := range f.Models {
		f.Models[i].Loaded = false
		for _, m := range ps.Models {
			f.Models[i].Loaded = f.Models[i].Loaded || m.Name == f.Models[i].ID
		}
	}
}
