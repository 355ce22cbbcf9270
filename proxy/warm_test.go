package proxy

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"nearside/catalog"
	"nearside/upstream"
	"nearside/upstream/sim"
)

// warmServer is a proxy that keeps p0/m warm, before a simulated backend which has
// to load its models and does what was pushed first.
func warmServer(t *testing.T, profile sim.Profile, warm Warm, does []sim.Script, more ...string) (*Server, *sim.Server, string) {
	t.Helper()
	backend := sim.New(sim.Options{Profile: profile, Models: []string{"m"}, Reply: "from near", Timing: sim.Timing{Load: time.Millisecond}})
	backend.Push(does...)
	url, err := backend.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { backend.Close() })
	kinds := map[sim.Profile]catalog.Kind{sim.Ollama: catalog.KindOllama, sim.LMStudio: catalog.KindLMStudio, sim.VLLM: catalog.KindVLLM}
	s, base := testServer(t, func(cfg *Config, all []upstream.Config) {
		all[0].Kind = kinds[profile]
		all[0].States = upstream.StateBounds{First: time.Millisecond, Max: 2 * time.Millisecond}
		cfg.Warm = map[string]Warm{"p0/m": warm}
	}, append([]string{url + "/v1"}, more...)...)
	return s, backend, base
}

func often(w Warm) Warm {
	w.Every, w.Load = 2*time.Millisecond, time.Minute
	return w
}

// nearToo makes all providers near ones.
func nearToo(s *Server) {
	was := s.Snapshot()
	var providers []*catalog.Provider
	for _, p := range was.Catalog.Providers {
		q := *p
		q.Near, q.Models = true, nil
		for _, m := range p.Models {
			n := *m
			n.Provider = &q
			q.Models = append(q.Models, &n)
		}
		providers = append(providers, &q)
	}
	s.Apply(&Snapshot{Config: was.Config, Backends: was.Backends, States: was.States, Catalog: catalog.New(providers, nil, was.Catalog.Chains)})
}

// gets waits for the model to be in a state.
func gets(t *testing.T, s *Server, ref, want string) *StatusWarm {
	t.Helper()
	eventually(t, ref+" is "+want, func() bool { return s.warm.status(ref).State == want })
	return s.warm.status(ref)
}

// asked returns the bodies of requests for a path.
func asked(b *sim.Server, path string) (all []string) {
	for _, r := range b.Requests() {
		if r.Method == http.MethodPost && r.Path == path {
			all = append(all, string(r.Body))
		}
	}
	return all
}

// The first person of the day does not wait for the load: the model is there when
// the proxy has started, in each software's own way, and everything shows it.
func TestModelsAreLoadedAtTheStart(t *testing.T) {
	f := func(profile sim.Profile, path, want string) {
		t.Run(string(profile), func(t *testing.T) {
			t.Parallel()
			may := make(chan struct{})
			s, backend, base := warmServer(t, profile, often(Warm{Start: true, Keep: time.Hour}), []sim.Script{{Path: path, Steps: []sim.Step{sim.Until(may), sim.Answer()}}})
			eventually(t, "it is being loaded", func() bool { return len(asked(backend, path)) == 1 })
			gets(t, s, "p0/m", "loading")
			becomes(t, s, upstream.StateLoading)
			close(may)
			w := gets(t, s, "p0/m", "warm")
			if left := time.Until(w.Until); left < 50*time.Minute || left > time.Hour {
				t.Errorf("it is wanted for %v, want an hour", left)
			}
			becomes(t, s, upstream.StateReady)
			if body := asked(backend, path)[0]; !strings.Contains(body, want) {
				t.Errorf("it was sent %s, want %s", body, want)
			}
			if st := s.Status().Targets[0]; st.Warm == nil || st.Warm.State != "warm" || !strings.HasPrefix(st.Warm.Text(time.Now()), "warm for ") {
				t.Errorf("the status says %+v", st.Warm)
			}
			if s.States()[0].Models[0].LoadSeconds <= 0 {
				t.Error("how long the load took is not learned")
			}
			var m bytes.Buffer
			s.settled()
			if err := s.meter.Write(&m); err != nil || !strings.Contains(m.String(), `nearside_warm_model{model="p0/m",state="warm"} 1`) || !strings.Contains(m.String(), `nearside_warm_loads_total{model="p0/m",outcome="loaded"} 1`) {
				t.Errorf("the metrics do not tell it (%v)", err)
			}
			if status, h, _ := post(t, base+"/v1/chat/completions", chatBody); status != 200 || h.Get("X-Nearside-Attempts") != "p0/m=ok" {
				t.Errorf("got %d, attempts %q", status, h.Get("X-Nearside-Attempts"))
			}
		})
	}
	f(sim.Ollama, "/api/generate", `{"model":"m","stream":false,"keep_alive":3600}`)
	f(sim.LMStudio, "/api/v1/models/load", `{"model":"m"}`)
	f(sim.MLX, "/v1/chat/completions", `"max_tokens":1}`)
}

