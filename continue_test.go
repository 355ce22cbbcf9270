package main

import (
	"bufio"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nearside/upstream/sim"
)

// oneText is a text with all that an answer may be broken in: lines, white space,
// characters of several bytes, what JSON escapes.
const oneText = "Here is what I found:\n\n- the \"first\" thing, naïve and plain\n- the second one 🙂 with a \\ in it\n\n" +
	"```go\nfunc main() {\n\tprintln(1 < 2)\n}\n```\n\nand so it goes on, word by word, until all of it was said, which takes a while, as it should."

// breakages are the ways in which a stream ends that should not, after n events of
// the profile's own.
func breakages(n int) map[string]sim.Script {
	begin := []sim.Step{sim.Begin(), sim.UpTo("content"), sim.Next(n)}
	then := func(steps ...sim.Step) sim.Script { return sim.Script{Times: -1, Steps: append(begin[:3:3], steps...)} }
	return map[string]sim.Script{
		"truncated":       then(sim.Close()),
		"truncated|reset": then(sim.Wait(20*time.Millisecond), sim.Reset()),
		"gap_timeout":     then(sim.Hold()),
		"error_in_answer": then(sim.ErrorEvent("out of memory"), sim.End()),
		"cut":             then(sim.End()),
		"malformed_chunk": then(sim.Torn(), sim.Hold()),
	}
}

// pairOf is a proxy whose default chain is two simulated model servers.
type pairOf struct {
	*running
	near, far *sim.Server
}

// onward is a proxy whose streams are gone on with.
func onward(t *testing.T, near, far sim.Options, settings string) pairOf {
	t.Helper()
	kind := func(o sim.Options) string {
		if o.Profile == "" || o.Profile == sim.Generic {
			return ""
		}
		return "kind: " + strconv.Quote(string(o.Profile)) + ", "
	}
	for _, o := range []*sim.Options{&near, &far} {
		o.Models = []string{"m"}
		if o.Reply == "" {
			o.Reply = oneText
		}
	}
	a, first := simPair(t, near)
	b, second := simPair(t, far)
	if !strings.Contains(settings, "continueStreams") {
		settings = "policy: {continueStreams: true}, " + settings
	}
	return pairOf{start(t, configOf(settings+fmt.Sprintf(` providers: {near: {%sdeadlines: {gapMs: 400}, breaker: {disabled: true}}, far: {%sdeadlines: {gapMs: 400}, breaker: {disabled: true}}}`, kind(near), kind(far)),
		provider("near", first, "openai-completions"), provider("far", second, "openai-completions"))), a, b}
}

var goneOn = regexp.MustCompile(`"continued":\[\{"from":"near/m","to":"far/m","after_bytes":(\d+),"cause":"([a-z_]+)"\}\]`)

// sewn reads a good stream that two backends have told, by the rules of its
// dialect, and returns it with how much of its text the first one told.
func (p reply) sewn(t *testing.T, dialect string) (answered, int, string) {
	t.Helper()
	m := goneOn.FindStringSubmatch(p.body)
	if m == nil {
		t.Fatalf("nobody went on\n%s", p.body)
	}
	if dialect != "messages" { // which names its model once
		p.body = strings.ReplaceAll(p.body, `"model": "`, `"model":"`) // MLX's
		a, b := strings.LastIndex(p.body, `"model":"near/m"`), strings.Index(p.body, `"model":"far/m"`)
		if a < 0 || b < a {
			t.Errorf("the model is not that of who speaks\n%s", p.body)
		}
	}
	p.body = strings.ReplaceAll(p.body, `"model":"near/m"`, `"model":"far/m"`)
	n, _ := strconv.Atoi(m[1])
	return p.answered(t, dialect, true), n, m[2]
}

