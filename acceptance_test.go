package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/goccy/go-json"

	"nearside/upstream/sim"
)

// A backend of each dialect that a Responses client may find behind us.
var nearDialects = []struct {
	name string
	api  string
	opt  sim.Options
	more string // further settings of the provider
}{
	{"chat", "openai-completions", sim.Options{Images: true}, ""},
	{"responses", "openai-responses", sim.Options{Images: true}, ""},
	{"bare responses", "openai-responses", sim.Options{Profile: sim.LlamaCPP, Images: true}, ""},
	{"messages", "anthropic-messages", sim.Options{Profile: sim.Anthropic}, ""},
	{"thinking chat", "openai-completions", sim.Options{Images: true, Reasoning: "let me see"}, ""},
	{"thinking responses", "openai-responses", sim.Options{Images: true, Reasoning: "let me see"}, ""},
}

// nearOf starts a simulated backend and a proxy before it.
func nearOf(t *testing.T, api string, opt sim.Options) (*running, *sim.Server) {
	t.Helper()
	s := sim.New(opt)
	addr, err := s.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	url := "http://" + strings.TrimPrefix(addr, "http://")
	if !strings.HasSuffix(url, "/v1") {
		url += "/v1"
	}
	near := fmt.Sprintf(`near: {baseUrl: %q, apiKey: "sk-secret", api: %q, models: [{id: "m", contextWindow: 100000, input: ["text", "image"], reasoning: true}]}`, url, api)
	return start(t, configOf(`providers: {near: {breaker: {disabled: true}}}`, near)), s
}

const onePixel = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="

// acceptance are the requests of the Open Responses list that go over HTTP.
var acceptance = []struct{ name, body, item string }{
	{"basic response", `"input":[{"type":"message","role":"user","content":"Say hello in exactly 3 words."}]`, "message"},
	{"assistant phase", `"input":[{"type":"message","role":"user","content":"Plan a trip."},{"type":"message","role":"assistant","content":"I will look.","phase":"commentary"},` +
		`{"type":"message","role":"assistant","content":"Oslo.","phase":"final_answer"},{"type":"message","role":"user","content":"Shorter."}]`, "message"},
	{"system prompt", `"input":[{"type":"message","role":"system","content":"You are a pirate."},{"type":"message","role":"user","content":"Say hello."}]`, "message"},
	{"tool calling", `"input":[{"type":"message","role":"user","content":"What's the weather like in San Francisco?"}],` +
		`"tools":[{"type":"function","name":"get_weather","description":"Get the weather","parameters":{"type":"object","properties":{"location":{"type":"string"}},"required":["location"]}}]`, "function_call"},
	{"image input", `"input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"What is this?"},{"type":"input_image","image_url":"` + onePixel + `"}]}]`, "message"},
	{"multi turn", `"input":[{"type":"message","role":"user","content":"My name is Alice."},{"type":"message","role":"assistant","content":"Hello Alice!"},{"type":"message","role":"user","content":"What is my name?"}]`, "message"},
}

// Each request of the list, whole and streamed, over each kind of backend, is
// answered in the exact shape, and both ways say the same.
func TestOpenResponsesAcceptance(t *testing.T) {
	for _, d := range nearDialects {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			p, _ := nearOf(t, d.api, d.opt)
			for _, c := range acceptance {
				body := `{"model":"default",` + c.body + `}`
				p.post("/v1/responses", body) // a backend with a prompt cache counts the first of its kind differently
				got := p.post("/v1/responses", body)
				whole, flaw := resourceOf(got.body)
				if got.status != 200 || flaw != "" {
					t.Errorf("%s: got %d, %s\n%s", c.name, got.status, flaw, got.body)
					continue
				}
				stream := p.post("/v1/responses", strings.TrimSuffix(body, "}")+`,"stream":true}`)
				streamed, flaw := eventsOf(stream.body, 0)
				if stream.status != 200 || flaw != "" {
					t.Errorf("%s, streamed: got %d, %s\n%s", c.name, stream.status, flaw, stream.body)
					continue
				}
				for _, r := range []map[string]any{whole, streamed} {
					found := false
					for _, it := range list(r["output"]) {
						found = found || it["type"] == c.item
					}
					if r["status"] != "completed" || !found || r["completed_at"] == nil || r["usage"] == nil || r["store"] != true || r["model"] != "near/m" {
						t.Errorf("%s: want a completed, stored response of near/m with a %s, usage and completed_at\n%v", c.name, c.item, r)
					}
				}
				if a, b := told(whole), told(streamed); a != b {
					t.Errorf("%s: whole and streamed differ\n%s\n%s", c.name, a, b)
				}
				for _, r := range []map[string]any{whole, streamed} { // and can be read again as it was told
					id := fmt.Sprint(r["id"])
					again, flaw := resourceOf(p.get("/v1/responses/" + id).body)
					if flaw != "" || told(again) != told(r) || again["id"] != r["id"] {
						t.Errorf("%s: read again: %s\n%v\n%v", c.name, flaw, again, r)
					}
					replayed := p.get("/v1/responses/" + id + "?stream=true")
					if end, flaw := eventsOf(replayed.body, 0); flaw != "" || told(end) != told(r) {
						t.Errorf("%s: replayed: %s\n%s", c.name, flaw, replayed.body)
					}
				}
			}
		})
	}
}

