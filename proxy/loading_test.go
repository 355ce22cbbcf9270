package proxy

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"nearside/catalog"
	"nearside/upstream"
	"nearside/upstream/sim"
)

// loadingServer is a proxy before simulated backends, the first of which is as
// told; the backends are asked again what they are every few milliseconds.
func loadingServer(t *testing.T, is sim.Condition, profile sim.Profile, tune func(*Config, []upstream.Config), more ...string) (*Server, *sim.Server, string) {
	t.Helper()
	backend := sim.New(sim.Options{Profile: profile, Models: []string{"m"}, Reply: "from near"})
	backend.Be(is)
	url, err := backend.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { backend.Close() })
	s, base := testServer(t, func(cfg *Config, all []upstream.Config) {
		for i := range all {
			all[i].States = upstream.StateBounds{First: time.Millisecond, Max: 2 * time.Millisecond}
		}
		all[0].Kind = map[sim.Profile]catalog.Kind{sim.LlamaCPP: catalog.KindLlamaCPP, sim.Ollama: catalog.KindOllama, sim.LMStudio: catalog.KindLMStudio, sim.VLLM: catalog.KindVLLM, sim.SGLang: catalog.KindSGLang}[profile]
		if tune != nil {
			tune(cfg, all)
		}
	}, append([]string{url + "/v1"}, more...)...)
	return s, backend, base
}

// posts counts the completions that a backend was asked for.
func posts(b *sim.Server) (n int) {
	for _, r := range b.Requests() {
		if r.Method == http.MethodPost {
			n++
		}
	}
	return n
}

// becomes waits for the first backend to be in a state.
func becomes(t *testing.T, s *Server, want string) {
	t.Helper()
	eventually(t, "the backend is "+want, func() bool { return s.States()[0].State == want })
}

// A model that is being loaded, swapped in, or has no room is waited for and asked
// again: the client gets its answer and not an error that it would come back with.
// The breaker has nothing to do with it.
func TestTargetsThatAreNotReadyAreWaitedFor(t *testing.T) {
	f := func(is sim.Condition, profile sim.Profile, state, outcome string) {
		t.Run(string(is)+" "+string(profile), func(t *testing.T) {
			t.Parallel()
			s, backend, base := loadingServer(t, is, profile, nil)
			type answer struct {
				status int
				h      http.Header
				body   string
			}
			got := make(chan answer)
			go func() {
				status, h, body := post(t, base+"/v1/chat/completions", chatBody)
				got <- answer{status, h, body}
			}()
			becomes(t, s, state)
			listed, _ := s.Snapshot().Catalog.Lookup("p0/m")
			if e := s.entry(s.Snapshot(), nil, listed); e.Nearside.State != state || e.Nearside.Why == "" {
				t.Errorf("/v1/models shows %q (%s)", e.Nearside.State, e.Nearside.Why)
			}
			backend.Be(sim.IsReady)
			a := <-got
			if a.status != 200 || !strings.Contains(a.body, "from near") || a.h.Get("X-Nearside-Attempts") != "p0/m="+outcome+", p0/m=ok" {
				t.Errorf("got %d, attempts %q\n%s", a.status, a.h.Get("X-Nearside-Attempts"), a.body)
			}
			becomes(t, s, upstream.StateReady)
			r := s.latest(1, nil)[0]
			if w := r.Attempts[0]; w.Waited <= 0 {
				t.Errorf("the wait is not told: %+v", w)
			}
			if st := s.pool.EachBreaker(); st[0].Consecutive != 0 || st[1].Consecutive != 0 {
				t.Errorf("breakers counted it: %+v", st)
			}
		})
	}
	f(sim.IsLoading, sim.LlamaCPP, upstream.StateLoading, "loading")
	f(sim.IsLoading, sim.VLLM, upstream.StateLoading, "loading")
	f(sim.IsSwapping, sim.LMStudio, upstream.StateSwapping, "html")
	f(sim.IsFull, sim.Ollama, upstream.StateSaturated, "saturated")
	f(sim.IsFull, sim.SGLang, upstream.StateSaturated, "saturated")
}

