package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"github.com/goccy/go-json"
)

// picky is a model server that refuses what it does not take one thing at a
// time, as servers do: first contents that are lists, then stream_options, then
// tools. inStream says all that in a 200.
func picky(inStream bool) step {
	return func(b *backend, c net.Conn, a asked) bool {
		var body struct {
			Messages []struct{ Content json.RawMessage }
			Options  json.RawMessage `json:"stream_options"`
			Tools    json.RawMessage
			Effort   string `json:"reasoning_effort"`
		}
		if err := json.Unmarshal(a.body, &body); err != nil {
			b.t.Errorf("the backend got no JSON: %s", a.body)
		}
		refuse := func(status int, message string) bool {
			if inStream {
				return raw(sseHead+chunked(chatRole, data(`{"error":{"message":`+fmt.Sprintf("%q", message)+`,"type":"BadRequestError","code":400}}`))+lastChunk)(b, c, a)
			}
			return whole(status, `{"error":{"message":`+fmt.Sprintf("%q", message)+`,"type":"invalid_request_error"}}`)(b, c, a)
		}
		for i, m := range body.Messages {
			if len(m.Content) > 0 && m.Content[0] == '[' {
				return refuse(422, fmt.Sprintf("messages[%d].content: invalid type: sequence, expected a string", i))
			}
		}
		switch {
		case body.Options != nil:
			return refuse(400, "Unrecognized request argument supplied: stream_options")
		case body.Tools != nil:
			return refuse(500, "m does not support tools")
		case body.Effort == "low": // what minimal is sent as where nothing is known
			return refuse(400, "Unsupported value: 'reasoning_effort' does not support 'low' with this model. Supported values are: 'medium', and 'high'.")
		}
		return chat("pong")(b, c, a)
	}
}

const pickyRequest = `{"model":"near/m","stream":%v,"reasoning_effort":"minimal","messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{}}}}]}`

// A backend that nobody has configured works within its first request: each
// refusal is answered, the same target is asked again, and the second request
// needs no refusal at all.
func TestRefusalsAreLearnedFrom(t *testing.T) {
	for _, inStream := range []bool{false, true} {
		near, far := newBackend(t, picky(inStream)), newBackend(t, chat("far"))
		p := start(t, configOf(quick, provider("near", near.url, "openai-completions", ", reasoning: true"), provider("far", far.url, "openai-completions")))
		request := fmt.Sprintf(pickyRequest, true)
		got := p.post("/v1/chat/completions", request, "X-Nearside-Fallback", "far/m")
		if got.status != 200 || got.text() != "pong" {
			t.Fatalf("the first request: %d %s\n%s", got.status, got.body, p.output())
		}
		if a := got.header.Get("X-Nearside-Attempts"); a != "near/m=learned, near/m=learned, near/m=learned, near/m=learned, near/m=ok" {
			t.Errorf("attempts %q", a)
		}
		if d := got.header.Get("X-Nearside-Dropped"); !strings.Contains(d, "tools") {
			t.Errorf("tools were dropped without a word: %q", d)
		}
		notes := list(p.receipt(got)["learned"])
		if len(notes) != 4 || notes[0]["lesson"] != "string-content" || notes[0]["helped"] != true || notes[0]["setting"] != `proxy.models["near/m"].compat.requiresStringContent: true` ||
			!strings.Contains(fmt.Sprint(notes[0]["words"]), "expected a string") {
			t.Errorf("the receipt: %v", notes)
		}
		asked := near.count()
		if got = p.post("/v1/chat/completions", request); got.text() != "pong" || near.count() != asked+1 {
			t.Errorf("the second request: %d, asked %d times\n%s", got.status, near.count()-asked, got.body)
		}
		if far.count() != 0 {
			t.Error("the next target was asked")
		}

		// Shown where operators look.
		var all struct {
			Data []map[string]any `json:"data"`
		}
		if err := json.Unmarshal([]byte(p.get("/proxy/learned").body), &all); err != nil || len(all.Data) != 4 || all.Data[3]["setting"] != `proxy.models["near/m"].compat.supportedReasoningEfforts: ["medium","high"]` {
			t.Errorf("/proxy/learned: %v %v", all.Data, err)
		}
		for path, want := range map[string]string{
			"/v1/models/near/m": `"proxy.models[\"near/m\"].compat.supportsTools: false"`, "/readyz": `"learned":4`,
			"/metrics": `nearside_lessons_total{lesson="tools",outcome="helped",provider="near"} 1`,
		} {
			if body := p.get(path).body; !strings.Contains(body, want) {
				t.Errorf("%s does not say %s\n%s", path, want, body)
			}
		}
		p.until("the log", func() bool { return strings.Count(p.output(), "learned from a refusal") == 4 })
		if body := p.get("/readyz").body; strings.Contains(body, "breakers") {
			t.Errorf("a breaker noticed: %s", body)
		}

		// Forgotten when the configuration is loaded again.
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		p.until("lessons are forgotten", func() bool { return strings.Contains(p.get("/readyz").body, `"learned":0`) })
		asked = near.count()
		if got = p.post("/v1/chat/completions", request); got.text() != "pong" || near.count() != asked+5 {
			t.Errorf("after the reload: %d, asked %d times", got.status, near.count()-asked)
		}
	}
}