// told is what a resource says, without what differs from answer to answer.
func told(r map[string]any) string {
	var b strings.Builder
	for _, it := range list(r["output"]) {
		fmt.Fprint(&b, it["type"], it["role"], it["name"], it["arguments"], it["status"])
		for _, key := range []string{"content", "summary"} {
			for _, p := range list(it[key]) {
				fmt.Fprintf(&b, " %v=%q", p["type"], p["text"])
			}
		}
		b.WriteByte('\n')
	}
	u, _ := json.Marshal(r["usage"])
	fmt.Fprint(&b, r["status"], r["incomplete_details"], string(u))
	return b.String()
}

// A compaction has an item that stands for the conversation. Handed in again it
// reaches the backend as a summary; what is not ours is refused.
func TestOpenResponsesCompaction(t *testing.T) {
	for _, d := range nearDialects[:4] {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			opt := d.opt
			opt.Reply = "the summary: blue whales"
			p, s := nearOf(t, d.api, opt)
			got := p.post("/v1/responses/compact", `{"model":"default","prompt_cache_key":"k","input":[{"type":"message","role":"user","content":"I like blue whales."},{"type":"message","role":"assistant","content":[{"type":"output_text","text":"Noted."}]}]}`)
			var v map[string]any
			if err := json.Unmarshal([]byte(got.body), &v); err != nil || got.status != 200 {
				t.Fatalf("got %d %s", got.status, got.body)
			}
			out := list(v["output"])
			if v["object"] != "response.compaction" || len(out) != 2 || out[0]["role"] != "user" || out[1]["type"] != "compaction" || v["created_at"] == nil || usageShape(v["usage"]) != "" {
				t.Fatalf("got %s", got.body)
			}
			items, _ := json.Marshal(out)
			next := strings.TrimSuffix(string(items), "]") + `,{"role":"user","content":"Which animal?"}]`
			if got = p.post("/v1/responses", `{"model":"default","input":`+next+`}`); got.status != 200 {
				t.Fatalf("with the compaction: got %d %s", got.status, got.body)
			}
			all := s.Requests()
			if sent := string(all[len(all)-1].Body); !strings.Contains(sent, "the summary: blue whales") || strings.Contains(sent, "encrypted_content") {
				t.Errorf("the backend got %s", sent)
			}
			for name, blob := range map[string]string{"foreign": "gAAAAABforeign", "tampered": tampered(fmt.Sprint(out[1]["encrypted_content"]))} {
				got = p.post("/v1/responses", `{"model":"default","input":[{"type":"compaction","encrypted_content":"`+blob+`"},{"role":"user","content":"hi"}]}`)
				if e := got.failure(); got.status != 400 || e["code"] != "invalid_encrypted_content" {
					t.Errorf("%s: got %d %s", name, got.status, got.body)
				}
			}
			got = p.post("/v1/responses/compact", `{"input":"hi"}`)
			if e := got.failure(); got.status != 400 || e["param"] != "model" || e["code"] != "missing_required_parameter" {
				t.Errorf("without a model: got %d %s", got.status, got.body)
			}
		})
	}
}

// tampered changes one character in the middle.
func tampered(s string) string {
	b := []byte(s)
	if i := len(b) / 2; b[i] == 'A' {
		b[i] = 'B'
	} else {
		b[i] = 'A'
	}
	return string(b)
}

// What is compacted may be a stored chain; its own items are judged as those of
// any request.
func TestCompactionOfAStoredChain(t *testing.T) {
	p, b := service(t, "", chat("first answer"), chat("all in short"))
	one := p.respond(`"input":"first question"`)
	b.next()
	got := p.post("/v1/responses/compact", `{"model":"default","previous_response_id":"`+fmt.Sprint(one["id"])+`"}`)
	out := list(object(t, got)["output"])
	if got.status != 200 || len(out) != 2 || out[0]["role"] != "user" || out[1]["type"] != "compaction" {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	if sent := turns(t, b.next().body); !strings.HasPrefix(sent, "user: first question\nassistant: first answer\nuser: ") {
		t.Errorf("the summary was made of\n%s", sent)
	}
	refuses(t, "a wrong input", p.post("/v1/responses/compact", `{"model":"default","input":7}`), 400, "input", "invalid_type")
	refuses(t, "nothing", p.post("/v1/responses/compact", `{"model":"default"}`), 400, "input", "missing_required_parameter")
	refuses(t, "an unknown chain", p.post("/v1/responses/compact", `{"model":"default","previous_response_id":"resp_none"}`), 400, "previous_response_id", "previous_response_not_found")
	refuses(t, "an unknown model", p.post("/v1/responses/compact", `{"model":"nope/none","input":"x"}`), 404, "model", "model_not_found")
	if b.count() != 2 {
		t.Errorf("the backend was asked %d times", b.count())
	}
}