// Of many requests for a model that is being loaded one has asked: the others
// wait for what is found out, and all are answered when it is there.
func TestWaitingRequestsDoNotStampede(t *testing.T) {
	s, backend, base := loadingServer(t, sim.IsLoading, sim.LlamaCPP, nil)
	backend.Push(sim.Script{Times: -1, Steps: []sim.Step{sim.Fail(503, "Loading model", "Retry-After: 60")}}) // nobody asks again by himself
	const many = 8
	var wg sync.WaitGroup
	ask := func() {
		wg.Go(func() {
			if status, h, body := post(t, base+"/v1/chat/completions", chatBody); status != 200 {
				t.Errorf("got %d, attempts %q\n%s", status, h.Get("X-Nearside-Attempts"), body)
			}
		})
	}
	ask()
	becomes(t, s, upstream.StateLoading)
	for range many - 1 {
		ask()
	}
	eventually(t, "all wait", func() bool { return s.underWay() == many })
	eventually(t, "the status says that all wait", func() bool { return s.Status().Targets[0].Waiting == many })
	if n := posts(backend); n != 1 {
		t.Errorf("the backend was asked %d times while it loads, want once", n)
	}
	backend.Clear()
	backend.Be(sim.IsReady)
	wg.Wait()
	if n := s.Status().Targets[0].Waiting; n != 0 {
		t.Errorf("%d still wait", n)
	}
	if n := posts(backend); n != 1+many {
		t.Errorf("the backend was asked %d times, want %d", n, 1+many)
	}
}

// Where another target is left it is tried once the wait that the policy allows is
// over, at once where the model is known to take longer, and never before.
func TestLoadingOverflowsAfterItsWait(t *testing.T) {
	far := rawBackend(t, sayHello)
	s, backend, base := loadingServer(t, sim.IsLoading, sim.LlamaCPP, func(cfg *Config, _ []upstream.Config) {
		cfg.Policy.Overflow.LoadingWait = 20 * time.Millisecond
	}, far)
	ask := func() *Receipt {
		t.Helper()
		status, h, body := post(t, base+"/v1/chat/completions", chatBody)
		if status != 200 || h.Get("X-Nearside-Attempts") != "p0/m=loading, p1/m=ok" {
			t.Fatalf("got %d, attempts %q\n%s", status, h.Get("X-Nearside-Attempts"), body)
		}
		return s.latest(1, nil)[0]
	}
	if w := ask().Attempts[0]; w.Waited < 20*time.Millisecond {
		t.Errorf("it was waited for %v, want 20ms", w.Waited)
	}
	backend.Be(sim.IsReady)
	becomes(t, s, upstream.StateReady) // and the load, of at least 20 ms, is known
	row := s.States()[0]
	if len(row.Models) != 1 || row.Models[0].LoadSeconds < 0.02 {
		t.Fatalf("no load was learned: %+v", row)
	}
	if status, h, body := post(t, base+"/v1/chat/completions", chatBody); status != 200 || h.Get("X-Nearside-Attempts") != "p0/m=ok" { // which proves it
		t.Fatalf("got %d, attempts %q\n%s", status, h.Get("X-Nearside-Attempts"), body)
	}
	backend.Be(sim.IsLoading)
	snap := *s.Snapshot()
	snap.targets.Clear()
	snap.Config.Policy.Overflow.LoadingWait = time.Millisecond
	s.Apply(&snap)
	if w := ask().Attempts[0]; w.Waited != 0 {
		t.Errorf("it was waited for %v, though a load takes longer than the wait", w.Waited)
	}
}

// Where none is left the wait has an end too, and the client hears when to come
// back; what is waited for is one entry, however often was asked.
func TestLoadingEndsWithWhenToComeBack(t *testing.T) {
	s, backend, base := loadingServer(t, sim.IsLoading, sim.VLLM, func(_ *Config, all []upstream.Config) {
		all[0].Deadlines.FirstContentCold = 50 * time.Millisecond
	})
	status, h, body := post(t, base+"/v1/chat/completions", chatBody)
	if status != 503 || !strings.Contains(body, `"model_loading"`) || h.Get("Retry-After") == "" || h.Get("X-Nearside-Attempts") != "p0/m=loading" {
		t.Errorf("got %d, retry-after %q, attempts %q\n%s", status, h.Get("Retry-After"), h.Get("X-Nearside-Attempts"), body)
	}
	r := s.latest(1, nil)[0]
	if len(r.Attempts) != 1 || r.Attempts[0].Waited < 40*time.Millisecond || r.Attempts[0].Again != posts(backend)-1 || posts(backend) < 2 {
		t.Errorf("%d posts, attempts %+v", posts(backend), r.Attempts)
	}
}

// Who waited for another's turn to ask hears when to come back as well: when the
// backend said, or when the load is likely to be over. Without it a client takes
// the failure for one that a second request would meet again.
func TestWaitsThatEndUnaskedSayWhenToComeBack(t *testing.T) {
	s, backend, base := loadingServer(t, sim.IsReady, sim.Generic, func(_ *Config, all []upstream.Config) {
		all[0].Deadlines.FirstContentCold = 20 * time.Millisecond
	})
	f := func(retry string) {
		t.Helper()
		status, h, body := post(t, base+"/v1/chat/completions", chatBody)
		if status != 503 || !strings.Contains(body, `"model_loading"`) || h.Get("Retry-After") != retry || h.Get("X-Should-Retry") != "" {
			t.Errorf("got %d, retry-after %q, x-should-retry %q; want %q\n%s", status, h.Get("Retry-After"), h.Get("X-Should-Retry"), retry, body)
		}
	}
	backend.Push(sim.Script{Times: -1, Steps: []sim.Step{sim.Fail(503, "Loading model", "Retry-After: 60")}})
	f("60")
	f("60") // it never came to ask
	if r := s.latest(1, nil)[0]; r.Attempts[0].Waited < 20*time.Millisecond || r.Own > r.Took-20*time.Millisecond {
		t.Errorf("%v of %v are our own, of which %v were waited", r.Own, r.Took, r.Attempts[0].Waited)
	}
	if n := posts(backend); n != 1 {
		t.Errorf("the backend was asked %d times, want once", n)
	}
}

