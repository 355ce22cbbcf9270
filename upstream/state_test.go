package upstream

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nearside/breaker"
	"nearside/catalog"
	"nearside/upstream/direct"
)

// picture is a States with one near provider "p", its model "m" and what was told.
func picture(t *testing.T) (s *States, m *Model, told func() string, pass func(time.Duration)) {
	t.Helper()
	now := time.Unix(1_800_000_000, 0)
	var all []string
	s = newStates(func() time.Time { return now }, func(c StateChange) { all = append(all, c.From+">"+c.To) })
	s.apply(map[string]Config{"p": {ID: "p", Near: true}})
	provider := &catalog.Provider{ID: "p", Near: true}
	m = s.model(&catalog.Model{Provider: provider, ID: "m", Declared: true}, "")
	told = func() string {
		out := strings.Join(all, " ")
		all = nil
		return out
	}
	return s, m, told, func(d time.Duration) { now = now.Add(d) }
}

// The state of a backend is what was last found out, told once a change: what an
// attempt says stands above a look that knows less, and nothing stays for ever.
func TestStatesFollowWhatIsFoundOut(t *testing.T) {
	s, m, told, pass := picture(t)
	is := func(want, detail, changes string) {
		t.Helper()
		row := s.Rows()[0]
		if got := told(); row.State != want || !strings.Contains(row.Detail, detail) || got != changes {
			t.Fatalf("got %s (%s), told %q; want %s (%s), told %q", row.State, row.Detail, got, want, detail, changes)
		}
	}
	ready := Seen{State: StateReady}
	is(StateUnknown, "", "")
	s.Looked("p", ready, 0)
	is(StateReady, "", "unknown>ready")
	m.Hold(StateLoading, "Loading model", 0, s.now())
	is(StateLoading, "m: Loading model", "ready>loading")
	s.Looked("p", ready, 0) // a model list knows nothing of it
	is(StateLoading, "", "")
	pass(4 * time.Second)
	m.served(s.now())
	is(StateReady, "", "loading>ready")
	m.Hold(StateSwapping, "a page", 0, s.now())
	m.Hold(StateSaturated, "full", 0, s.now())
	is(StateSaturated, "full", "ready>swapping swapping>saturated")
	pass(holdStale)
	s.Looked("p", ready, 0) // nobody has asked for long
	is(StateReady, "", "saturated>ready")

	s.Said("p", StateUnreachable, "refused")
	is(StateUnreachable, "refused", "ready>unreachable")
	s.Said("p", "", "") // it said something
	is(StateReady, "", "unreachable>ready")
	s.Said("p", StateMisconfigured, "the key")
	s.Looked("p", ready, 0) // llama.cpp's list is open to all
	is(StateMisconfigured, "the key", "ready>misconfigured")
	m.served(s.now())
	is(StateReady, "", "misconfigured>ready")

	s.Looked("p", Seen{State: StateUnreachable, Detail: "late", Late: true}, 1)
	is(StateSaturated, "works", "ready>saturated")
	s.Looked("p", Seen{State: StateUnreachable, Detail: "late", Late: true}, 0)
	is(StateUnreachable, "late", "saturated>unreachable")
	s.breaker(breaker.Change{Name: "p", To: breaker.Open, Cause: breaker.CauseConnect})
	is(StateFailing, "could not be reached", "unreachable>failing")
	s.breaker(breaker.Change{Name: "p", From: breaker.Open, To: breaker.Closed})
	is(StateReady, "", "failing>ready")
	s.breaker(breaker.Change{Name: "p/m", To: breaker.Open, Cause: breaker.CauseAnswers})
	if state, _ := m.State(); state != StateFailing {
		t.Errorf("the model is %s", state)
	}
	m.Wrong(StateMisconfigured, "no such model", s.now())
	if state, why := m.State(); state != StateMisconfigured || why != "no such model" {
		t.Errorf("the model is %s (%s)", state, why)
	}
	s.apply(nil)
	if got := told(); !strings.HasSuffix(got, ">gone") || len(s.Rows()) != 0 {
		t.Errorf("told %q, %v", got, s.Rows())
	}
}

