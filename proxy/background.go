package proxy

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/goccy/go-json"

	"nearside/proxy/store"
	"nearside/shaping/wire"
)

// jobs are the responses that run in the background.
type jobs struct {
	mu      sync.Mutex // guards all below
	running map[string]*job
	waiting int
	slots   chan struct{}
	stopped bool
	all     sync.WaitGroup
}

// job is one background response. Its events are kept, within a bound, for
// those who ask for its stream.
type job struct {
	id, owner string
	created   time.Time

	mu        sync.Mutex // guards all below
	events    [][]byte   // the data of each, by sequence number
	bytes     int
	lost      bool // the bound was reached: events are missing at the end
	ended     bool
	cancelled bool
	client    *localClient
	changed   chan struct{} // closed, and made anew, whenever something above changes
}

// wake tells those who wait for events. mu must be held.
func (j *job) wake() {
	close(j.changed)
	j.changed = make(chan struct{})
}

// submit starts a job, or refuses it when too many wait.
func (s *Server) submit(j *job, path string, headers, body []byte) *wire.Error {
	cfg := &s.snap.Load().Config.Responses
	js := &s.jobs
	js.mu.Lock()
	stopped, full := js.stopped, js.waiting >= cfg.BackgroundQueue
	if stopped || full {
		js.mu.Unlock()
		if stopped {
			return shuttingDown()
		}
		return &wire.Error{Status: 429, Type: "rate_limit_exceeded", Code: "rate_limit_exceeded",
			Message: "too many background responses are waiting (proxy.responses.backgroundQueue)"}
	}
	js.waiting++
	js.running[j.id] = j
	js.all.Add(1)
	js.mu.Unlock()
	go func() {
		defer js.all.Done()
		defer s.survive("background response")
		defer func() {
			js.mu.Lock()
			delete(js.running, j.id)
			js.mu.Unlock()
			j.mu.Lock()
			j.ended = true
			j.wake()
			j.mu.Unlock()
		}()
		took := s.slot(j)
		js.mu.Lock()
		js.waiting--
		js.mu.Unlock()
		if !took { // conclude knows whether it was cancelled
			s.conclude(j, shuttingDown())
			return
		}
		defer func() { <-js.slots }()
		s.work(j, path, headers, body)
	}()
	return nil
}

// slot waits for one of the places that background responses have. It says
// false when the job was cancelled, or the server stopped, before.
func (s *Server) slot(j *job) bool {
	for {
		// First what will be closed, then why it might: the other way round a stop
		// between the two would wake nobody.
		j.mu.Lock()
		cancelled, changed := j.cancelled, j.changed
		j.mu.Unlock()
		if cancelled || s.jobs.over() {
			return false
		}
		select {
		case s.jobs.slots <- struct{}{}:
			return true
		case <-changed:
		}
	}
}

// work asks for the response as any client does, over a connection of our own.
func (s *Server) work(j *job, path string, headers, body []byte) {
	c := s.dial()
	defer c.Close()
	j.mu.Lock()
	j.client = c
	cancelled := j.cancelled
	j.mu.Unlock()
	if cancelled || s.jobs.over() { // stopJobs may not have seen the client
		s.conclude(j, shuttingDown())
		return
	}
	resp, err := c.post(path, headers, body, &errand{response: j.id, created: j.created, background: true})
	if err != nil {
		s.conclude(j, s.brokenOff())
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		s.conclude(j, errorOf(resp))
		return
	}
	max := s.snap.Load().Config.Responses.BackgroundBytes
	begun, terminal := false, false
	// Why the stream breaks, if it does, is in the exchange's own receipt.
	_ = c.events(resp, func(name, data []byte) error {
		switch string(name) {
		case "response.completed", "response.incomplete", "response.failed":
			terminal = true
		case "response.in_progress":
			if !begun {
				begun = true
				s.advanceTo(j, data)
			}
		}
		j.add(append([]byte(nil), data...), max)
		if string(name) == "response.failed" {
			if at, ok := wire.Get(data, wire.Whole(data), "response"); ok {
				s.store1(j, "failed", at.Of(data))
			}
		}
		return nil
	})
	if !terminal {
		s.conclude(j, s.brokenOff())
	}
}

// brokenOff is why a response ended that nobody has told the end of.
func (s *Server) brokenOff() *wire.Error {
	if s.jobs.over() {
		return shuttingDown()
	}
	return &wire.Error{Type: "server_error", Code: "server_error", Message: "the response was broken off"}
}