// A stream that breaks after content is gone on with by the next target, in one
// answer: what both say is one text, told once, with one end, whoever asks and
// however it broke.
func TestBrokenStreamsAreGoneOnWith(t *testing.T) {
	for _, pair := range [][2]sim.Profile{{sim.LlamaCPP, sim.VLLM}, {sim.Ollama, sim.LlamaCPP}, {sim.VLLM, sim.Ollama}, {sim.LMStudio, sim.SGLang}} {
		t.Run(string(pair[0])+" then "+string(pair[1]), func(t *testing.T) {
			t.Parallel()
			p := onward(t, sim.Options{Profile: pair[0]}, sim.Options{Profile: pair[1]}, "")
			oks := 0
			for _, client := range wireDialects {
				for n := 0; n < 36; n += 7 {
					for cause, sc := range breakages(n) {
						if n != 14 && (cause == "gap_timeout" || cause == "truncated|reset") {
							continue // which take their time
						}
						p.near.Clear()
						p.near.Push(sc)
						got := p.post(client.path, question{model: "default", user: "go on", stream: true}.in(client.name))
						if strings.Contains(cause, "reset") && got.header.Get("X-Nearside-Model") == "far/m" {
							continue // it overtook all that was said
						}
						oks++
						a, told, why := got.sewn(t, client.name)
						if a.text != oneText || a.finish != "stop" || a.refusal+a.reasoning != "" || len(a.calls) > 0 {
							t.Fatalf("%s, %s after %d: got %s\n%s", client.name, cause, n, a.same(), got.body)
						}
						if cause == "cut" {
							cause = "truncated"
						}
						if !strings.Contains(cause, why) {
							t.Errorf("%s, %s after %d: the cause is %q", client.name, cause, n, why)
						}
						asked, body := lastBody(t, p.far)
						messages := list(asked["messages"])
						last := messages[len(messages)-1]
						if len(messages) < 2 || last["role"] != "assistant" || !strings.HasPrefix(oneText, str(last["content"])) || str(last["content"]) != strings.TrimRight(oneText[:told], " \n\t") {
							t.Errorf("%s, %s after %d (%d bytes): asked to go on with\n%s", client.name, cause, n, told, body)
						}
					}
				}
			}
			p.until("the metric", func() bool {
				return strings.Contains(p.get("/metrics").body, fmt.Sprintf("nearside_continued_total{outcome=\"ok\"} %d\n", oks))
			})
		})
	}
}

// What happened is told where it can be: in the last event, the receipt, the log.
func TestWhoWentOnIsTold(t *testing.T) {
	t.Parallel()
	p := onward(t, sim.Options{Profile: sim.LlamaCPP}, sim.Options{Profile: sim.Ollama}, "")
	p.near.Push(breakages(5)["truncated"])
	got := p.post("/v1/chat/completions", question{model: "default", user: "go on", stream: true, limit: 500}.in("chat"))
	_, told, _ := got.sewn(t, "chat")
	r := p.receipt(got)
	want := fmt.Sprintf("[map[after_bytes:%d cause:truncated from:near/m to:far/m]]", told)
	if fmt.Sprint(r["continued"]) != want || r["outcome"] != "ok" || r["model"] != "far/m" || r["usage_partial"] != true {
		t.Errorf("noted %v\nwant continued %s", r, want)
	}
	var attempts []string
	for _, a := range list(r["attempts"]) {
		attempts = append(attempts, fmt.Sprint(a["ref"], "=", a["outcome"]))
	}
	if got := strings.Join(attempts, ", "); got != "near/m=ok, near/m=truncated, far/m=ok" {
		t.Errorf("attempts %s", got)
	}
	p.until("the log", func() bool { return strings.Contains(p.output(), `"continued_cause":"truncated"`) })
	asked, body := lastBody(t, p.far)
	if limit := num(asked["max_tokens"]); limit >= 500 || limit < 400 {
		t.Errorf("the limit is %d\n%s", limit, body)
	}
}

// The white space that a break leaves at the end is not told twice, and a server
// that says its prefill again is told once.
func TestSeamsAreClean(t *testing.T) {
	t.Parallel()
	near := func(pieces ...string) sim.Script {
		steps := []sim.Step{sim.Stream()}
		for _, p := range pieces {
			steps = append(steps, sim.Piece(p))
		}
		return sim.Script{Steps: append(steps, sim.Close())}
	}
	for _, echo := range []string{"-prefill-echo", "+prefill-echo"} {
		p := onward(t, sim.Options{Profile: sim.LlamaCPP}, sim.Options{Profile: sim.LlamaCPP, Quirks: []string{echo}}, "")
		for _, client := range wireDialects {
			for _, pieces := range [][]string{
				{"Here is what I found:\n", "\n"}, {"Here is what", " "}, {"Here is ", "what I found:\n\n- "}, {"H"},
				{oneText[:strings.Index(oneText, "\tprintln")+1]}, {"Here is what I found:\n\n- the \"first\" thing, na"},
			} {
				p.near.Push(near(pieces...))
				got := p.post(client.path, question{model: "default", user: "go on", stream: true}.in(client.name))
				if a, _, _ := got.sewn(t, client.name); a.text != oneText && (len(pieces[0]) > 4 || echo[0] == '-') {
					t.Errorf("%s, %s, after %q: got %q", client.name, echo, pieces, a.text)
				}
			}
		}
	}
}