// While a model is held one exchange asks at a time, after growing whiles; content
// wakes all others at once, and what the load took is learned.
func TestOneAsksWhileAModelIsHeld(t *testing.T) {
	s, m, _, pass := picture(t)
	if turn := m.Ask(s.now()); !turn.Granted || turn.Trial {
		t.Fatalf("nothing is held: %+v", turn)
	}
	m.Hold(StateLoading, "Loading model", 0, s.now())
	first := m.Ask(s.now())
	if first.Granted || first.State != StateLoading || first.Next.Sub(s.now()) != 100*time.Millisecond {
		t.Fatalf("at once: %+v", first)
	}
	pass(100 * time.Millisecond)
	if turn := m.Ask(s.now()); !turn.Granted || !turn.Trial {
		t.Fatalf("after a while: %+v", turn)
	}
	if turn := m.Ask(s.now()); turn.Granted {
		t.Fatal("two ask at once")
	}
	m.Hold(StateLoading, "Loading model", 0, s.now()) // still
	select {
	case <-first.Changed:
	default:
		t.Fatal("who waits does not hear that the trial is over")
	}
	next := m.Ask(s.now())
	if next.Next.Sub(s.now()) != 200*time.Millisecond || !next.Since.Equal(first.Since) {
		t.Fatalf("the second while: %+v", next)
	}
	pass(1400 * time.Millisecond)
	m.Ask(s.now())
	m.Yield() // it left
	if turn := m.Ask(s.now()); !turn.Trial {
		t.Fatalf("a trial that found nothing out is nobody's turn: %+v", turn)
	}
	a := &Attempt{b: &Backend{cfg: Config{Near: true}}}
	m.begun(a, time.Millisecond, s.now())
	m.served(s.now())
	if turn := m.Ask(s.now()); !turn.Granted || turn.Trial || m.Held() {
		t.Fatalf("it is there: %+v", turn)
	}
	if m.LoadTime() != 1500*time.Millisecond {
		t.Errorf("learned a load of %v", m.LoadTime())
	}
	if left, known := m.Remaining(s.now().Add(-time.Second), s.now()); !known || left != 500*time.Millisecond {
		t.Errorf("%v left, %v", left, known)
	}
	m.Hold(StateSaturated, "full", 10*time.Second, s.now())
	if turn := m.Ask(s.now()); turn.Next.Sub(s.now()) != 10*time.Second {
		t.Errorf("what the backend asked for is not kept: %+v", turn)
	}
	m.release(s.now(), true)
	if m.LoadTime() != 1500*time.Millisecond {
		t.Errorf("a full queue is no load: %v", m.LoadTime())
	}
}

// What was said against a configuration is over when it is changed: nobody has to
// send a request to see that the key is no longer the one that was refused. A
// reload that changes nothing tells nothing.
func TestStatesForgetTheSettingsThatWereMended(t *testing.T) {
	s, m, told, _ := picture(t)
	s.Looked("p", Seen{State: StateReady}, 0)
	s.Said("p", StateMisconfigured, "check the key")
	m.Wrong(StateMisconfigured, "no such model", s.now())
	told()
	s.apply(map[string]Config{"p": {ID: "p", Near: true}})
	if state, _ := m.State(); s.Rows()[0].State != StateMisconfigured || state != StateMisconfigured {
		t.Errorf("it is %s and its model %s after the same configuration", s.Rows()[0].State, state)
	}
	s.apply(map[string]Config{"p": {ID: "p", Near: true, Key: NewSecret("another")}})
	if state, _ := m.State(); state != StateReady || told() != "misconfigured>ready" {
		t.Errorf("its model is %s after another configuration", state)
	}
	s.Said("p", StateUnreachable, "refused")
	s.apply(map[string]Config{"p": {ID: "p", Near: true}})
	if s.Rows()[0].State != StateUnreachable {
		t.Error("another key has made it reachable")
	}
}

