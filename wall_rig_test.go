package main

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-json"

	"nearside/upstream/sim"
)

// The wall is what is held against failing backends: the scenarios
// (wall_scenarios_test.go) and the fault list (wall_faults_test.go), through the
// real binary, over sockets. Its cells run side by side before few proxies; each
// has a model of its own at the backends, which answer as that cell says.

// wallKey is in the key of every backend of the wall. It may be in no output.
const wallKey = "sk-secret-wall-0c4f5f1d"

// wallSide is a simulated backend of the wall.
type wallSide struct {
	sim *sim.Server
	url string

	mu     sync.Mutex
	models map[string]*wallModel
	asks   map[int]*wallModel // by the number of the request
}

// wallModel is what a backend does for one cell, and what it saw.
type wallModel struct {
	side  *wallSide
	id    string
	asked chan sim.Request   // each request for it
	gone  chan sim.Departure // each that the proxy left before its answer was over

	mu      sync.Mutex
	scripts []func(sim.Request) sim.Script // one a request, the last again and again
	seen    []sim.Request
}

func newWallSide(t *testing.T, opt sim.Options) *wallSide {
	t.Helper()
	b := &wallSide{models: map[string]*wallModel{}, asks: map[int]*wallModel{}}
	b.sim, b.url = simPair(t, opt)
	b.sim.Choose(func(r sim.Request) sim.Script {
		m := b.model(modelIn(r.Body))
		b.mu.Lock()
		b.asks[r.N] = m
		b.mu.Unlock()
		m.mu.Lock()
		r.Body = bytes.Clone(r.Body)
		m.seen = append(m.seen, r)
		n := len(m.seen) - 1
		script := func(sim.Request) sim.Script { return sim.Script{} }
		if len(m.scripts) > 0 {
			script = m.scripts[min(n, len(m.scripts)-1)]
		}
		m.mu.Unlock()
		select {
		case m.asked <- r:
		default:
		}
		return script(r)
	})
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case d := <-b.sim.Gone():
				b.mu.Lock()
				m := b.asks[d.Request]
				b.mu.Unlock()
				if m == nil || d.Phase == sim.PhaseIdle {
					continue
				}
				select {
				case m.gone <- d:
				default:
				}
			case <-done:
				return
			}
		}
	})
	t.Cleanup(func() { close(done); wg.Wait() })
	return b
}

// model returns what the backend does for a model's id.
func (b *wallSide) model(id string) *wallModel {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.models[id]
	if m == nil {
		m = &wallModel{side: b, id: id, asked: make(chan sim.Request, 64), gone: make(chan sim.Departure, 64)}
		b.models[id] = m
	}
	return m
}

func modelIn(body []byte) string {
	var v struct {
		Model string `json:"model"`
	}
	if json.Unmarshal(body, &v) != nil {
		return ""
	}
	return v.Model
}

// does sets what is answered: one script a request, the last again and again.
// The zero Script is a good answer.
func (m *wallModel) does(scripts ...sim.Script) {
	all := make([]func(sim.Request) sim.Script, len(scripts))
	for i, sc := range scripts {
		all[i] = func(sim.Request) sim.Script { return sc }
	}
	m.decides(all...)
}

func (m *wallModel) decides(scripts ...func(sim.Request) sim.Script) {
	m.mu.Lock()
	m.scripts, m.seen = scripts, nil
	m.mu.Unlock()
}

// requests returns those that came since does.
func (m *wallModel) requests() []sim.Request {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]sim.Request(nil), m.seen...)
}

func (m *wallModel) count() int { return len(m.requests()) }

// How an answer ended, as its client sees it.
const (
	endWhole     = "whole"     // an answer with its end
	endStatus    = "status"    // an error with its status
	endError     = "error"     // a stream with an error event for its end
	endTruncated = "truncated" // neither an end nor an error
	endMuddled   = "muddled"   // more than one end, or none that the dialect knows
)

// ending is an answer as its client understands it.
type ending struct {
	kind    string
	text    string
	model   string
	code    string
	message string
	input   int
	output  int
	ends    int // terminal events
}

