package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"nearside/upstream/sim"
)

// A backend that speaks Responses itself stores nothing for us and knows
// nothing of our ids: what its answers say of both is ours, whole and streamed.
func TestCopiedResponsesAreOurs(t *testing.T) {
	for _, kind := range []string{"", `kind: "openai", `} {
		t.Run("kind "+kind, func(t *testing.T) {
			s := sim.New(sim.Options{Reply: "simulated words"})
			addr, err := s.Start("127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			url := "http://" + strings.TrimSuffix(strings.TrimPrefix(addr, "http://"), "/v1") + "/v1"
			p := start(t, configOf(`providers: {near: {`+kind+`breaker: {disabled: true}}}`, provider("near", url, "openai-responses")))
			ask := func(members string) map[string]any {
				t.Helper()
				whole := p.respond(members)
				stream := p.post("/v1/responses", `{"model":"default","stream":true,`+members+`}`)
				streamed, flaw := eventsOf(stream.body, 0)
				if stream.status != 200 || flaw != "" {
					t.Fatalf("%s, streamed: %d %s\n%s", members, stream.status, flaw, stream.body)
				}
				for _, key := range []string{"store", "previous_response_id", "background", "instructions", "metadata", "prompt_cache_key"} {
					if fmt.Sprint(whole[key]) != fmt.Sprint(streamed[key]) {
						t.Errorf("%s: %s is %v whole and %v streamed", members, key, whole[key], streamed[key])
					}
				}
				for _, r := range []map[string]any{whole, streamed} {
					got := p.get("/v1/responses/" + fmt.Sprint(r["id"]))
					if stored := got.status == 200; stored != (r["store"] == true) || stored && fmt.Sprint(object(t, got)) != fmt.Sprint(r) {
						t.Errorf("%s: it says store %v, and reading gives %d\n%s\n%v", members, r["store"], got.status, got.body, r)
					}
				}
				return streamed
			}
			one := ask(`"input":"first"`)
			if one["store"] != true || one["previous_response_id"] != nil {
				t.Errorf("the first says %v %v", one["store"], one["previous_response_id"])
			}
			two := ask(`"input":"second","instructions":"be brief","metadata":{"a":"b"},"previous_response_id":"` + fmt.Sprint(one["id"]) + `"`)
			if two["previous_response_id"] != one["id"] || two["instructions"] != "be brief" {
				t.Errorf("the second says %v %v", two["previous_response_id"], two["instructions"])
			}
			if off := ask(`"input":"third","store":false`); off["store"] != false {
				t.Errorf("store: false says %v", off["store"])
			}
			for _, r := range s.Requests() {
				sent := string(r.Body)
				if r.Method != "POST" {
					continue
				}
				if strings.Contains(sent, "previous_response_id") || strings.Contains(sent, `"background"`) || strings.Contains(sent, `"store":true`) {
					t.Errorf("the backend got %s", sent)
				}
				if strings.Contains(sent, `second`) && !(strings.Contains(sent, "first") && strings.Contains(sent, "simulated words")) {
					t.Errorf("the second turn sent %s", sent)
				}
			}
			back := object(t, p.post("/v1/responses", `{"model":"default","input":"later","background":true}`))
			if end := p.polled(fmt.Sprint(back["id"]), "completed"); end["background"] != true || outputText(end) != "simulated words" || end["created_at"] != back["created_at"] {
				t.Errorf("in the background: %v", end)
			}
		})
	}
}

// What the request says of itself is repeated, whatever the backend.
func TestResponsesEchoTheirRequest(t *testing.T) {
	for _, d := range nearDialects[:4] {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			p, s := nearOf(t, d.api, d.opt)
			members := `"input":"hi","instructions":"be brief","parallel_tool_calls":false,"max_tool_calls":3,"max_output_tokens":500,"truncation":"auto","metadata":{"a":"b"},` +
				`"prompt_cache_key":"pk","safety_identifier":"si","tool_choice":"none","reasoning":{"effort":"low"},"include":["reasoning.encrypted_content"],` +
				`"tools":[{"type":"function","name":"f","parameters":{"type":"object","properties":{}}}],` +
				`"text":{"format":{"type":"json_schema","name":"n","description":null,"strict":true,"schema":{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}},"verbosity":"low"}`
			check := func(how string, r map[string]any, dropped string) {
				t.Helper()
				text, _ := r["text"].(map[string]any)
				format, _ := text["format"].(map[string]any)
				reasoning, _ := r["reasoning"].(map[string]any)
				got := fmt.Sprint(r["instructions"], r["parallel_tool_calls"], r["max_tool_calls"], r["max_output_tokens"], r["truncation"], r["metadata"], r["prompt_cache_key"],
					r["safety_identifier"], r["tool_choice"], reasoning["effort"], format["name"], text["verbosity"], len(list(r["tools"])))
				if want := "be brief false 3 500 auto map[a:b] pk si none low n low 1"; strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(want, " ", "") {
					t.Errorf("%s: got %s\nwant %s", how, got, want)
				}
				if d.api != "openai-responses" && !strings.Contains(dropped, "max_tool_calls") {
					t.Errorf("%s: dropped %q", how, dropped)
				}
				if !strings.Contains(dropped, "prompt_cache_key") {
					t.Errorf("%s: prompt_cache_key goes silently: dropped %q", how, dropped)
				}
			}
			got := p.post("/v1/responses", `{"model":"default",`+members+`}`)
			r, flaw := resourceOf(got.body)
			if got.status != 200 || flaw != "" {
				t.Fatalf("got %d %s\n%s", got.status, flaw, got.body)
			}
			check("whole", r, got.header.Get("X-Nearside-Dropped"))
			got = p.post("/v1/responses", `{"model":"default","stream":true,`+members+`}`)
			if r, flaw = eventsOf(got.body, 0); flaw != "" {
				t.Fatalf("%s\n%s", flaw, got.body)
			}
			check("streamed", r, got.header.Get("X-Nearside-Dropped"))
			all := s.Requests()
			if sent := string(all[len(all)-1].Body); !strings.Contains(sent, `"additionalProperties":false`) {
				t.Errorf("the format did not reach the backend: %s", sent)
			}
		})
	}
}