// A poll that says that all is well while the backend goes on saying that it loads
// is believed once: else its state would flap with every poll, nobody would wait
// longer each time, and a load would be taken for as short as the time to the poll.
func TestPollsThatAreWrongAreNotBelieved(t *testing.T) {
	s, m, told, pass := picture(t)
	poll := func(p polled) {
		t.Helper()
		if p.State == StateReady {
			p.ready, p.room = map[string]bool{"m": true}, true
		}
		s.polled(due{row: m.row}, p, 0)
	}
	ready := polled{Seen: Seen{State: StateReady}}
	for _, state := range []string{StateLoading, StateSaturated} {
		poll(ready)
		told()
		since := s.now()
		m.Hold(state, "not now", 0, s.now())
		pass(time.Second)
		poll(ready)
		if m.Held() {
			t.Fatalf("%s: a poll that says that it is over is not believed", state)
		}
		for range 6 {
			m.Hold(state, "not now", 0, s.now()) // it was wrong
			pass(10 * time.Second)
			poll(ready)
		}
		if !m.Held() || !m.hold.since.Equal(since) || m.LoadTime() != 0 {
			t.Fatalf("%s: held %v since %v, want %v; learned a load of %v", state, m.Held(), m.hold.since, since, m.LoadTime())
		}
		if next := m.Ask(s.now()); next.Trial { // after whiles that grew
			m.Hold(state, "not now", 0, s.now())
		}
		if next := m.Ask(s.now()); next.Next.Sub(s.now()) != 5*time.Second {
			t.Errorf("%s: asked again after %v", state, next.Next.Sub(s.now()))
		}
		if got, want := told(), "ready>"+state+" "+state+">ready ready>"+state; got != want {
			t.Errorf("told %q, want %q", got, want)
		}
		poll(polled{Seen: Seen{State: state}}) // now it sees what is the matter
		poll(ready)
		if m.Held() {
			t.Errorf("%s: a poll that saw it begin and end is not believed", state)
		}
		m.served(s.now())
		if m.due.Load() {
			t.Errorf("%s: content proves nothing", state)
		}
		m.load.Store(0)
	}
}

// Requests that were under way when the first of them heard that the model loads
// are no further tries: they do not make the others wait longer.
func TestRequestsAtOnceAreOneTry(t *testing.T) {
	s, m, _, _ := picture(t)
	for range 8 {
		m.Hold(StateLoading, "Loading model", 0, s.now())
	}
	if turn := m.Ask(s.now()); turn.Next.Sub(s.now()) != 100*time.Millisecond {
		t.Errorf("asked again after %v", turn.Next.Sub(s.now()))
	}
}

// Each kind of server is asked what it can tell, as it was recorded or as its
// source has it.
func TestPollsAskWhatEachServerCanTell(t *testing.T) {
	const list = `{"object":"list","data":[{"id":"m","object":"model"}]}`
	f := func(kind catalog.Kind, held string, pages map[string]string, state string, ready, room bool) {
		t.Helper()
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			text, ok := pages[r.URL.Path]
			switch {
			case !ok:
				http.NotFound(w, r)
			case strings.HasPrefix(text, "503 "):
				w.WriteHeader(503)
				fmt.Fprint(w, text[4:])
			default:
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprint(w, text)
			}
		}))
		defer srv.Close()
		p := ask(context.Background(), due{cfg: Config{ID: "p", BaseURL: srv.URL + "/v1", Near: true}, kind: kind, held: map[string]string{"m": held}}, Dialer{})
		if p.State != state || p.ready["m"] != ready || p.room != room {
			t.Errorf("%s, %s: got %+v, want %s, ready %v, room %v", kind, held, p, state, ready, room)
		}
	}
	f(catalog.KindLlamaCPP, StateLoading, map[string]string{"/health": `503 {"error":{"message":"Loading model","type":"unavailable_error","code":503}}`}, StateLoading, false, false)
	f(catalog.KindLlamaCPP, StateLoading, map[string]string{"/health": `{"status":"ok"}`, "/v1/models": list}, StateReady, true, false)
	f(catalog.KindLlamaCPP, StateSaturated, map[string]string{"/health": `{"status":"ok"}`, "/v1/models": list, "/slots": `[{"id":0,"is_processing":true},{"id":1,"is_processing":false}]`}, StateReady, true, true)
	f(catalog.KindLlamaCPP, StateSaturated, map[string]string{"/health": `{"status":"ok"}`, "/v1/models": list, "/slots": `[{"id":0,"is_processing":true}]`}, StateSaturated, true, false)
	f(catalog.KindLlamaCPP, StateLoading, map[string]string{"/health": `{"status":"ok"}`, "/v1/models": `{"data":[{"id":"m","status":{"value":"loading"}},{"id":"n","status":{"value":"loaded"}}]}`}, StateReady, false, false)
	f(catalog.KindOllama, StateLoading, map[string]string{"/v1/models": list, "/api/ps": `{"models":[]}`}, StateReady, false, false)
	f(catalog.KindOllama, StateLoading, map[string]string{"/v1/models": list, "/api/ps": `{"models":[{"name":"m"}]}`}, StateReady, true, false)
	f(catalog.KindLMStudio, StateSwapping, map[string]string{"/v1/models": list, "/api/v0/models": `{"data":[{"id":"m","state":"not-loaded"},{"id":"n","state":"loaded"}]}`}, StateReady, false, false)
	f(catalog.KindLMStudio, StateSwapping, map[string]string{"/v1/models": list, "/api/v0/models": `{"data":[{"id":"m","state":"loaded"}]}`}, StateReady, true, false)
	f(catalog.KindLMStudio, StateSwapping, map[string]string{"/v1/models": list, "/api/v0/models": `{"data":[{"id":"m","state":"not-loaded"}]}`}, StateAsleep, false, false)
	f(catalog.KindMLX, StateLoading, map[string]string{"/v1/models": list}, StateReady, false, false)
	f(catalog.KindVLLM, StateSaturated, map[string]string{"/health": "", "/v1/models": list, "/metrics": "# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting{model_name=\"m\"} 3.0\nvllm:num_requests_waiting_by_reason{reason=\"capacity\"} 9.0\n"}, StateSaturated, false, false)
	f(catalog.KindVLLM, StateSaturated, map[string]string{"/health": "", "/v1/models": list, "/metrics": "vllm:num_requests_waiting{model_name=\"m\"} 0.0\n"}, StateReady, false, true)
	f(catalog.KindVLLM, StateSaturated, map[string]string{"/health": "503 "}, StateFailing, false, false)
	f(catalog.KindUnknown, StateLoading, map[string]string{"/v1/models": "503 the model is loading"}, StateLoading, false, false)
}

