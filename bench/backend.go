package bench

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/goccy/go-json"

	"nearside/upstream/sim"
)

// The backends of a run. Each is a provider of that name to the proxy, and a
// listener of its own to the bare relay.
const (
	backendQuick  = "quick"  // a short answer, whole or streamed, at once
	backendFlood  = "flood"  // a thousand tokens at once
	backendPaced  = "paced"  // a token every ten milliseconds
	backendHeld   = "held"   // a token every half second
	backendFlow   = "flow"   // as paced, for those who leave
	backendSilent = "silent" // takes the request and never answers
	backendStall  = "stall"  // one token, then nothing
	backendAll    = "all"    // several of the above, by the names of its models
)

// modelStream is a model of backendAll: a short stream with time between its tokens.
const modelStream = "stream"

// shared are the models of backendAll, which stands behind proxies that have one
// backend. Its tests are those that need no script.
func shared() map[string]sim.Timing {
	return map[string]sim.Timing{
		modelStream:  {Tokens: streamTokens, PerToken: streamEvery},
		backendQuick: {Tokens: quickTokens},
		backendFlood: {Tokens: floodTokens},
		backendPaced: {Tokens: pacedTokens, PerToken: pacedEvery},
		backendHeld:  {Tokens: heldTokens, PerToken: heldEvery},
	}
}

// sharedModels are their names.
func sharedModels() []string { return slices.Sorted(maps.Keys(shared())) }

const (
	quickTokens = 32
	floodTokens = 1000
	pacedTokens = 3000
	pacedEvery  = 10 * time.Millisecond
	heldTokens  = 300
	heldEvery   = 500 * time.Millisecond

	streamTokens = 12
	streamEvery  = time.Millisecond
)

// backends returns the options and script of each.
func backends() []backend {
	timed := func(t sim.Timing) sim.Options { return sim.Options{Timing: t, Keep: -1} }
	told := func(t sim.Timing) sim.Options { return sim.Options{Timing: t} } // its requests are told
	return []backend{
		{name: backendQuick, opt: timed(sim.Timing{Tokens: quickTokens})},
		{name: backendFlood, opt: timed(sim.Timing{Tokens: floodTokens})},
		{name: backendPaced, opt: timed(sim.Timing{Tokens: pacedTokens, PerToken: pacedEvery})},
		{name: backendHeld, opt: timed(sim.Timing{Tokens: heldTokens, PerToken: heldEvery})},
		{name: backendFlow, opt: told(sim.Timing{Tokens: pacedTokens, PerToken: pacedEvery})},
		{name: backendSilent, opt: told(sim.Timing{Tokens: quickTokens}), script: []sim.Step{sim.Hold()}},
		{name: backendAll, opt: sim.Options{Each: shared(), Models: sharedModels(), Mark: true, Keep: -1}},
		{name: backendStall, opt: told(sim.Timing{Tokens: quickTokens}), script: []sim.Step{sim.Begin(), sim.UpTo("content"), sim.Hold()}},
	}
}

type backend struct {
	name   string
	opt    sim.Options
	script []sim.Step
}

// note is one line that the backend's process writes.
type note struct {
	Backend string `json:"backend"`
	URL     string `json:"url,omitempty"`  // the first of each: where it listens
	N       int    `json:"n,omitempty"`    // the request that the rest is about
	Seen    bool   `json:"seen,omitempty"` // it came
	Gone    int64  `json:"gone,omitempty"` // its client left before the answer was complete: Unix nanoseconds
}

// ServeSim runs the backends until stop and tells on w, a line of JSON each,
// where they listen, and then who came and who left.
//
// The backend that proxies of others stand before listens on addr; on a free port when
// that is empty.
func ServeSim(w io.Writer, addr string, stop <-chan struct{}) error {
	var mu sync.Mutex // one line at a time
	tell := func(n note) {
		line, err := json.Marshal(n)
		if err != nil {
			return // it is made of strings and numbers
		}
		mu.Lock()
		defer mu.Unlock()
		_, _ = w.Write(append(line, '\n')) // without a reader the process is about to be ended
	}
	var wg sync.WaitGroup
	done := make(chan struct{})
	defer wg.Wait()
	defer close(done)
	for _, b := range backends() {
		s := sim.New(b.opt)
		defer s.Close()
		if b.script != nil {
			s.Push(sim.Script{Name: b.name, Steps: b.script, Times: -1})
		}
		at := ""
		if b.name == backendAll {
			at = addr
		}
		u, err := s.Start(at)
		if err != nil {
			return fmt.Errorf("backend %s: %w", b.name, err)
		}
		tell(note{Backend: b.name, URL: u})
		wg.Go(func() {
			for {
				select {
				case d := <-s.Gone():
					if d.Phase != sim.PhaseIdle {
						tell(note{Backend: b.name, N: d.Request, Gone: d.At.UnixNano()})
					}
				case r := <-s.Seen():
					tell(note{Backend: b.name, N: r.N, Seen: true})
				case <-done:
					return
				}
			}
		})
	}
	tell(note{})
	<-stop
	return nil
}