// A stateless client carries the reasoning of a backend that has no envelopes
// of its own; what is not ours, or was changed, is taken out and noted.
func TestEncryptedReasoningOfAStatelessClient(t *testing.T) {
	p, b := service(t, "", whole(200, `{"id":"c","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":null,"reasoning_content":"I must look",`+
		`"tool_calls":[{"id":"call_1","type":"function","function":{"name":"look","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}`), chat("seen"))
	ask := `"store":false,"include":["reasoning.encrypted_content"],"tools":[{"type":"function","name":"look","parameters":{"type":"object","properties":{}}}]`
	one := p.respond(`"input":"look",` + ask)
	b.next()
	out := list(one["output"])
	if len(out) != 2 || out[0]["type"] != "reasoning" || out[0]["encrypted_content"] == nil {
		t.Fatalf("got %v", one)
	}
	env := fmt.Sprint(out[0]["encrypted_content"])
	if strings.Contains(env, "look") {
		t.Errorf("the envelope can be read: %s", env)
	}
	again := func(envelope string) (string, string) {
		t.Helper()
		got := p.post("/v1/responses", `{"model":"default",`+ask+`,"input":[{"role":"user","content":"look"},{"type":"reasoning","id":"rs_1","summary":[],"content":null,"encrypted_content":"`+envelope+
			`"},{"type":"function_call","call_id":"call_1","name":"look","arguments":"{}"},{"type":"function_call_output","call_id":"call_1","output":"a bird"}]}`)
		if got.status != 200 {
			t.Fatalf("got %d %s", got.status, got.body)
		}
		return string(b.next().body), got.header.Get("X-Nearside-Dropped")
	}
	sent, dropped := again(env)
	if strings.Contains(sent, env) || strings.Contains(dropped, "encrypted_content") {
		t.Errorf("our own: sent %s, dropped %q", sent, dropped)
	}
	for name, e := range map[string]string{"tampered": tampered(env), "foreign": "gAAAAABforeign"} {
		sent, dropped := again(e)
		if strings.Contains(sent, e) || !strings.Contains(dropped, "input[1]") || !strings.Contains(sent, "a bird") {
			t.Errorf("%s: sent %s, dropped %q", name, sent, dropped)
		}
	}
}