// A server that has its model loaded is not asked for anything; an older LM Studio,
// which knows no load, gets a request that loads.
func TestLoadsAreAskedForWhereTheyMustBe(t *testing.T) {
	s, backend, _ := warmServer(t, sim.VLLM, often(Warm{Start: true}), nil)
	if w := gets(t, s, "p0/m", "warm"); !w.Until.IsZero() {
		t.Errorf("it is wanted until %v, want for ever", w.Until)
	}
	if n := posts(backend); n != 0 {
		t.Errorf("it was posted to %d times", n)
	}
	// As long as the proxy runs is not for ever: Ollama would keep it when we are gone.
	s, backend, _ = warmServer(t, sim.Ollama, Warm{Start: true, Every: 5 * time.Minute, Load: time.Minute}, nil)
	gets(t, s, "p0/m", "warm")
	if got := asked(backend, "/api/generate"); len(got) != 1 || !strings.Contains(got[0], `"keep_alive":1200`) {
		t.Errorf("it was asked %q, want to be kept for a while longer than until it is looked after again", got)
	}
	s, backend, _ = warmServer(t, sim.LMStudio, often(Warm{Start: true, Keep: 90 * time.Second}), []sim.Script{{Path: "/api/v1/models/load", Times: -1,
		Steps: []sim.Step{sim.Reply(200, `{"error":"Unexpected endpoint or method. (POST /api/v1/models/load)"}`)}}})
	gets(t, s, "p0/m", "warm")
	if got := asked(backend, "/v1/chat/completions"); len(got) != 1 || !strings.Contains(got[0], `"ttl":90`) {
		t.Errorf("it was asked %q, want one request with its ttl", got)
	}
}

// While a model is being loaded ahead, a request for it waits for that load and
// does not begin another beside it.
func TestRequestsWaitForALoadAhead(t *testing.T) {
	may := make(chan struct{})
	s, backend, base := warmServer(t, sim.LMStudio, often(Warm{Start: true, Keep: time.Hour}), []sim.Script{{Path: "/api/v1/models/load", Steps: []sim.Step{sim.Until(may), sim.Answer()}}})
	becomes(t, s, upstream.StateLoading)
	s.target(s.Snapshot(), s.Snapshot().Catalog.Providers[0].Models[0]).state.Warming(time.Hour, time.Now()) // nobody tries meanwhile
	got := make(chan string)
	go func() {
		_, h, body := post(t, base+"/v1/chat/completions", chatBody)
		got <- h.Get("X-Nearside-Attempts") + " " + body
	}()
	eventually(t, "it waits", func() bool { return s.Status().Targets[0].Waiting == 1 })
	if n := len(asked(backend, "/v1/chat/completions")); n != 0 {
		t.Errorf("it was asked %d times while it loads", n)
	}
	close(may)
	if a := <-got; !strings.HasPrefix(a, "p0/m=loading, p0/m=ok ") || !strings.Contains(a, "from near") {
		t.Errorf("got %s", a)
	}
}