// A backend that is away is asked again until it is back, which closes the breaker
// that its refused connections opened, without a request having to try.
func TestPollNoticesThatABackendIsBack(t *testing.T) {
	var up atomic.Bool
	asked := make(chan struct{}, 1024)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		if !up.Load() {
			conn, _, _ := w.(http.Hijacker).Hijack()
			conn.Close()
			return
		}
		fmt.Fprint(w, `{"object":"list","data":[{"id":"m"}]}`)
	}))
	defer srv.Close()
	changes := make(chan StateChange, 16)
	pool := NewPool(Options{State: func(c StateChange) { changes <- c }})
	cfg := Config{ID: "p", BaseURL: srv.URL + "/v1", Near: true, Breaker: breaker.Config{ConsecutiveConnect: 1, OpenFor: time.Hour, OpenMax: time.Hour}, States: StateBounds{First: time.Millisecond, Max: 2 * time.Millisecond}}
	pool.Apply([]Config{cfg})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { pool.Run(ctx); close(done) }()
	defer func() { cancel(); <-done }()
	m := &catalog.Model{Provider: &catalog.Provider{ID: "p", Near: true, BaseURL: cfg.BaseURL}, BaseURL: cfg.BaseURL, ID: "m", Declared: true}
	_, provider := pool.Breakers(m)
	var ticket breaker.Ticket
	if err := provider.Admit(&ticket); err != nil {
		t.Fatal(err)
	}
	ticket.Settle(breaker.BadConnect)
	if c := <-changes; c.To != StateFailing {
		t.Fatalf("got %+v", c)
	}
	for range 3 {
		<-asked
	}
	up.Store(true)
	if c := <-changes; c.To != StateReady {
		t.Fatalf("got %+v", c)
	}
	if st := provider.Peek(); st.State != breaker.Closed {
		t.Errorf("its breaker is %v", st.State)
	}
}

// One of several endpoints that is away is not the provider's state: the others
// serve. One that is drained serves nobody, and speaks for none.
func TestEndpointsAreOneStateTogether(t *testing.T) {
	s, _, told, _ := picture(t)
	s.apply(map[string]Config{"p": {ID: "p", Near: true, Endpoints: []EndpointConfig{{Name: "left"}, {Name: "right"}, {Name: "old", Drain: true}}}})
	s.Looked("p", Seen{State: StateReady}, 0)
	turn := func(name string, to breaker.State, want, changes string) {
		t.Helper()
		s.breaker(breaker.Change{Name: name, To: to, Cause: breaker.CauseConnect})
		if state, _ := s.Of("p"); state != want || told() != changes {
			t.Errorf("%s is %v: the provider is %s, want %s", name, to, state, want)
		}
	}
	told()
	turn("p@left", breaker.Open, StateReady, "")
	turn("p@right", breaker.Open, StateFailing, "ready>failing")
	turn("p@old", breaker.Open, StateFailing, "")
	turn("p@left", breaker.Closed, StateReady, "failing>ready")
}