// ended reads an answer of any kind by the rules of its dialect. It never fails:
// what is odd about the answer is its kind.
func (p reply) ended(dialect string, stream bool) ending {
	var e ending
	if !strings.HasPrefix(p.header.Get("Content-Type"), "text/event-stream") {
		e.wholeBody(p, dialect)
		if stream && e.kind == endWhole {
			e.kind = endMuddled // a stream was asked for
		}
		return e
	}
	if !stream || p.status != 200 {
		e.kind = endMuddled
		return e
	}
	finishes, dones, errors := 0, 0, 0
	for _, block := range strings.Split(p.body, "\n\n") {
		for _, line := range strings.Split(block, "\n") {
			d, ok := strings.CutPrefix(line, "data: ")
			if !ok {
				continue
			}
			if d == "[DONE]" {
				dones++
				continue
			}
			var v obj
			if json.Unmarshal([]byte(d), &v) != nil {
				e.kind = endMuddled
				return e
			}
			f, broken := e.event(dialect, v)
			finishes += f
			errors += broken
		}
	}
	switch dialect {
	case "chat":
		e.ends = dones + errors
		switch {
		case finishes == 1 && dones == 1 && errors == 0:
			e.kind = endWhole
		case finishes == 0 && dones == 0 && errors == 1:
			e.kind = endError
		case finishes == 0 && dones == 0 && errors == 0:
			e.kind = endTruncated
		default:
			e.kind = endMuddled
		}
	default:
		e.ends = finishes + errors
		switch {
		case finishes == 1 && errors == 0:
			e.kind = endWhole
		case finishes == 0 && errors == 1:
			e.kind = endError
		case finishes == 0 && errors == 0:
			e.kind = endTruncated
		default:
			e.kind = endMuddled
		}
	}
	if p.err != nil { // the connection broke, whatever was said on it
		e.kind = endTruncated
	}
	return e
}

// event takes an event in and says how many ends and errors it is.
func (e *ending) event(dialect string, v obj) (finishes, errors int) {
	switch dialect {
	case "chat":
		if m := str(v["model"]); m != "" {
			e.model = m
		}
		for _, c := range list(v["choices"]) {
			e.text += str(sub(c["delta"])["content"])
			if c["finish_reason"] != nil {
				finishes++
			}
		}
		if u := sub(v["usage"]); u != nil {
			e.input, e.output = num(u["prompt_tokens"]), num(u["completion_tokens"])
		}
		if f := sub(v["error"]); f != nil {
			e.code, e.message = str(f["code"]), str(f["message"])
			errors++
		}
	case "responses":
		switch v["type"] {
		case "response.output_text.delta":
			e.text += str(v["delta"])
		case "response.completed", "response.incomplete":
			r := sub(v["response"])
			e.model = str(r["model"])
			u := sub(r["usage"])
			e.input, e.output = num(u["input_tokens"]), num(u["output_tokens"])
			finishes++
		case "response.failed":
			f := sub(sub(v["response"])["error"])
			e.code, e.message = str(f["code"]), str(f["message"])
			errors++
		}
	case "messages":
		switch v["type"] {
		case "message_start":
			m := sub(v["message"])
			e.model = str(m["model"])
			e.input = num(sub(m["usage"])["input_tokens"])
		case "content_block_delta":
			e.text += str(sub(v["delta"])["text"])
		case "message_delta":
			u := sub(v["usage"])
			e.output = num(u["output_tokens"])
			if in := num(u["input_tokens"]); in > 0 {
				e.input = in
			}
		case "message_stop":
			finishes++
		case "error":
			f := sub(v["error"])
			e.code, e.message = str(f["code"]), str(f["message"])
			errors++
		}
	}
	return finishes, errors
}