// Whatever was acknowledged before a kill is there after it, and the file opens.
func TestStoredResponsesOutliveAKill(t *testing.T) {
	b := newBackend(t, chat("an answer"))
	config := configOf(fmt.Sprintf(`dataDir: %q, providers: {near: {breaker: {disabled: true}}}`, t.TempDir()), provider("near", b.url, "openai-completions"))
	for round := range 3 {
		p := start(t, config)
		var mu sync.Mutex
		var kept []string
		enough := make(chan struct{})
		var wg sync.WaitGroup
		for n := range 4 {
			wg.Go(func() {
				for {
					body := fmt.Sprintf(`{"model":"default","input":"round %d","stream":%v}`, round, n%2 == 0)
					resp, err := client.Post(p.base+"/v1/responses", "application/json", strings.NewReader(body))
					if err != nil {
						return
					}
					got := read(resp)
					if !strings.Contains(got, `"status":"completed"`) || n%2 == 0 && !strings.Contains(got, "data: [DONE]") {
						return
					}
					_, after, _ := strings.Cut(got, `"id":"resp_`)
					id, _, _ := strings.Cut(after, `"`)
					mu.Lock()
					if kept = append(kept, "resp_"+id); len(kept) == 40 {
						close(enough)
					}
					mu.Unlock()
				}
			})
		}
		<-enough
		p.kill()
		wg.Wait()
		again := start(t, config)
		for _, id := range kept {
			got := again.get("/v1/responses/" + id)
			if r, flaw := resourceOf(got.body); got.status != 200 || flaw != "" || r["status"] != "completed" || r["store"] != true {
				t.Fatalf("round %d: %s: %d %s\n%s", round, id, got.status, flaw, got.body)
			}
		}
		again.respond(`"input":"go on","previous_response_id":"` + kept[len(kept)-1] + `"`)
		again.stop()
	}
}

// Of two proxies with one data folder the second keeps its responses in memory,
// and says so.
func TestSecondProxyOfADataFolder(t *testing.T) {
	b := newBackend(t, chat("an answer"))
	config := configOf(fmt.Sprintf(`dataDir: %q, providers: {near: {breaker: {disabled: true}}}`, t.TempDir()), provider("near", b.url, "openai-completions"))
	first, second := start(t, config), start(t, config)
	second.until("the second says so", func() bool { return strings.Contains(second.output(), "responses are kept in memory only") })
	one := first.respond(`"input":"hi"`)
	two := second.respond(`"input":"hi"`)
	if got := second.get("/v1/responses/" + fmt.Sprint(two["id"])); got.status != 200 || two["store"] != true {
		t.Errorf("the second has its own: %d", got.status)
	}
	if got := second.get("/v1/responses/" + fmt.Sprint(one["id"])); got.status != 404 {
		t.Errorf("the second has the first's: %d", got.status)
	}
	second.stop()
	first.stop()
	again := start(t, config)
	for id, status := range map[any]int{one["id"]: 200, two["id"]: 404} {
		if got := again.get("/v1/responses/" + fmt.Sprint(id)); got.status != status {
			t.Errorf("after a restart: %d, want %d", got.status, status)
		}
	}
}

func read(resp *http.Response) string {
	defer resp.Body.Close()
	p, _ := io.ReadAll(resp.Body)
	return string(p)
}