// add keeps an event for those who ask for the stream.
func (j *job) add(data []byte, max int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.lost = j.lost || j.bytes+len(data) > max; !j.lost {
		j.events = append(j.events, data)
		j.bytes += len(data)
	}
	j.wake()
}

// advanceTo stores that a response has begun.
func (s *Server) advanceTo(j *job, event []byte) {
	if at, ok := wire.Get(event, wire.Whole(event), "response"); ok {
		s.store1(j, "in_progress", at.Of(event))
	}
}

// store1 stores a later state of a background response.
func (s *Server) store1(j *job, status string, resource []byte) {
	ctx, cancel := s.storing()
	defer cancel()
	err := s.store.Update(ctx, &store.Response{ID: j.id, Owner: j.owner, Status: status, Background: true, Resource: resource})
	if err != nil && !errors.Is(err, store.ErrFinished) && !errors.Is(err, store.ErrNotFound) {
		s.log.Error().Err(err).Str("response", j.id).Msg("a background response was not stored")
	}
}

// conclude stores the end of a response that no exchange has told: it was
// cancelled, or cause is why it failed.
func (s *Server) conclude(j *job, cause *wire.Error) {
	j.mu.Lock()
	cancelled := j.cancelled
	j.mu.Unlock()
	r, err := s.store.Get(j.owner, j.id)
	if err != nil {
		return // deleted meanwhile
	}
	status, resource := r.Status, r.Resource
	if status == "queued" || status == "in_progress" { // else its exchange has told, and only the event was lost
		status = "failed"
		if cancelled {
			status, cause = "cancelled", nil
		}
		resource = ended(resource, status, cause)
		s.store1(j, status, resource)
	}
	name := "response." + status
	data := append([]byte(`{"type":"`), name...)
	j.mu.Lock()
	n := len(j.events)
	j.mu.Unlock()
	data = append(data, `","sequence_number":`...)
	number, _ := json.Marshal(n)
	data = append(append(data, number...), `,"response":`...)
	data = append(append(data, resource...), '}')
	j.add(data, s.snap.Load().Config.Responses.BackgroundBytes)
}

// ended writes a resource with another status, and an error if there is one.
func ended(resource []byte, status string, cause *wire.Error) []byte {
	var edits wire.Edits
	var env wire.Envelope
	if wire.Scan(resource, wire.ScanLimits{Depth: 1024}, &env) != nil {
		return resource
	}
	edits.Reset(resource, &env)
	edits.Set("status", wire.AppendString(nil, status))
	if cause != nil {
		code := cause.Code
		if code == "" {
			code = "server_error"
		}
		e := append([]byte(`{"code":`), wire.AppendString(nil, code)...)
		e = append(append(e, `,"message":`...), wire.AppendString(nil, cause.Message)...)
		edits.Set("error", append(e, '}'))
	}
	return wire.Splice(nil, resource, edits.List())
}

// job returns a running background response of an owner.
func (s *Server) job(owner, id string) *job {
	s.jobs.mu.Lock()
	defer s.jobs.mu.Unlock()
	if j := s.jobs.running[id]; j != nil && j.owner == owner {
		return j
	}
	return nil
}

// cancel ends a job and waits, within ctx, until its end is stored.
func (j *job) cancel(ctx context.Context) {
	j.mu.Lock()
	j.cancelled = true
	c := j.client
	j.wake()
	j.mu.Unlock()
	if c != nil {
		c.hangUp()
	}
	for {
		j.mu.Lock()
		ended, changed := j.ended, j.changed
		j.mu.Unlock()
		if ended {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// over says that no further job begins.
func (js *jobs) over() bool {
	js.mu.Lock()
	defer js.mu.Unlock()
	return js.stopped
}

// stopWaiting lets no further job begin; those that wait for their turn fail.
// It returns all that there are.
func (s *Server) stopWaiting() []*job {
	s.jobs.mu.Lock()
	s.jobs.stopped = true
	all := make([]*job, 0, len(s.jobs.running))
	for _, j := range s.jobs.running {
		all = append(all, j)
	}
	s.jobs.mu.Unlock()
	for _, j := range all {
		j.mu.Lock()
		j.wake()
		j.mu.Unlock()
	}
	return all
}

// stopJobs cancels what runs and waits for it.
func (s *Server) stopJobs() {
	for _, j := range s.stopWaiting() {
		j.mu.Lock()
		c := j.client
		j.mu.Unlock()
		if c != nil {
			c.hangUp()
		}
	}
	s.jobs.all.Wait()
}

// storeWait bounds how long a write to the store may be waited for.
const storeWait = 30 * time.Second

func (s *Server) storing() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), storeWait)
}
