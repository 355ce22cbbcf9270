package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nearside/upstream/sim"
)

// What is right when a backend fails so.
const (
	stands = "stands" // the answer is whole: the backend was odd, not broken
	breaks = "breaks" // content was said: an error event ends the stream
)

// fault is a row of the fault list at one backend: a name of sim.Faults or a
// script of its own, and what is right for a stream and for a whole answer:
// stands, breaks, "" where it does not apply, or else the outcomes (separated by
// |) with which the primary is left for the next target, nothing having been
// said yet.
type fault struct {
	name          string
	rows          []int
	stream, whole string
	script        func(dialect string) sim.Script // nil: the one of sim.Faults
	not           string                          // a dialect it cannot be for
	at            string                          // which provider: near, hasty (waits 300 ms for content), stalls (waits 300 ms between events)
	cools         bool                            // the target is left alone afterwards, so that it cannot be asked again at once
}

// wallFaults is the part of the fault list that a backend can be scripted to do.
var wallFaults = []fault{
	{name: "silent", rows: []int{6}, stream: "headers_timeout|first_content_timeout", whole: "headers_timeout|first_content_timeout", at: "hasty"},
	{name: "head-only", rows: []int{7}, stream: "first_content_timeout", whole: "first_content_timeout", at: "hasty"},
	{name: "stall-role", rows: []int{7}, stream: "first_content_timeout", whole: "first_content_timeout", at: "hasty"},
	{name: "keep-alives", rows: []int{7, 25}, stream: "first_content_timeout", at: "hasty", script: func(string) sim.Script {
		return scripted(sim.Begin(), sim.Body(": keepalive 1/40\n\n: keepalive 2/40\n\n"), sim.Hold())
	}},
	{name: "error-first", rows: []int{8}, stream: "error_in_answer*", whole: "error_in_answer*"},
	{name: "error-role", rows: []int{8}, stream: "error_in_answer*", whole: "truncated|connection_closed"},
	{name: "cut-role", rows: []int{9}, stream: "truncated|connection_closed", whole: "truncated|connection_closed"},
	{name: "stall", rows: []int{10}, stream: breaks, whole: "gap_timeout", at: "stalls"},
	{name: "reset-stream", rows: []int{11}, stream: breaks, whole: "connection_reset|truncated|connection_closed"},
	{name: "cut", rows: []int{12}, stream: breaks, whole: "truncated|connection_closed"},
	{name: "cut-finish", rows: []int{12, 15}, stream: stands, whole: "truncated|connection_closed"},
	{name: "long-length", rows: []int{13}, stream: stands, whole: "truncated|connection_closed"},
	{name: "short-length", rows: []int{13}, stream: stands, whole: "malformed_answer|truncated"},
	{name: "trailing", rows: []int{13}, stream: stands, whole: stands},
	{name: "eof", rows: []int{14}, stream: stands, whole: stands},
	{name: "eof-cut", rows: []int{14}, stream: breaks, whole: "truncated|malformed_answer|connection_closed"},
	{name: "no-done", rows: []int{15}, stream: stands, whole: stands},
	{name: "unfinished", rows: []int{12}, stream: breaks, whole: stands},
	{name: "no-finish", rows: []int{16}, stream: breaks, whole: stands},
	{name: "only-done", rows: []int{16}, stream: "truncated|empty_answer|error_in_answer|malformed*"},
	{name: "after-done", rows: []int{17}, stream: stands, whole: stands, not: "responses"},
	{name: "error in a 200", rows: []int{18}, stream: "error_in_answer*", whole: "error_in_answer*", script: func(string) sim.Script {
		return scripted(sim.Reply(200, `{"error":{"message":"out of memory","type":"server_error","param":null,"code":null}}`))
	}},
	{name: "error", rows: []int{8}, stream: breaks, whole: "truncated|connection_closed"},
	{name: "empty", rows: []int{18}, stream: "truncated|empty_answer|malformed_answer|wrong_content_type", whole: "truncated|empty_answer|malformed_answer"},
	{name: "busy", rows: []int{19}, stream: "status_429", whole: "status_429", cools: true},
	{name: "busy-bare", rows: []int{19}, stream: "status_429", whole: "status_429", cools: true},
	{name: "busy-ms", rows: []int{19}, stream: "status_429", whole: "status_429", cools: true},
	{name: "busy-date", rows: []int{19}, stream: "status_429", whole: "status_429", cools: true},
	{name: "busy-absurd", rows: []int{19}, stream: "status_429", whole: "status_429", cools: true},
	{name: "busy-negative", rows: []int{19}, stream: "status_429", whole: "status_429", cools: true},
	{name: "overloaded", rows: []int{19}, stream: "status_529|overloaded", whole: "status_529|overloaded", cools: true},
	{name: "loading", rows: []int{20}, stream: "loading", whole: "loading", cools: true},
	{name: "page-500", rows: []int{20, 21}, stream: "html|loading|swapping", whole: "html|loading|swapping", cools: true},
	{name: "page", rows: []int{21}, stream: "html", whole: "html"},
	{name: "bad-gateway", rows: []int{21}, stream: "html|loading|swapping", whole: "html|loading|swapping", cools: true},
	{name: "no-type", rows: []int{22}, stream: stands, whole: stands},
	{name: "gzip", rows: []int{23}, stream: "malformed_answer", whole: "malformed_answer"}, // not asked for, and not undone
	{name: "unknown coding", rows: []int{23}, stream: "malformed_answer*", whole: "malformed_answer*", script: func(string) sim.Script {
		return scripted(sim.Begin("Content-Encoding: rot13"), sim.Rest(), sim.End())
	}},
	{name: "bomb", rows: []int{24}, whole: "answer_too_large|malformed_answer"},
	{name: "crlf", rows: []int{25}, stream: stands, whole: stands},
	{name: "cr", rows: []int{25}, stream: stands, whole: stands},
	{name: "split", rows: []int{25, 26}, stream: stands, whole: stands},
	{name: "comments", rows: []int{25}, stream: stands, whole: stands},
	{name: "prelude", rows: []int{25}, stream: stands},
	{name: "huge-event", rows: []int{27}, stream: "event_too_long|answer_too_large", not: "responses"}, // whose simulated one is a chunk of chat
	{name: "endless-line", rows: []int{27}, stream: "event_too_long|answer_too_large"},
	{name: "bad-event", rows: []int{28}, stream: breaks, not: "responses"},
	{name: "bad-json", rows: []int{28}, stream: "malformed*|wrong_content_type|truncated", whole: "malformed_answer"},
	{name: "malformed event first", rows: []int{28}, stream: "malformed_chunk", script: func(d string) sim.Script {
		torn := sim.Data(`{"id":"x","choices":[`)
		if d != "chat" {
			torn = sim.Event("message_start", `{"type":"message_start","mess`)
		}
		return scripted(sim.Begin(), torn, sim.Rest(), sim.End())
	}},
	{name: "no-usage", rows: []int{30}, stream: stands, whole: stands},
	{name: "flood", rows: []int{31}, stream: stands, not: "responses"},
	{name: "informational", rows: []int{32}, stream: stands, whole: stands},
	{name: "switching", rows: []int{32}, stream: "malformed_answer", whole: "malformed_answer"},
	{name: "huge-head", rows: []int{33}, stream: "malformed_answer|answer_too_large", whole: "malformed_answer|answer_too_large"},
	{name: "many-headers", rows: []int{33}, stream: stands, whole: stands}, // within 64 KiB
	{name: "redirect", rows: []int{34}, stream: "redirect", whole: "redirect"},
	{name: "moved", rows: []int{34}, stream: "redirect", whole: "redirect"},
	{name: "reset", rows: []int{6}, stream: "connection_reset|connection_closed", whole: "connection_reset|connection_closed"},
	{name: "hang-up", rows: []int{6}, stream: "connection_closed", whole: "connection_closed"},
	{name: "half-head", rows: []int{6}, stream: "connection_closed|truncated", whole: "connection_closed|truncated"},
	{name: "garbage", rows: []int{6}, stream: "malformed_answer", whole: "malformed_answer"},
	{name: "broken", rows: []int{18}, stream: "status_500|server_error", whole: "status_500|server_error"},
	{name: "missing", rows: []int{18}, stream: "status_404|model_not_found|model_missing", whole: "status_404|model_not_found|model_missing", cools: true},
}