func (e *ending) wholeBody(p reply, dialect string) {
	e.kind, e.ends = endMuddled, 1
	var v obj
	if p.err != nil || json.Unmarshal([]byte(p.body), &v) != nil {
		e.kind = endTruncated
		return
	}
	if f := sub(v["error"]); f != nil && str(v["object"]) != "response" {
		e.code, e.message = str(f["code"]), str(f["message"])
		if p.status >= 400 && e.message != "" {
			e.kind = endStatus
		}
		return
	}
	if p.status != 200 {
		return
	}
	e.model = str(v["model"])
	u, done := sub(v["usage"]), false
	switch dialect {
	case "chat":
		for _, c := range list(v["choices"]) {
			e.text += str(sub(c["message"])["content"])
			done = c["finish_reason"] != nil
		}
		e.input, e.output = num(u["prompt_tokens"]), num(u["completion_tokens"])
	case "responses":
		for _, item := range list(v["output"]) {
			for _, part := range list(item["content"]) {
				e.text += str(part["text"])
			}
		}
		done = v["status"] == "completed" || v["status"] == "incomplete"
		e.input, e.output = num(u["input_tokens"]), num(u["output_tokens"])
	case "messages":
		for _, part := range list(v["content"]) {
			e.text += str(part["text"])
		}
		done = v["stop_reason"] != nil
		e.input, e.output = num(u["input_tokens"]), num(u["output_tokens"])
	}
	if done {
		e.kind = endWhole
	}
}

// leaks names the first place of an answer that holds a secret of the wall.
func (p reply) leaks() string {
	if strings.Contains(p.body, wallKey) {
		return "body"
	}
	for name, values := range p.header {
		if strings.Contains(strings.Join(values, "\n"), wallKey) {
			return name
		}
	}
	return ""
}

// tries asks as post does, and returns an error in place of failing: cells that
// run side by side judge themselves.
func (r *running) tries(path, body string, bound time.Duration, headers ...string) (reply, error) {
	req, err := http.NewRequest("POST", r.base+path, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	c := *client
	c.Timeout = bound
	return doing(&c, req)
}

func doing(c *http.Client, req *http.Request) (reply, error) {
	resp, err := c.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	_, err = body.ReadFrom(resp.Body)
	return reply{resp.StatusCode, resp.Header, body.String(), err}, nil
}

// noted returns the receipt of an exchange, nil when there is none.
func (r *running) noted(id string) obj {
	for end := time.Now().Add(patience); time.Now().Before(end); {
		req, err := http.NewRequest("GET", r.base+"/proxy/exchanges/"+id, nil)
		if err != nil {
			return nil
		}
		got, err := doing(client, req)
		if err == nil && got.status == 200 {
			var v obj
			if json.Unmarshal([]byte(got.body), &v) == nil {
				return v
			}
		}
	}
	return nil
}

// attemptsOf renders the attempts of a receipt as the header does.
func attemptsOf(receipt obj) string {
	var all []string
	for _, a := range list(receipt["attempts"]) {
		all = append(all, str(a["ref"])+"="+str(a["outcome"]))
	}
	return strings.Join(all, ", ")
}

// exchangesOf counts the lines that the log has for exchanges of a requested
// model.
func (r *running) exchangesOf(ref string) int {
	n := 0
	for line := range strings.Lines(r.output()) {
		if strings.Contains(line, `"message":"exchange"`) && strings.Contains(line, `"requested":"`+ref+`"`) {
			n++
		}
	}
	return n
}

// wallProvider is a provider with one model for each cell.
func wallProvider(id, url, dialect, more string, models []string) string {
	all := make([]string, len(models))
	for i, m := range models {
		all[i] = fmt.Sprintf(`{id: %q, contextWindow: 100000, maxTokens: 8000}`, m)
	}
	return fmt.Sprintf(`%q: {baseUrl: %q, api: %q, apiKey: %q, %s models: [%s]}`, id, url, apiOf(dialect), wallKey, more, strings.Join(all, ", "))
}

// wallOptions are those of a simulated backend of a dialect.
func wallOptions(dialect string) sim.Options {
	opt := sim.Options{Key: wallKey, Keep: 8}
	if dialect == "messages" {
		opt.Profile = sim.Anthropic
	}
	return opt
}