// proxy.learning: false hands a refusal on as it came, and what the
// configuration says of a flag is not overruled.
func TestLearningGivesWay(t *testing.T) {
	f := func(settings, model, message string) {
		t.Helper()
		near := newBackend(t, picky(false))
		p := start(t, configOf(settings, provider("near", near.url, "openai-completions", model)))
		got := p.post("/v1/chat/completions", fmt.Sprintf(pickyRequest, false))
		if got.status < 400 || !strings.Contains(got.body, message) || near.count() != 1 {
			t.Errorf("%s %s: %d, asked %d times\n%s", settings, model, got.status, near.count(), got.body)
		}
		if strings.Contains(got.header.Get("X-Nearside-Attempts"), "learned") {
			t.Errorf("attempts %q", got.header.Get("X-Nearside-Attempts"))
		}
	}
	f(quick+", learning: false", "", "expected a string")
	f(quick, ", compat: {requiresStringContent: false}", "expected a string")
}

// A server that never has enough is asked five times in all, and then the client
// hears what it said last. A lesson that did not help is not kept.
func TestLearningIsBounded(t *testing.T) {
	near := newBackend(t, func(b *backend, c net.Conn, a asked) bool {
		for i := range 9 {
			if name := fmt.Sprintf("key_%d", i); strings.Contains(string(a.body), name) {
				return whole(400, `{"error":{"message":"Additional properties are not allowed ('`+name+`' was unexpected)"}}`)(b, c, a)
			}
		}
		return chat("pong")(b, c, a)
	})
	p := start(t, configOf(quick, provider("near", near.url, "openai-completions")))
	var keys string
	for i := range 9 {
		keys += fmt.Sprintf(`,"key_%d":1`, i)
	}
	got := p.post("/v1/chat/completions", `{"model":"near/m","messages":[{"role":"user","content":"hi"`+keys+`}]}`)
	if got.status != 400 || near.count() != 5 || !strings.Contains(got.body, "key_4") {
		t.Errorf("%d, asked %d times\n%s", got.status, near.count(), got.body)
	}
	// Each of the four helped, so that the next requests get further.
	got = p.post("/v1/chat/completions", `{"model":"near/m","messages":[{"role":"user","content":"hi"`+keys+`}]}`)
	got = p.post("/v1/chat/completions", `{"model":"near/m","messages":[{"role":"user","content":"hi"`+keys+`}]}`)
	if got.text() != "pong" {
		t.Errorf("the third request: %d %s", got.status, got.body)
	}

	stubborn := newBackend(t, whole(400, `{"error":{"message":"messages.0.content must be a string"}}`))
	p = start(t, configOf(quick, provider("near", stubborn.url, "openai-completions")))
	got = p.post("/v1/chat/completions", fmt.Sprintf(pickyRequest, false))
	if got.status != 400 || stubborn.count() != 2 || !strings.Contains(got.body, "must be a string") {
		t.Errorf("what does not help: %d, asked %d times\n%s", got.status, stubborn.count(), got.body)
	}
	if notes := list(p.receipt(got)["learned"]); len(notes) != 1 || notes[0]["helped"] != false {
		t.Errorf("the receipt: %v", notes)
	}
	if body := p.get("/proxy/learned").body; !strings.Contains(body, `"data":[]`) {
		t.Errorf("kept: %s", body)
	}
}

// Rules of one's own reach the backend, and the client is told what they left
// out; a file with a bad one is refused.
func TestOwnRulesReachTheBackend(t *testing.T) {
	near := newBackend(t, chat("pong"))
	p := start(t, configOf(quick+`, rules: [{name: "no names", remove: "messages[*].name"}, {name: "cool", clamp: {path: "temperature", max: 0.5}}],
		models: {"near/m": {rules: [{name: "their word", rename: {path: "max_tokens", to: "max_new_tokens"}}]}}`, provider("near", near.url, "openai-completions")))
	got := p.post("/v1/chat/completions", `{"model":"near/m","temperature":0.9,"max_tokens":3,"messages":[{"role":"user","name":"ann","content":"hi"}]}`)
	sent := string(near.next().body)
	if got.text() != "pong" || !strings.Contains(sent, `"temperature":0.5`) || !strings.Contains(sent, `"max_new_tokens":3`) || strings.Contains(sent, "ann") || strings.Contains(sent, `"max_tokens"`) {
		t.Errorf("%d, sent %s", got.status, sent)
	}
	if d := got.header.Get("X-Nearside-Dropped"); d != "messages[0].name" {
		t.Errorf("dropped %q", d)
	}
}