// The near side of the matrix says this, with letters of more than a byte.
var matrixText = "Mauern: äöü 壁 🧱. " + wallText

const matrixFar = "The far side answers in words of its own."

// faultCell is a fault for a client and a backend of two dialects.
type faultCell struct {
	f       *fault
	client  string
	backend string
	stream  bool
	both    bool // the next target fails in the same way

	id       string
	near     *wallModel
	next     *wallModel
	ref, far string
	asked    int // requests that were sent
	faults   []string
}

func (c *faultCell) want() string {
	if c.stream {
		return c.f.stream
	}
	return c.f.whole
}

func (c *faultCell) wrong(format string, args ...any) {
	c.faults = append(c.faults, fmt.Sprintf(format, args...))
}

// faultRig is the proxy before which all cells run.
type faultRig struct {
	*running
	sides map[string]*wallSide // "near-chat", "far-chat", …
}

// startFaults starts it. Breakers open at the first failure and for a moment
// only, so that every cell is also one of a breaker that lets one request try.
func startFaults(t *testing.T, cells []*faultCell, more ...string) *faultRig {
	t.Helper()
	rig := &faultRig{sides: map[string]*wallSide{}}
	var providers, settings []string
	for _, d := range wireDialects {
		near, far := wallOptions(d.name), wallOptions(d.name)
		near.Reply, far.Reply = matrixText, matrixFar
		rig.sides["near-"+d.name], rig.sides["far-"+d.name] = newWallSide(t, near), newWallSide(t, far)
		models := []string{"ok"}
		for _, c := range cells {
			if c.backend == d.name {
				models = append(models, c.id, c.id+"-b")
			}
		}
		const always = `breaker: {consecutive: 1, ratio: 0, openForMs: 20, openMaxMs: 20, jitter: 0}, limits: {eventBytes: 1000000, answerBytes: 4000000, idleMs: 200}`
		for _, p := range []struct{ id, side, settings string }{
			{"near", "near", always + `, deadlines: {firstContentColdMs: 1, queueMs: 1}`}, // nobody waits for a model that loads for ever
			{"hasty", "near", always + `, deadlines: {headersMs: 300, firstContentMs: 300}`},
			{"stalls", "near", always + `, deadlines: {gapMs: 300}`},
			{"far", "far", `near: false, ` + always},
		} {
			providers = append(providers, wallProvider(p.id+"-"+d.name, rig.sides[p.side+"-"+d.name].url, d.name, "", models))
			settings = append(settings, fmt.Sprintf(`%q: {%s}`, p.id+"-"+d.name, p.settings))
		}
	}
	for i, c := range cells {
		at := c.f.at
		if at == "" {
			at = "near"
		}
		at += "-" + c.backend
		side := rig.sides["near-"+c.backend]
		c.ref, c.near = at+"/"+cells[i].id, side.model(c.id)
		c.far, c.next = "far-"+c.backend+"/"+c.id, rig.sides["far-"+c.backend].model(c.id)
		if c.both {
			c.far, c.next = at+"/"+c.id+"-b", side.model(c.id+"-b")
		}
	}
	rig.running = start(t, fmt.Sprintf(`{
  models: {mode: "replace", providers: {%s}},
  agents: {defaults: {model: {primary: "near-chat/ok"}}},
  proxy: {discovery: {enabled: false}, exchangesKept: 4096, fallback: {retryMin: 1000}, policy: {overflow: {loadingWaitMs: 1, queueWaitMs: 1}},
    providers: {%s}%s},
}`, strings.Join(providers, ",\n"), strings.Join(settings, ",\n"), strings.Join(append([]string{""}, more...), ", ")))
	return rig
}