// Reasoning that the first target has told is not told again, and none of the
// second's is: the text goes on, or begins where there was none.
func TestReasoningIsToldOnce(t *testing.T) {
	t.Parallel()
	p := onward(t, sim.Options{Profile: sim.LlamaCPP, Reasoning: "I think it is so."}, sim.Options{Profile: sim.SGLang, Reasoning: "Others think so too.", Quirks: []string{"-thinking-by-template"}}, "")
	for _, client := range wireDialects {
		for _, upTo := range []string{"reasoning", "content"} {
			p.near.Push(sim.Cut(upTo))
			got := p.post(client.path, question{model: "default", user: "go on", stream: true}.in(client.name))
			a, _, _ := got.sewn(t, client.name)
			if a.text != oneText || !strings.HasPrefix("I think it is so.", a.reasoning) || a.reasoning == "" {
				t.Errorf("%s, cut in %s: got %s\n%s", client.name, upTo, a.same(), got.body)
			}
		}
	}
}

// Where nobody can go on the stream ends with the error as ever: never with an
// end that looks like a good one.
func TestStreamsThatCannotBeGoneOnWith(t *testing.T) {
	f := func(name string, near, far sim.Options, settings string, sc sim.Script, q question, why string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := onward(t, near, far, settings)
			for _, client := range wireDialects {
				p.near.Push(sc)
				q.model, q.stream = "default", true
				before := p.far.Count()
				got := p.post(client.path, q.in(client.name))
				got.broken(t, client.name, "")
				r := p.receipt(got)
				if r["outcome"] != "error" || r["model"] != "near/m" || r["continued"] != nil || !strings.Contains(fmt.Sprint(r["not_continued"]), why) {
					t.Errorf("%s: noted %v\nwant %q", client.name, r, why)
				}
				if asked := p.far.Count() > before; asked != (why == "") {
					t.Errorf("%s: the second was asked: %v", client.name, asked)
				}
			}
		})
	}
	cut := sim.Cut("content")
	plain := question{user: "go on"}
	llama := sim.Options{Profile: sim.LlamaCPP}
	refusing := func(quirk string) sim.Options { return sim.Options{Profile: sim.VLLM, Quirks: []string{quirk}} }
	f("a refused prefill", llama, refusing("prefill-400"), "", cut, plain, "")
	f("a server without one", llama, sim.Options{Profile: sim.MLX}, "", cut, plain, "assistantPrefill")
	f("no server known", llama, sim.Options{}, "", cut, plain, "assistantPrefill")
	f("too much was said", llama, refusing("-prefill-echo"), "fallback: {continueBytes: 3}, ", cut, plain, "proxy.fallback.continueBytes")
	call := question{user: "what is the weather", tools: []offer{weatherTool}}
	f("a tool call had begun", sim.Options{Profile: sim.LlamaCPP}, refusing("-prefill-echo"), "", cut, call, "a tool call had begun")
	format := plain
	format.schema = obj{"type": "object", "properties": obj{"city": obj{"type": "string"}}, "required": []string{"city"}, "additionalProperties": false}
	f("a format was asked for", llama, refusing("-prefill-echo"), "", cut, format, "format")
	f("it is off", llama, refusing("-prefill-echo"), "policy: {continueStreams: false}, ", cut, plain, "<nil>")
}

// The client is heard while it waits for who goes on: it gets signs of life, and
// when it leaves, so does the proxy.
func TestWaitingForWhoGoesOn(t *testing.T) {
	for _, client := range wireDialects {
		t.Run(client.name, func(t *testing.T) {
			t.Parallel()
			p := onward(t, sim.Options{Profile: sim.LlamaCPP}, sim.Options{Profile: sim.Ollama}, "heartbeat: {firstMs: 50, everyMs: 50}, ")
			release := make(chan struct{})
			p.near.Push(breakages(3)["truncated"])
			p.far.Push(sim.Script{Steps: []sim.Step{sim.Until(release), sim.Answer()}}, sim.Silent())
			body := question{model: "default", user: "go on", stream: true}.in(client.name)
			resp, read := p.begin(t, client.path, body)
			beat := map[string]string{"chat": `"delta":{}`, "responses": "event: response.in_progress", "messages": "event: ping"}[client.name]
			for n := 0; n < 2; {
				if line := read(); strings.Contains(line, beat) {
					n++
				}
			}
			close(release)
			for !strings.Contains(read(), `"continued":[`) {
			}
			resp.Body.Close()

			p.near.Push(breakages(3)["truncated"])
			resp, read = p.begin(t, client.path, body)
			for n := 0; n < 2; {
				if line := read(); strings.Contains(line, beat) {
					n++
				}
			}
			resp.Body.Close()
			late := time.After(patience)
			for left := false; !left; {
				select {
				case d := <-p.far.Gone():
					left = d.Phase != sim.PhaseIdle
				case <-late:
					t.Fatal("the second backend was not left")
				}
			}
			if got := p.receipt(reply{header: resp.Header}); fmt.Sprint(got["status"]) != "499" {
				t.Errorf("noted %v", got)
			}
		})
	}
}