// A server whose health and list know nothing of a load is waited for all the
// same: it does not change its state with every poll, and is asked ever more
// rarely.
func TestLoadsThatPollsDoNotSeeAreWaitedFor(t *testing.T) {
	s, backend, base := loadingServer(t, sim.IsReady, sim.LlamaCPP, nil)
	backend.Push(sim.Script{Times: -1, Steps: []sim.Step{sim.Fail(503, "Loading model")}})
	got := make(chan string)
	go func() {
		_, h, _ := post(t, base+"/v1/chat/completions", chatBody)
		got <- h.Get("X-Nearside-Attempts")
	}()
	polls := func() int { return len(backend.Requests()) - posts(backend) }
	eventually(t, "polls were wrong", func() bool { return polls() >= 12 }) // of three questions each; the first alone is believed
	since, asked := s.States()[0].Since, posts(backend)
	eventually(t, "it is asked on", func() bool { return posts(backend) >= asked+4 && polls() >= 24 })
	if row := s.States()[0]; row.State != upstream.StateLoading || !row.Since.Equal(since) {
		t.Errorf("it is %s since %v, and was loading since %v", row.State, row.Since, since)
	}
	backend.Clear()
	if attempts := <-got; attempts != "p0/m=loading, p0/m=ok" {
		t.Errorf("attempts %q", attempts)
	}
}

// A client that waits hears heartbeats, may leave, and is let go by a shutdown.
func TestWaitsAreLikeAttempts(t *testing.T) {
	s, backend, base := loadingServer(t, sim.IsLoading, sim.LlamaCPP, func(cfg *Config, _ []upstream.Config) {
		cfg.Beat.First, cfg.Beat.Every = 5*time.Millisecond, 5*time.Millisecond
		cfg.Client.WatchAfter = time.Millisecond
		cfg.Drain.Grace = 20 * time.Second
	})
	resp, err := http.Post(base+"/v1/chat/completions", "application/json", strings.NewReader(streamBody))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	beats, text := 0, false
	for lines.Scan() {
		switch line := lines.Text(); {
		case strings.Contains(line, `"content":"from`):
			text = true
		case !text && strings.HasPrefix(line, "data: {"):
			if beats++; beats == 3 {
				backend.Be(sim.IsReady)
			}
		}
	}
	if !text || beats < 3 {
		t.Errorf("text %v after %d heartbeats", text, beats)
	}

	backend.Be(sim.IsLoading)
	ctx, leave := context.WithCancel(context.Background())
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, base+"/v1/chat/completions", strings.NewReader(chatBody))
	req.Header.Set("Content-Type", "application/json")
	left := make(chan error, 1)
	go func() {
		_, err := http.DefaultClient.Do(req)
		left <- err
	}()
	becomes(t, s, upstream.StateLoading)
	leave()
	if err := <-left; err == nil {
		t.Error("it was answered")
	}
	eventually(t, "it is over", func() bool { return s.underWay() == 0 })
	eventually(t, "it is noted that the client left", func() bool { return s.latest(1, nil)[0].Outcome == "client_closed" })
}

// A far target that the policy does not let a load go to is none: the near one is
// waited for as if it were the last, and answers.
func TestLoadingStaysNearWhereThePolicySaysSo(t *testing.T) {
	s, backend, base := loadingServer(t, sim.IsLoading, sim.LlamaCPP, func(cfg *Config, _ []upstream.Config) {
		cfg.Policy.Overflow.Loading, cfg.Policy.Overflow.LoadingWait = false, time.Millisecond
	}, rawBackend(t, sayHello))
	got := make(chan string)
	go func() {
		_, h, _ := post(t, base+"/v1/chat/completions", chatBody)
		got <- h.Get("X-Nearside-Attempts")
	}()
	becomes(t, s, upstream.StateLoading)
	eventually(t, "it is asked again", func() bool { return posts(backend) > 1 })
	backend.Be(sim.IsReady)
	if attempts := <-got; attempts != "p0/m=loading, p0/m=ok" {
		t.Errorf("attempts %q", attempts)
	}
}