// Each fault of the list, for clients of each dialect, streamed and whole, with a
// target behind it and with one that fails likewise; and where an answer may be
// mistaken for whole, for each pair of dialects. After each: one end, one line,
// the breaker's ticket given back; after all: nothing left.
func TestWallFaults(t *testing.T) {
	t.Parallel()
	var cells []*faultCell
	for i := range wallFaults {
		f := &wallFaults[i]
		for _, client := range wireDialects {
			for _, backend := range wireDialects {
				if client.name != backend.name && !mistakable[f.name] || f.not == backend.name {
					continue
				}
				for _, stream := range []bool{true, false} {
					for _, both := range []bool{false, true} {
						c := &faultCell{f: f, client: client.name, backend: backend.name, stream: stream, both: both}
						if c.want() == "" || both && (c.want() == stands || c.want() == breaks) {
							continue
						}
						c.id = fmt.Sprintf("c%d", len(cells))
						cells = append(cells, c)
					}
				}
			}
		}
	}
	rig := startFaults(t, cells)
	base := rig.quietly(t)
	work := make(chan *faultCell)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for c := range work {
				c.play(rig)
			}
		})
	}
	for _, c := range cells {
		work <- c
	}
	close(work)
	all.Wait()
	rig.settled(t, base)
	lines := rig.exchangeLines()
	for _, c := range cells {
		if n := lines[c.ref]; n != c.asked {
			c.wrong("%d lines for %d exchanges", n, c.asked)
		}
		if len(c.faults) > 0 {
			t.Errorf("%s, %s to %s, stream %v, both %v:\n  %s", c.f.name, c.client, c.backend, c.stream, c.both, strings.Join(c.faults, "\n  "))
		}
	}
	rig.keepsSecrets(t)
	t.Logf("%d cells of %d faults", len(cells), len(wallFaults))
}

