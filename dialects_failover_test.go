package main

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"nearside/upstream/sim"
)

// chain is a proxy whose default chain is a backend of one dialect that the
// script is for, then a good one of another dialect.
func chain(t *testing.T, near, far string, sc sim.Script, settings string) (*running, *sim.Server, *sim.Server) {
	t.Helper()
	var providers []string
	var sims [2]*sim.Server
	for i, dialect := range []string{near, far} {
		opt, key := sim.Options{}, ""
		if dialect == "messages" {
			opt.Profile, key = sim.Anthropic, `apiKey: "sk-secret-test",`
		}
		s, url := simPair(t, opt)
		sims[i] = s
		p := provider([]string{"near", "far"}[i], url, apiOf(dialect))
		providers = append(providers, strings.Replace(p, "models:", key+" models:", 1))
	}
	sc.Times = -1
	sims[0].Push(sc)
	return start(t, configOf(settings, providers...)), sims[0], sims[1]
}

// A chain may cross dialects: where the near backend fails before its first
// content, the far one answers, in the client's dialect, as if it had been asked
// alone.
func TestFailoverCrossesDialects(t *testing.T) {
	for _, near := range wireDialects {
		for _, far := range wireDialects {
			if near.name == far.name {
				continue
			}
			t.Run(near.name+" then "+far.name, func(t *testing.T) {
				t.Parallel()
				p, first, _ := chain(t, near.name, far.name, sim.Script{}, `providers: {near: {breaker: {disabled: true}}}`)
				for name, sc := range map[string]sim.Script{
					"refused":    sim.Status(500, "out of memory"),
					"hung up":    {Steps: []sim.Step{sim.Close()}},
					"error":      sim.ErrorAfter("", "out of memory"),
					"after role": sim.ErrorAfter("role", "out of memory"),
					"cut":        sim.Cut("role"),
				} {
					for _, client := range wireDialects {
						for _, stream := range []bool{false, true} {
							if !stream && (name == "cut" || name == "after role") {
								continue // a cut answer is no different from a hung up one
							}
							first.Clear()
							sc.Times = -1
							first.Push(sc)
							got := p.post(client.path, question{model: "default", user: "hello there", system: "be brief", stream: stream}.in(client.name))
							a := got.answered(t, client.name, stream)
							if a.model != "far/m" || !strings.HasSuffix(a.text, ": hello there") || a.finish != "stop" || a.input == 0 {
								t.Errorf("%s, %s, stream %v: got %s\n%s", name, client.name, stream, a.same(), got.body)
							}
							if !strings.HasPrefix(got.header.Get("X-Nearside-Attempts"), "near/m=") || got.header.Get("X-Nearside-Model") != "far/m" {
								t.Errorf("%s, %s, stream %v: headers %v", name, client.name, stream, got.header)
							}
						}
					}
				}
			})
		}
	}
}

// Heartbeats commit to nothing: after some of them another dialect's backend
// answers in the same stream, under the id that the client was told.
func TestHeldStreamsFailOverAcrossDialects(t *testing.T) {
	for _, near := range wireDialects {
		for _, far := range wireDialects {
			if near.name == far.name {
				continue
			}
			for name, sc := range map[string]sim.Script{"silent": sim.Silent(), "silent after its role": sim.Stall("role")} {
				t.Run(fmt.Sprintf("%s %s, %s", near.name, name, far.name), func(t *testing.T) {
					t.Parallel()
					p, _, _ := chain(t, near.name, far.name, sc, soon)
					for _, client := range wireDialects {
						got := p.post(client.path, question{model: "default", user: "hello there", stream: true}.in(client.name))
						a := got.held(t, client.name)
						if !strings.HasSuffix(a.text, ": hello there") || a.finish != "stop" {
							t.Errorf("got %s\n%s", a.same(), got.body)
						}
						if !strings.Contains(got.body, `"nearside":{`) || !strings.Contains(got.body, "near/m=") {
							t.Errorf("no late facts\n%s", got.body)
						}
					}
				})
			}
		}
	}
}

// held reads a good stream that began with heartbeats.
func (p reply) held(t *testing.T, dialect string) answered {
	t.Helper()
	beats := 0
	for _, f := range p.frames(t) {
		switch dialect {
		case "chat":
			for _, c := range list(f.v["choices"]) {
				if len(sub(c["delta"])) == 0 && c["finish_reason"] == nil {
					beats++
				}
			}
		case "responses":
			if f.name == "response.in_progress" {
				beats++
			}
		case "messages":
			if f.name == "ping" {
				beats++
			}
		}
	}
	if beats < 2 {
		t.Errorf("%d heartbeats\n%s", beats, p.body)
	}
	return p.answered(t, dialect, true)
}

// After heartbeats the status is gone: when all have failed the client hears the
// error event of its dialect.
func TestHeldStreamsFailInTheClientsDialect(t *testing.T) {
	for _, client := range wireDialects {
		t.Run(client.name, func(t *testing.T) {
			t.Parallel()
			p, _, far := chain(t, "chat", "messages", sim.Silent(), soon)
			far.Push(sim.Script{Times: -1, Steps: []sim.Step{sim.Fail(500, "This backend is out of memory")}})
			got := p.post(client.path, question{model: "default", user: "hello there", stream: true}.in(client.name))
			got.broken(t, client.name, "This")
			if !strings.Contains(got.body, "out of memory") {
				t.Errorf("the reason is lost\n%s", got.body)
			}
		})
	}
}

// A client that leaves in the middle of a translated stream takes the backend's
// work with it.
func TestDepartureFromATranslatedStreamReachesTheBackend(t *testing.T) {
	n := startNine(t, sim.Options{}, quietBreakers)
	n.pairs(t, func(t *testing.T, client, backend string) {
		s := n.sims[backend]
		s.Clear()
		s.Push(sim.Stall("content"))
		req, err := http.NewRequest("POST", n.base+pathOf(client), strings.NewReader(question{model: n.refs[backend], user: "hello there", stream: true}.in(client)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		r := bufio.NewReader(resp.Body)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatalf("the stream ended: %v", err)
			}
			if strings.Contains(line, "This") {
				break
			}
		}
		resp.Body.Close()
		late := time.After(patience)
		for left := false; !left; {
			select {
			case d := <-s.Gone():
				left = d.Phase == sim.PhaseBody // others were idle
			case <-late:
				t.Fatal("the backend was not left")
			}
		}
		if got := n.receipt(reply{header: resp.Header}); fmt.Sprint(got["status"]) != "499" {
			t.Errorf("noted %v", got)
		}
	})
}