// Clients of every dialect are helped alike, also when it is the second target
// that refuses.
func TestLearningIsForEveryDialect(t *testing.T) {
	away, near := newBackend(t, whole(503, `{"error":{"message":"no"}}`)), newBackend(t, picky(false))
	p := start(t, configOf(quick, provider("away", away.url, "openai-completions"), provider("near", near.url, "openai-completions")))
	const tool = `"type":"object","properties":{}`
	for path, body := range map[string]string{
		"/v1/responses": `{"model":"default","store":false,"stream":true,"input":[{"role":"user","content":[{"type":"input_text","text":"hi"}]}],"tools":[{"type":"function","name":"f","parameters":{` + tool + `}}]}`,
		"/v1/messages":  `{"model":"default","max_tokens":9,"stream":true,"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],"tools":[{"name":"f","input_schema":{` + tool + `}}]}`,
	} {
		got := p.post(path, body)
		a := got.header.Get("X-Nearside-Attempts")
		if got.status != 200 || !strings.Contains(got.body, "pong") || !strings.HasPrefix(a, "away/m=status_503, near/m=learned") || !strings.HasSuffix(a, "near/m=ok") {
			t.Errorf("%s: %d %q\n%s", path, got.status, a, got.body)
		}
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		p.until("lessons are forgotten", func() bool { return strings.Contains(p.get("/readyz").body, `"learned":0`) })
	}
}

// A server that takes images as data only, which nobody knew, gets them so: they
// are fetched before it is asked again, where the configuration allows that.
func TestImagesAreFetchedOnceTheyAreRefused(t *testing.T) {
	images := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(tinyPNG)) }))
	defer images.Close()
	near := newBackend(t, func(b *backend, c net.Conn, a asked) bool {
		if strings.Contains(string(a.body), images.URL) {
			return whole(400, `{"error":{"message":"invalid image input"}}`)(b, c, a)
		}
		return chat("seen")(b, c, a)
	})
	f := func(settings, attempts, answer string) {
		t.Helper()
		p := start(t, configOf(quick+settings, provider("near", near.url, "openai-completions", `, input: ["text", "image"]`)))
		got := p.post("/v1/chat/completions", seeing(images.URL + "/a.png")["/v1/chat/completions"])
		if got.header.Get("X-Nearside-Attempts") != attempts || !strings.Contains(got.body, answer) {
			t.Errorf("%s: %d %q\n%s", settings, got.status, got.header.Get("X-Nearside-Attempts"), got.body)
		}
	}
	f(`, inputs: {fetchImages: true, fetchPrivate: true}`, "near/m=learned, near/m=ok", "seen")
	f(``, "near/m=status_400", "invalid image input (the backend seems to take images as data alone: proxy.inputs.fetchImages: true")
}

// Whether a lesson helped is told by what the next refusal is about. Servers say
// the same words of one field after the other, and put numbers of their own into
// words that stay the same; what a user wrote comes back in some of them, and
// must not change what others are answered.
func TestNextRefusalTellsWhetherALessonHelped(t *testing.T) {
	f := func(refusal func(body string, n int) string, attempts string, kept int) {
		t.Helper()
		n := 0
		near := newBackend(t, func(b *backend, c net.Conn, a asked) bool {
			n++
			if e := refusal(string(a.body), n); e != "" {
				return whole(422, `{"error":{`+e+`}}`)(b, c, a)
			}
			return chat("pong")(b, c, a)
		})
		p := start(t, configOf(quick, provider("near", near.url, "openai-completions")))
		got := p.post("/v1/chat/completions", `{"model":"near/m","seed":1,"top_k":2,"temperature":1,"messages":[{"role":"user","content":"hi"}]}`)
		if a := got.header.Get("X-Nearside-Attempts"); a != attempts {
			t.Errorf("attempts %q, want %q\n%s", a, attempts, got.body)
		}
		if body := p.get("/proxy/learned").body; strings.Count(body, `"lesson"`) != kept {
			t.Errorf("kept %s, want %d", body, kept)
		}
	}
	f(func(body string, _ int) string {
		for _, name := range []string{"seed", "top_k"} {
			if strings.Contains(body, `"`+name+`"`) {
				return `"message":"Extra inputs are not permitted","param":"` + name + `"`
			}
		}
		return ""
	}, "near/m=learned, near/m=learned, near/m=ok", 2)
	f(func(body string, n int) string {
		return fmt.Sprintf(`"message":"this prompt is refused: why does it say temperature is not supported, and then unknown parameter: seed? (request %d)"`, n)
	}, "near/m=learned, near/m=learned, near/m=status_422", 0)
}