// mistakable are the faults of answers that could be taken for whole ones: they
// are played for each pair of dialects.
var mistakable = map[string]bool{"cut": true, "eof-cut": true, "unfinished": true, "no-finish": true, "only-done": true, "bad-event": true, "reset-stream": true, "error": true,
	"cut-role": true, "malformed event first": true, "error-role": true, "empty": true, "bad-json": true, "short-length": true, "long-length": true, "stall": true}

// again bounds how long a cell asks until a breaker lets it through.
const again = 10 * time.Millisecond

func (c *faultCell) ask(rig *faultRig, fallback string) (reply, ending, bool) {
	c.asked++
	q := question{model: c.ref, user: "tell me about walls", stream: c.stream}
	got, err := rig.tries(pathOf(c.client), q.in(c.client), patience, "X-Nearside-Fallback", fallback)
	if err != nil {
		c.wrong("no answer: %v", err)
		return got, ending{}, false
	}
	if where := got.leaks(); where != "" {
		c.wrong("a key is in %s", where)
	}
	return got, got.ended(c.client, c.stream), true
}

func (c *faultCell) play(rig *faultRig) {
	var script sim.Script
	if c.f.script != nil {
		script = c.f.script(c.backend)
	} else {
		known, err := sim.FaultNamed(c.f.name)
		if err != nil {
			c.wrong("%v", err)
			return
		}
		script = known.Script
	}
	script.Times = 0
	c.near.does(script)
	c.next.does(sim.Script{})
	if c.both {
		c.next.does(script)
	}
	want := c.want()
	if !c.judge(rig, want) || want == stands {
		return
	}
	if strings.Contains(want, "timeout") { // what was given up is not only forgotten
		select {
		case <-c.near.gone:
		case <-time.After(patience):
			c.wrong("the backend's connection is still open")
		}
	}
	if c.f.cools || c.both {
		return
	}
	// The breaker is open, or will let one try that fails too; then it is well again,
	// and asked again: no ticket is lost on the way.
	tick := time.NewTicker(again)
	defer tick.Stop()
	tried := c.near.count()
	for end := time.Now().Add(patience); c.near.count() == tried; <-tick.C {
		if _, _, ok := c.ask(rig, "none"); !ok || time.Now().After(end) {
			c.wrong("never asked a second time")
			return
		}
	}
	c.near.does(sim.Script{})
	for end := time.Now().Add(patience); ; <-tick.C {
		got, e, ok := c.ask(rig, "none")
		if !ok || time.Now().After(end) {
			c.wrong("never well again: %d %s", got.status, got.body)
			return
		}
		if e.kind == endWhole {
			return
		}
	}
}