// begin begins a request and returns what reads its lines one by one.
func (r *running) begin(t *testing.T, path, body string) (*http.Response, func() string) {
	t.Helper()
	req, err := http.NewRequest("POST", r.base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(resp.Body)
	return resp, func() string {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatalf("the stream ended: %v", err)
		}
		return line
	}
}

// Who goes on may break too, or refuse: then the next one does, as far as the plan
// goes, and all three tell one text.
func TestAThirdTargetGoesOn(t *testing.T) {
	t.Parallel()
	opt := sim.Options{Profile: sim.LlamaCPP, Models: []string{"m"}, Reply: oneText}
	a, first := simPair(t, opt)
	b, second := simPair(t, opt)
	_, third := simPair(t, opt)
	api := "openai-completions"
	p := start(t, configOf(`policy: {continueStreams: true}, fallback: {prefilled: 2}, providers: {a: {kind: "llamacpp", breaker: {disabled: true}}, b: {kind: "llamacpp", breaker: {disabled: true}}, c: {kind: "llamacpp"}}`,
		provider("a", first, api), provider("b", second, api), provider("c", third, api)))
	for _, client := range wireDialects {
		body := question{model: "default", user: "go on", stream: true}.in(client.name)
		for name, sc := range map[string]sim.Script{
			"breaks as well":       {Steps: []sim.Step{sim.Begin(), sim.Next(9), sim.Close()}},
			"breaks at once":       {Steps: []sim.Step{sim.Begin(), sim.Next(1), sim.Close()}},
			"refuses":              {Quirks: []string{"+prefill-400"}},
			"has nothing to say":   {Steps: []sim.Step{sim.Begin(), sim.UpTo("role"), sim.Rest("content"), sim.End()}},
			"only thinks about it": {Steps: []sim.Step{sim.Begin(), sim.UpTo("role"), sim.Data(`{"choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]}`), sim.Rest("content"), sim.End()}},
		} {
			a.Push(breakages(4)["truncated"])
			b.Push(sc)
			got := p.post(client.path, body)
			got.body = strings.ReplaceAll(strings.ReplaceAll(got.body, `"model":"a/m"`, `"model":"c/m"`), `"model":"b/m"`, `"model":"c/m"`)
			if n := got.answered(t, client.name, true); n.text != oneText || n.finish != "stop" || !strings.Contains(got.body, `"to":"c/m"`) {
				t.Errorf("%s, the second %s: got %s\n%s", client.name, name, n.same(), got.body)
			}
			a.Clear()
		}
	}
}

// To go on is a further try of a prompt that was read: one is made, unless the
// settings say otherwise, and it takes its place in the retry budget where the next
// target is not known to be well.
func TestGoingOnIsAFurtherTry(t *testing.T) {
	cut := breakages(4)["truncated"]
	f := func(name, settings string, spoil bool, continued int, stopped string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opt := sim.Options{Profile: sim.LlamaCPP, Models: []string{"m"}, Reply: oneText}
			a, first := simPair(t, opt)
			b, second := simPair(t, opt)
			c, third := simPair(t, opt)
			api := "openai-completions"
			p := start(t, configOf(settings+`policy: {continueStreams: true}, providers: {a: {kind: "llamacpp"}, b: {kind: "llamacpp"}, c: {kind: "llamacpp"}}`,
				provider("a", first, api), provider("b", second, api), provider("c", third, api)))
			if spoil {
				b.Push(sim.Status(500, "out of memory"))
				if got := p.post("/v1/chat/completions", strings.Replace(helloStream, "default", "b/m", 1), "X-Nearside-Fallback", "none"); got.status < 500 {
					t.Fatalf("%d %s", got.status, got.body)
				}
			}
			a.Push(cut)
			b.Push(cut)
			before := c.Count()
			got := p.post("/v1/chat/completions", question{model: "default", user: "go on", stream: true}.in("chat"))
			got.broken(t, "chat", "")
			r := p.receipt(got)
			if len(list(r["continued"])) != continued || r["outcome"] != "error" || !strings.Contains(str(r["not_continued"]), stopped) || str(r["stopped"]) != str(r["not_continued"]) || c.Count() != before {
				t.Errorf("noted %v\nwant %q, and the third was asked %d times", r, stopped, c.Count()-before)
			}
			p.until("what was lent", func() bool { return strings.Contains(p.get("/proxy/status").body, `"running":0`) })
		})
	}
	f("once", "", false, 1, "proxy.fallback.prefilled")
	f("never", "fallback: {prefilled: 0}, ", false, 0, "proxy.fallback.prefilled")
	f("no budget", "fallback: {retryShare: 0, retryMin: 0}, ", true, 0, "proxy.fallback.retryShare")
	f("a target that is well needs none", "fallback: {retryShare: 0, retryMin: 0, prefilled: 2}, ", false, 1, "proxy.fallback.retryShare")
}