// A knock loads; while a request of a client runs on the same server, nothing is
// loaded beside it. When the time is over what was loaded for it is given back.
func TestKnockLoadsWhenNobodyIsServed(t *testing.T) {
	s, backend, base := warmServer(t, sim.LMStudio, often(Warm{Knock: true, Keep: 50 * time.Millisecond}), nil)
	knock := func() {
		resp, err := http.Get(base + "/v1/models")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	gets(t, s, "p0/m", "idle")
	may := make(chan struct{})
	backend.Push(sim.Script{Path: "/v1/embeddings", Steps: []sim.Step{sim.Until(may), sim.Reply(200, `{"object":"list","data":[],"model":"m"}`)}})
	served := make(chan int)
	go func() {
		status, _, _ := post(t, base+"/v1/embeddings", `{"model":"p0/m","input":"x"}`)
		served <- status
	}()
	eventually(t, "the request is there", func() bool { return len(asked(backend, "/v1/embeddings")) == 1 })
	eventually(t, "it is put off", func() bool {
		knock()
		return s.warm.status("p0/m").State == "waiting"
	})
	if n := len(asked(backend, "/api/v1/models/load")); n != 0 {
		t.Errorf("%d loads beside a request", n)
	}
	close(may)
	if status := <-served; status != 200 {
		t.Errorf("status %d", status)
	}
	eventually(t, "it is loaded", func() bool {
		if s.warm.status("p0/m").State == "idle" { // its time may be over meanwhile
			knock()
		}
		return len(asked(backend, "/api/v1/models/load")) > 0
	})
	eventually(t, "it is given back", func() bool { return len(asked(backend, "/api/v1/models/unload")) == 1 })
	gets(t, s, "p0/m", "idle")
	if body := asked(backend, "/api/v1/models/unload")[0]; body != `{"instance_id":"m"}` {
		t.Errorf("it was sent %s", body)
	}
}

// A model whose setting is taken away is not left in memory for ever, and nothing turns
// in circles for one that cannot be given back.
func TestModelsThatAreNotKeptWarmAnyMoreAreGivenBack(t *testing.T) {
	s, backend, _ := warmServer(t, sim.LMStudio, often(Warm{Start: true}), nil)
	was := s.Snapshot()
	apply := func(warm map[string]Warm) {
		cfg := was.Config
		cfg.Warm = warm
		s.Apply(&Snapshot{Config: cfg, Backends: was.Backends, States: was.States, Catalog: was.Catalog})
	}
	gets(t, s, "p0/m", "warm")
	apply(nil)
	eventually(t, "it is given back", func() bool { return len(asked(backend, "/api/v1/models/unload")) == 1 })
	eventually(t, "it is forgotten", func() bool { return s.warm.status("p0/m") == nil })

	apply(was.Config.Warm)
	gets(t, s, "p0/m", "warm")
	s.warm.mu.Lock()
	s.warm.rows["p0/m"].instances["http://elsewhere/v1"] = "m"
	s.warm.mu.Unlock()
	apply(nil)
	eventually(t, "it is forgotten", func() bool { return s.warm.status("p0/m") == nil })
}

// A request is a knock at the further models of its chain: the next one is there
// by the time that it is needed.
func TestRequestLoadsTheNextOfItsChain(t *testing.T) {
	next := sim.New(sim.Options{Profile: sim.Ollama, Models: []string{"m"}, Timing: sim.Timing{Load: time.Millisecond}})
	url, err := next.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { next.Close() })
	s, base := testServer(t, func(cfg *Config, all []upstream.Config) {
		all[1].Kind = catalog.KindOllama
		cfg.Warm = map[string]Warm{"p1/m": often(Warm{Knock: true, Keep: time.Hour})}
	}, rawBackend(t, sayHello), url+"/v1")
	nearToo(s)
	gets(t, s, "p1/m", "idle")
	if status, h, _ := post(t, base+"/v1/chat/completions", chatBody); status != 200 || h.Get("X-Nearside-Attempts") != "p0/m=ok" {
		t.Errorf("got %d, attempts %q", status, h.Get("X-Nearside-Attempts"))
	}
	gets(t, s, "p1/m", "warm")
	if n := len(asked(next, "/api/generate")); n != 1 {
		t.Errorf("%d loads, want one", n)
	}
}

// Far models are never kept warm: each token of it would be paid.
func TestFarModelsAreNotKeptWarm(t *testing.T) {
	far := sim.New(sim.Options{Models: []string{"m"}})
	url, err := far.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	s, _ := testServer(t, func(cfg *Config, _ []upstream.Config) {
		cfg.Warm = map[string]Warm{"p1/m": often(Warm{Start: true})}
	}, rawBackend(t, sayHello), url+"/v1")
	if w := gets(t, s, "p1/m", "failed"); !strings.Contains(w.Why, "far") {
		t.Errorf("it says %q", w.Why)
	}
	if n := len(far.Requests()); n != 0 {
		t.Errorf("it was asked %d times", n)
	}
}

// A load that fails is told, tried ever more rarely, and in nobody's way.
func TestLoadThatFailsIsInNobodysWay(t *testing.T) {
	s, backend, base := warmServer(t, sim.Ollama, often(Warm{Start: true}), []sim.Script{{Path: "/api/generate", Times: -1, Steps: []sim.Step{sim.Reply(500, `{"error":"model requires more system memory"}`)}}})
	if w := gets(t, s, "p0/m", "failed"); !strings.Contains(w.Why, "more system memory") {
		t.Errorf("it says %q", w.Why)
	}
	if status, h, _ := post(t, base+"/v1/chat/completions", chatBody); status != 200 || h.Get("X-Nearside-Attempts") != "p0/m=ok" {
		t.Errorf("got %d, attempts %q", status, h.Get("X-Nearside-Attempts"))
	}
	if n := len(asked(backend, "/api/generate")); n != 1 {
		t.Errorf("it was asked %d times at once", n)
	}
}

// A box that sleeps is woken for a model that is wanted.
func TestSleepingBoxIsWokenForItsModel(t *testing.T) {
	b := newSleeper(t)
	s, backend, _ := b.server(t, time.Minute, time.Minute, func(cfg *Config) {
		cfg.Warm = map[string]Warm{"p0/m": often(Warm{Start: true})}
	})
	<-b.packets
	gets(t, s, "p0/m", "waking")
	b.awake.Store(true)
	gets(t, s, "p0/m", "warm")
	_ = backend
}