// judge asks once and holds the answer against what is right.
func (c *faultCell) judge(rig *faultRig, want string) bool {
	before := c.next.count()
	got, e, ok := c.ask(rig, c.far)
	if !ok {
		return false
	}
	shown := fmt.Sprintf("%d %s %q %s %.300s", got.status, e.kind, got.header.Get("X-Nearside-Attempts"), e.code, got.body)
	receipt := rig.noted(got.header.Get("X-Request-Id"))
	outcome, attempts := "ok", attemptsOf(receipt)
	switch {
	case e.ends != 1:
		c.wrong("%d ends: %s", e.ends, shown)
	case want == stands:
		if e.kind != endWhole || !strings.HasSuffix(e.text, matrixText) || attempts != c.ref+"=ok" || c.next.count() != before {
			c.wrong("want a whole answer: %s", shown)
		}
		if e.kind == endWhole && !slices.Contains([]string{"no-usage", "flood", "cut-finish"}, c.f.name) && (num(sub(receipt["usage"])["output"]) != e.output || e.output == 0) {
			c.wrong("the client was told of %d tokens, noted %v", e.output, receipt["usage"])
		}
	case want == breaks:
		outcome = "error"
		if e.kind != endError || e.text == "" || !strings.HasPrefix(matrixText, e.text) || c.next.count() != before {
			c.wrong("want an error event behind what was said: %s, the next target was asked %d times", shown, c.next.count()-before)
		}
	case c.both:
		outcome = "error"
		list := ""
		for one := range strings.SplitSeq(want, "|") {
			for two := range strings.SplitSeq(want, "|") {
				list += "|" + c.ref + "=" + one + ", " + c.far + "=" + two
			}
		}
		if e.kind != endStatus || !matches(attempts, list[1:]) || got.header.Get("X-Nearside-Attempts") != attempts {
			c.wrong("want a status and both attempts (%s): %s, noted %s", want, shown, attempts)
		}
		if !strings.Contains(e.message, c.ref) || !strings.Contains(e.message, c.far) {
			c.wrong("the message does not name both targets: %s", shown)
		}
		if mistakable[c.f.name] && got.status != 502 && !strings.Contains(want, "timeout") {
			c.wrong("want 502: %s", shown)
		}
	default:
		var all []string
		for one := range strings.SplitSeq(want, "|") {
			all = append(all, c.ref+"="+one+", "+c.far+"=ok")
		}
		if e.kind != endWhole || e.text != matrixFar || e.model != c.far || !matches(attempts, strings.Join(all, "|")) || got.header.Get("X-Nearside-Attempts") != attempts {
			c.wrong("want the next target's answer after %s: %s, noted %s", want, shown, attempts)
		}
	}
	if receipt == nil || receipt["outcome"] != outcome {
		c.wrong("noted as %v, want %s", receipt["outcome"], outcome)
	}
	return true
}