// A poll asks those endpoints only that requests go to.
func TestPollPassesDrainedEndpoints(t *testing.T) {
	dead := make(chan struct{}, 1024)
	away := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		dead <- struct{}{}
		conn, _, _ := w.(http.Hijacker).Hijack()
		conn.Close()
	}))
	defer away.Close()
	asked := make(chan struct{}, 1024)
	drained := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		fmt.Fprint(w, `{"object":"list","data":[{"id":"m"}]}`)
	}))
	defer drained.Close()
	pool := NewPool(Options{})
	pool.Apply([]Config{{ID: "p", BaseURL: away.URL + "/v1", Near: true, States: StateBounds{First: time.Millisecond, Max: 2 * time.Millisecond},
		Endpoints: []EndpointConfig{{Name: "old", URL: drained.URL + "/v1", Drain: true}, {Name: "left", URL: away.URL + "/v1", Weight: 1}}}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { pool.Run(ctx); close(done) }()
	defer func() { cancel(); <-done }()
	pool.States().Looked("p", Seen{State: StateUnreachable}, 0)
	for range 5 {
		select {
		case <-dead:
		case <-asked:
			t.Fatal("the drained endpoint was asked")
		}
	}
	if state, _ := pool.States().Of("p"); state == StateReady {
		t.Error("the provider is ready, and nothing answers")
	}
}

// What is under way at a backend is counted from the start of an attempt to its
// end, whatever became of it.
func TestAttemptsUnderWayAreCounted(t *testing.T) {
	pool := NewPool(Options{})
	cfg := Config{ID: "p", BaseURL: "http://127.0.0.1:1/v1", Near: true, Deadlines: DefaultDeadlines(true), Limits: DefaultLimits(true)}
	pool.Apply([]Config{cfg})
	m := &catalog.Model{Provider: &catalog.Provider{ID: "p"}, BaseURL: cfg.BaseURL, ID: "m"}
	b, err := pool.Backend(m)
	if err != nil {
		t.Fatal(err)
	}
	var one, two Attempt
	one.Start(b, Request{Path: "/x"}, idleWaiter{})
	two.Start(b, Request{Path: "/x"}, idleWaiter{})
	if b.InFlight() != 2 || pool.Working("p") != 0 { // nobody has taken them yet
		t.Errorf("%d under way, and %d worked on", b.InFlight(), pool.Working("p"))
	}
	pipe, _ := net.Pipe()
	defer pipe.Close()
	three := Attempt{b: b, unconnected: true}
	b.busy.Add(1 + unconnected)
	three.attach(&conn{raw: pipe, Conn: direct.Of(pipe)})
	if b.InFlight() != 3 || pool.Working("p") != 1 || pool.Working("q") != 0 {
		t.Errorf("%d under way, and %d worked on", b.InFlight(), pool.Working("p"))
	}
	b.busy.Add(-1)
	one.Close()
	one.Close()
	if err := two.ReadHead(); err == nil {
		t.Error("something listens on port 1")
	}
	two.Close()
	if b.InFlight() != 0 {
		t.Errorf("%d under way after the end", b.InFlight())
	}
}

// Ids that nobody lists are remembered within a bound.
func TestPassedModelsAreBounded(t *testing.T) {
	s, _, _, _ := picture(t)
	p := &catalog.Provider{ID: "p", Near: true}
	for i := range 2 * modelsMax {
		m := s.model(&catalog.Model{Provider: p, ID: fmt.Sprint("made-up-", i)}, "")
		m.served(s.now())
	}
	if len(s.models) != modelsMax+1 {
		t.Errorf("%d models are remembered, want %d and the listed one", len(s.models), modelsMax)
	}
	s.Listed(func(_, _, id string) bool { return id == "m" })
	if s.passed != modelsMax {
		t.Errorf("%d passed", s.passed)
	}
}