// Whole streams are what they are without the policy, byte for byte.
func TestWholeStreamsAreUntouchedByThePolicy(t *testing.T) {
	t.Parallel()
	answer := raw(sseHead + chunked(chatRole, chunk(`{"content":"one ","x":1}`, ""), chunk(`{"content":"two","reasoning_content":null}`, ""), chunk(`{}`, "stop"), chatDone) + lastChunk)
	var got [2]string
	for i, on := range []string{"false", "true"} {
		b, far := newBackend(t, answer), newBackend(t, chat("far"))
		p := start(t, configOf(`policy: {continueStreams: `+on+`}, providers: {far: {kind: "llamacpp"}}`, provider("near", b.url, "openai-completions"), provider("far", far.url, "openai-completions")))
		got[i] = p.post("/v1/chat/completions", helloStream).body
	}
	if got[0] != got[1] || !strings.Contains(got[0], `"x":1`) {
		t.Errorf("without\n%s\nwith\n%s", got[0], got[1])
	}
}

// A call that was being written as text when the stream broke was not told: who
// goes on makes it, and the client gets it whole.
func TestHalfACallIsLeftToWhoGoesOn(t *testing.T) {
	t.Parallel()
	p := onward(t, sim.Options{Profile: sim.LlamaCPP}, sim.Options{Profile: sim.VLLM}, "")
	for _, client := range wireDialects {
		p.near.Push(sim.Script{Steps: []sim.Step{sim.Stream(), sim.Data(`{"choices":[{"index":0,"delta":{"reasoning_content":"Let me look."}}]}`), sim.Piece("[get_weather]\n"), sim.Piece(`{"ci`), sim.Close()}})
		got := p.post(client.path, question{model: "default", user: "weather, please", tools: []offer{weatherTool}, stream: true}.in(client.name))
		a, _, _ := got.sewn(t, client.name)
		if a.reasoning != "Let me look." || a.text != "" || a.finish != "calls" || len(a.calls) != 1 || a.calls[0].name != "get_weather" {
			t.Errorf("%s: got %s\n%s", client.name, a.same(), got.body)
		}
	}
}

// Where a model is served by several endpoints, another of them goes on, too.
func TestAnotherEndpointGoesOn(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	var urls [2]string
	for i := range urls {
		s, url := simPair(t, sim.Options{Profile: sim.LlamaCPP, Models: []string{"m"}, Reply: oneText})
		s.Choose(func(sim.Request) sim.Script {
			if asked.Add(1)%2 == 1 {
				return breakages(9)["truncated"]
			}
			return sim.Script{}
		})
		urls[i] = url
	}
	p := start(t, configOf(fmt.Sprintf(`policy: {continueStreams: true}, providers: {gpu: {kind: "llamacpp", breaker: {disabled: true}, endpoints: [{url: %q, name: "left"}, {url: %q, name: "right"}]}}`, urls[0], urls[1]),
		provider("gpu", urls[0], "openai-completions")))
	for _, client := range wireDialects {
		got := p.post(client.path, question{model: "default", user: "go on", stream: true}.in(client.name))
		a := got.answered(t, client.name, true)
		if c := list(p.receipt(got)["continued"]); a.text != oneText || len(c) != 1 || c[0]["from"] == c[0]["to"] || !strings.HasPrefix(str(c[0]["to"]), "gpu/m@") {
			t.Errorf("%s: gone on with by %v: %s\n%s", client.name, c, a.same(), got.body)
		}
	}
}