// exchangeLines counts the lines of exchanges by what was asked for.
func (r *running) exchangeLines() map[string]int {
	n := map[string]int{}
	for line := range strings.Lines(r.output()) {
		if strings.Contains(line, `"message":"exchange"`) {
			if _, rest, ok := strings.Cut(line, `"requested":"`); ok {
				ref, _, _ := strings.Cut(rest, `"`)
				n[ref]++
			}
		}
	}
	return n
}

// load is what a process holds.
type load struct{ goroutines, descriptors int }

// quietly returns what the proxy holds when it is asked nothing.
func (rig *faultRig) quietly(t *testing.T) load {
	t.Helper()
	for _, d := range wireDialects { // everything that is made once is made
		for _, stream := range []bool{false, true} {
			q := question{model: "near-" + d.name + "/ok", user: "hi", stream: stream}
			if got := rig.post(pathOf(d.name), q.in(d.name)); got.status != 200 {
				t.Fatalf("%d %s", got.status, got.body)
			}
		}
	}
	var least load
	rig.until("no connection to a backend is open", func() bool {
		client.CloseIdleConnections()
		least = rig.holds()
		for _, s := range rig.sides {
			if s.sim.Open() > 0 {
				return false
			}
		}
		return true
	})
	return least
}

func (rig *faultRig) holds() load {
	var l load
	for line := range strings.Lines(rig.get("/metrics").body) {
		for name, n := range map[string]*int{"go_goroutines ": &l.goroutines, "process_open_fds ": &l.descriptors} {
			if v, ok := strings.CutPrefix(line, name); ok {
				var f float64
				fmt.Sscan(v, &f)
				*n = int(f)
			}
		}
	}
	return l
}

// settled waits until nothing is in flight, the backends' connections are closed
// and the proxy holds no more than it did.
func (rig *faultRig) settled(t *testing.T, base load) {
	t.Helper()
	var now load
	back := func() bool {
		client.CloseIdleConnections()
		for _, s := range rig.sides {
			if s.sim.Open() > 0 {
				return false
			}
		}
		now = rig.holds()
		return strings.Contains(rig.get("/readyz").body, `"in_flight":0`) && now.goroutines <= base.goroutines && now.descriptors <= base.descriptors
	}
	tick := time.NewTicker(10 * again)
	defer tick.Stop()
	for end := time.Now().Add(3 * patience); !back(); <-tick.C { // the HTTP server's idle workers alone take twenty seconds to go
		if time.Now().After(end) {
			t.Fatalf("what was held is not given back: goroutines %d, descriptors %d; before %d, %d; %s", now.goroutines, now.descriptors, base.goroutines, base.descriptors, rig.get("/readyz").body)
		}
	}
	t.Logf("goroutines %d, descriptors %d; before %d, %d", now.goroutines, now.descriptors, base.goroutines, base.descriptors)
}

// keepsSecrets looks for keys in all that the proxy shows.
func (rig *faultRig) keepsSecrets(t *testing.T) {
	t.Helper()
	for _, path := range []string{"/metrics", "/readyz", "/proxy/exchanges?limit=100", "/proxy/learned", "/proxy/status", "/v1/models"} {
		if got := rig.get(path); strings.Contains(got.body, wallKey) || got.leaks() != "" {
			t.Errorf("%s shows a key", path)
		}
	}
	if strings.Contains(rig.output(), wallKey) {
		t.Errorf("the log shows a key")
	}
	sent := false
	for _, s := range rig.sides {
		sent = sent || slices.ContainsFunc(s.sim.Requests(), func(r sim.Request) bool {
			return strings.Contains(r.Header.Get("Authorization")+r.Header.Get("X-Api-Key"), wallKey)
		})
	}
	if !sent {
		t.Errorf("the key was never sent: what is looked for could not leak")
	}
}
