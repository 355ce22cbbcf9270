package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"nearside/upstream/sim"
)

// wsClient is a client's WebSocket, of a library that is not the server's.
type wsClient struct {
	t    *testing.T
	c    *websocket.Conn
	head http.Header // of the upgrade's answer
}

func (r *running) dialSocket(t *testing.T, headers ...string) (*wsClient, *http.Response, error) {
	t.Helper()
	h := http.Header{"Authorization": {"Bearer key-a"}, "Content-Type": {"application/json"}, "Openai-Beta": {"responses_websockets=2026-02-06"}}
	for i := 0; i+1 < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, resp, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(r.base, "http")+"/v1/responses",
		&websocket.DialOptions{HTTPHeader: h, CompressionMode: websocket.CompressionContextTakeover}) // offered, as Codex does
	if err != nil {
		return nil, resp, err
	}
	c.SetReadLimit(-1)
	t.Cleanup(func() { c.CloseNow() })
	return &wsClient{t, c, resp.Header}, resp, nil
}

func (r *running) socket(t *testing.T, headers ...string) *wsClient {
	t.Helper()
	w, resp, err := r.dialSocket(t, headers...)
	if err != nil {
		t.Fatalf("upgrade: %v %v\n%s", err, resp, r.output())
	}
	return w
}

func (w *wsClient) send(body string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	if err := w.c.Write(ctx, websocket.MessageText, []byte(body)); err != nil {
		w.t.Fatalf("send %s: %v", body, err)
	}
}

// create sends a response.create; members is the inside of its object.
func (w *wsClient) create(members string) {
	w.t.Helper()
	w.send(`{"type":"response.create","model":"default",` + members + `}`)
}

func (w *wsClient) read() (map[string]any, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	kind, p, err := w.c.Read(ctx)
	if err != nil {
		return nil, err
	}
	var v map[string]any
	if kind != websocket.MessageText || json.Unmarshal(p, &v) != nil {
		w.t.Fatalf("a frame that is not one JSON text: %v %s", kind, p)
	}
	return v, nil
}

// heard is what came of one turn.
type heard struct {
	events   []map[string]any
	resource map[string]any // of the terminal event
	failure  map[string]any // the error frame's own object
	status   int            // of an error frame
}

// turn reads until a response has ended, or an error frame told that there is none.
func (w *wsClient) turn() heard {
	w.t.Helper()
	var h heard
	for {
		v, err := w.read()
		if err != nil {
			w.t.Fatalf("after %d events: %v", len(h.events), err)
		}
		kind, _ := v["type"].(string)
		if e, ok := v["error"].(map[string]any); ok && kind == "error" && v["sequence_number"] == nil {
			h.failure = e
			if n, ok := v["status"].(float64); ok {
				h.status = int(n)
			}
			if _, ok := e["code"].(string); !ok || h.status < 400 {
				w.t.Errorf("an error frame without a code or a status: %v", v)
			}
			return h
		}
		h.events = append(h.events, v)
		switch kind {
		case "response.completed", "response.incomplete", "response.failed":
			h.resource, _ = v["response"].(map[string]any)
			return h
		}
	}
}

// completed insists on a regular turn: numbered events in order, a complete
// resource, all under one id.
func (h heard) completed(t *testing.T) heard {
	t.Helper()
	if h.resource == nil || h.resource["status"] != "completed" {
		t.Fatalf("not completed: %v %v after %v", h.resource, h.failure, h.events)
	}
	for i, v := range h.events {
		if v["sequence_number"] != float64(i) {
			t.Errorf("event %d is numbered %v", i, v["sequence_number"])
		}
		if r, ok := v["response"].(map[string]any); ok && r["id"] != h.resource["id"] {
			t.Errorf("event %d is of %v, want %v", i, r["id"], h.resource["id"])
		}
	}
	if h.events[0]["type"] != "response.created" {
		t.Errorf("the first event is %v", h.events[0]["type"])
	}
	for _, key := range strings.Fields(`id created_at completed_at status incomplete_details model previous_response_id instructions output error tools tool_choice
		truncation parallel_tool_calls text top_p presence_penalty frequency_penalty top_logprobs temperature reasoning usage max_output_tokens max_tool_calls
		store background service_tier safety_identifier prompt_cache_key`) {
		v, ok := h.resource[key]
		if !ok {
			t.Errorf("the resource lacks %s", key)
		}
		if v == nil && slices.Contains([]string{"temperature", "top_p", "presence_penalty", "frequency_penalty", "top_logprobs", "service_tier", "store"}, key) {
			t.Errorf("the resource's %s is null", key)
		}
	}
	return h
}

func (h heard) id() string { return fmt.Sprint(h.resource["id"]) }

func (h heard) code() string { return fmt.Sprint(h.failure["code"]) }

// text is what the response says.
func (h heard) text() string {
	var b strings.Builder
	for _, item := range list(h.resource["output"]) {
		for _, part := range list(item["content"]) {
			if s, ok := part["text"].(string); ok && part["type"] == "output_text" {
				b.WriteString(s)
			}
		}
	}
	return b.String()
}

// socketSim starts a simulated backend and gives its configuration.
func socketSim(t *testing.T, api string, more ...string) (*sim.Server, string) {
	t.Helper()
	opt := sim.Options{}
	if api == "anthropic-messages" {
		opt.Profile = sim.Anthropic
	}
	s := sim.New(opt)
	base, err := s.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	p := provider("near", base+"/v1", api, more...)
	return s, strings.Replace(p, "near: {", `near: {apiKey: "a-key", `, 1)
}

var socketDialects = []string{"openai-completions", "openai-responses", "anthropic-messages"}

const user = `{"type":"message","role":"user","content":"%s"}`

func said1(text string) string { return `"input":[` + fmt.Sprintf(user, text) + `]` }

// The seven WebSocket rows of the Open Responses acceptance list, over a near
// backend of each dialect.
func TestSocketAcceptance(t *testing.T) {
	for _, api := range socketDialects {
		t.Run(api, func(t *testing.T) {
			t.Parallel()
			backend, near := socketSim(t, api)
			p := start(t, configOf("providers: {}", near))
			f := func(name string, test func(t *testing.T)) { t.Run(name, test) }
			f("websocket-response", func(t *testing.T) {
				w := p.socket(t)
				if e := w.head.Get("Sec-WebSocket-Extensions"); e != "" {
					t.Errorf("accepted extensions %q", e)
				}
				w.create(said1("Say hello"))
				if h := w.turn().completed(t); h.text() == "" {
					t.Errorf("says nothing: %v", h.resource)
				}
			})
			f("websocket-sequential-responses", func(t *testing.T) {
				w := p.socket(t)
				w.create(said1("first") + `,"store":false`)
				w.create(said1("second") + `,"store":false`)
				one, two := w.turn().completed(t), w.turn().completed(t)
				if one.id() == two.id() || !strings.Contains(one.text(), "first") || !strings.Contains(two.text(), "second") {
					t.Errorf("%s %q, %s %q", one.id(), one.text(), two.id(), two.text())
				}
			})
			f("websocket-continuation", func(t *testing.T) {
				w := p.socket(t)
				w.create(said1("remember the kiwi") + `,"store":false`)
				one := w.turn().completed(t)
				w.create(said1("and now") + `,"store":false,"previous_response_id":"` + one.id() + `"`)
				two := w.turn().completed(t)
				if two.resource["previous_response_id"] != one.id() || two.resource["store"] != false {
					t.Errorf("%v %v", two.resource["previous_response_id"], two.resource["store"])
				}
				asked := backend.Requests()
				sent := string(asked[len(asked)-1].Body)
				if !strings.Contains(sent, "remember the kiwi") || !strings.Contains(sent, "and now") || !strings.Contains(sent, `"assistant"`) || strings.Contains(sent, "previous_response_id") {
					t.Errorf("sent %s", sent)
				}
				w.create(said1("third") + `,"store":false,"previous_response_id":"` + two.id() + `"`)
				w.turn().completed(t)
				asked = backend.Requests()
				sent = string(asked[len(asked)-1].Body)
				for _, text := range []string{"remember the kiwi", "and now", "third"} {
					if strings.Count(sent, text) < 1 {
						t.Errorf("the third turn lacks %q: %s", text, sent)
					}
				}
			})
			f("websocket-reconnect-store-false-recovery", func(t *testing.T) {
				w := p.socket(t)
				w.create(said1("one") + `,"store":false`)
				id := w.turn().completed(t).id()
				w.c.Close(websocket.StatusNormalClosure, "")
				w = p.socket(t)
				w.create(said1("two") + `,"store":false,"previous_response_id":"` + id + `"`)
				if h := w.turn(); h.code() != "previous_response_not_found" || h.status != 400 || h.failure["param"] != "previous_response_id" || h.failure["type"] != "invalid_request_error" {
					t.Errorf("got %d %v %v", h.status, h.failure, h.resource)
				}
				w.create(said1("two") + `,"store":false`)
				w.turn().completed(t)
			})
			f("websocket-previous-response-not-found", func(t *testing.T) {
				w := p.socket(t)
				w.create(said1("two") + `,"store":false,"previous_response_id":"resp_x"`)
				if h := w.turn(); h.code() != "previous_response_not_found" || h.failure["message"] != "Previous response with id 'resp_x' not found." {
					t.Errorf("got %v", h.failure)
				}
			})
			f("websocket-failed-continuation-evicts-cache", func(t *testing.T) {
				w := p.socket(t)
				w.create(said1("one") + `,"store":false`)
				id := w.turn().completed(t).id()
				w.create(`"store":false,"previous_response_id":"` + id + `","input":[{"type":"function_call_output","call_id":"call_unknown","output":"x"}]`)
				if h := w.turn(); h.failure == nil && h.resource["status"] != "failed" {
					t.Fatalf("an output without its call: %v", h.resource)
				}
				w.create(said1("again") + `,"store":false,"previous_response_id":"` + id + `"`)
				if h := w.turn(); h.code() != "previous_response_not_found" {
					t.Errorf("got %v %v", h.failure, h.resource)
				}
			})
			f("websocket-compact-new-chain", func(t *testing.T) {
				got := p.post("/v1/responses/compact", `{"model":"default","input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"My name is Ada."}]},`+
					`{"type":"message","role":"assistant","content":[{"type":"output_text","text":"Hello Ada.","annotations":[]}]}]}`)
				var v struct{ Output []json.RawMessage }
				if err := json.Unmarshal([]byte(got.body), &v); err != nil || got.status != 200 || !strings.Contains(got.body, `"type":"compaction"`) {
					t.Fatalf("%d %s", got.status, got.body)
				}
				var input []string
				for _, o := range v.Output {
					input = append(input, string(o))
				}
				input = append(input, fmt.Sprintf(user, "What is my name?"))
				w := p.socket(t)
				w.create(`"store":false,"tools":[],"input":[` + strings.Join(input, ",") + `]`)
				h := w.turn().completed(t)
				w.create(said1("go on") + `,"store":false,"tools":[],"previous_response_id":"` + h.id() + `"`)
				w.turn().completed(t)
			})
		})
	}
}

// What Codex does: it warms a socket up with all it has to say and no generation,
// then continues from that with what is new, and sends fields that a socket has
// no use for.
func TestSocketWarmUpAndToleratedFields(t *testing.T) {
	backend, near := socketSim(t, "openai-completions")
	p := start(t, configOf("providers: {}", near))
	w := p.socket(t)
	w.create(`"generate":false,"store":false,"stream":true,"stream_id":"lane-1","instructions":"be brief",` + said1("the whole context") +
		`,"tools":[{"type":"function","name":"exec_command","parameters":{"type":"object","properties":{}},"strict":false}],"tool_choice":"auto","client_metadata":{"thread_id":"t"}`)
	warm := w.turn().completed(t)
	if kinds := []any{warm.events[0]["type"], warm.events[len(warm.events)-1]["type"]}; kinds[0] != "response.created" || kinds[1] != "response.completed" || len(list(warm.resource["output"])) != 0 {
		t.Errorf("a warm-up: %v", warm.events)
	}
	for _, r := range backend.Requests() {
		if r.Method == "POST" {
			t.Errorf("the warm-up asked the backend: %s %s", r.Path, r.Body)
		}
	}
	w.create(`"store":false,"stream":true,"stream_id":"lane-1","background":false,"stream_options":{"include_obfuscation":true},"previous_response_id":"` + warm.id() + `",` + said1("what is new"))
	h := w.turn().completed(t)
	asked := backend.Requests()
	sent := string(asked[len(asked)-1].Body)
	if !strings.Contains(sent, "the whole context") || !strings.Contains(sent, "what is new") || strings.Contains(sent, "stream_id") || strings.Contains(sent, "generate") {
		t.Errorf("sent %s", sent)
	}
	if h.resource["background"] != false {
		t.Errorf("background %v", h.resource["background"])
	}
	// background:true, which the protocol forbids here, is a turn like another.
	w.create(`"store":false,"background":true,` + said1("x"))
	w.turn().completed(t)
}

// A tool call goes out on the socket and its output comes back on it, with
// nothing stored between.
func TestSocketCallsTools(t *testing.T) {
	for _, api := range socketDialects {
		t.Run(api, func(t *testing.T) {
			t.Parallel()
			backend, near := socketSim(t, api)
			p := start(t, configOf("providers: {}", near))
			w := p.socket(t)
			tools := `,"tools":[{"type":"function","name":"get_weather","description":"w","parameters":{"type":"object","properties":{"location":{"type":"string"}}},"strict":null}]`
			w.create(said1("What is the weather in Rome?") + `,"store":false` + tools)
			one := w.turn().completed(t)
			call := ""
			for _, item := range list(one.resource["output"]) {
				if item["type"] == "function_call" {
					call = fmt.Sprint(item["call_id"])
				}
			}
			if call == "" {
				t.Fatalf("no call: %v", one.resource["output"])
			}
			w.create(`"store":false,"previous_response_id":"` + one.id() + `","input":[{"type":"function_call_output","call_id":"` + call + `","output":"sunny in Rome"}]` + tools)
			w.turn().completed(t)
			asked := backend.Requests()
			if sent := string(asked[len(asked)-1].Body); !strings.Contains(sent, "sunny in Rome") || !strings.Contains(sent, call) || !strings.Contains(sent, "What is the weather in Rome?") {
				t.Errorf("sent %s", sent)
			}
		})
	}
}

// What is stored can be continued from anywhere, by whoever has the same key.
func TestSocketContinuesWhatIsStored(t *testing.T) {
	backend, near := socketSim(t, "openai-completions")
	p := start(t, configOf("providers: {}", near))
	auth := []string{"Authorization", "Bearer key-a"}
	one := p.post("/v1/responses", `{"model":"default","input":"the plum","store":true}`, auth...)
	id := ""
	one.each(func(v map[string]any) { id = fmt.Sprint(v["id"]) })
	w := p.socket(t)
	w.create(said1("two") + `,"store":true,"previous_response_id":"` + id + `"`)
	two := w.turn().completed(t)
	if two.resource["store"] != true {
		t.Errorf("store %v", two.resource["store"])
	}
	last := func() string { all := backend.Requests(); return string(all[len(all)-1].Body) }
	if !strings.Contains(last(), "the plum") {
		t.Errorf("HTTP to socket: sent %s", last())
	}
	other := p.socket(t)
	other.create(said1("three") + `,"previous_response_id":"` + two.id() + `"`)
	other.turn().completed(t)
	if !strings.Contains(last(), "the plum") || !strings.Contains(last(), "two") {
		t.Errorf("socket to socket: sent %s", last())
	}
	got := p.post("/v1/responses", `{"model":"default","input":"four","previous_response_id":"`+two.id()+`"}`, auth...)
	if got.status != 200 || !strings.Contains(last(), "the plum") {
		t.Errorf("socket to HTTP: %d %s", got.status, got.body)
	}
	stranger := p.socket(t, "Authorization", "Bearer key-b")
	stranger.create(said1("mine?") + `,"previous_response_id":"` + two.id() + `"`)
	if h := stranger.turn(); h.code() != "previous_response_not_found" {
		t.Errorf("another key continues it: %v %v", h.failure, h.resource)
	}
	// A turn stores its own input, not the history that is stored already.
	req, _ := http.NewRequest("GET", p.base+"/v1/responses/"+two.id()+"/input_items", nil)
	req.Header.Set("Authorization", "Bearer key-a")
	if items := p.do(req); items.status != 200 || strings.Contains(items.body, "the plum") || !strings.Contains(items.body, "two") {
		t.Errorf("input items: %d %s", items.status, items.body)
	}
	// One that builds on what only the socket knows is stored with it.
	w.create(said1("unkept fig") + `,"store":false`)
	unkept := w.turn().completed(t)
	w.create(said1("kept") + `,"store":true,"previous_response_id":"` + unkept.id() + `"`)
	kept := w.turn().completed(t)
	got = p.post("/v1/responses", `{"model":"default","input":"five","previous_response_id":"`+kept.id()+`"}`, auth...)
	if got.status != 200 || !strings.Contains(last(), "unkept fig") {
		t.Errorf("%d %s sent %s", got.status, got.body, last())
	}
	if got = p.post("/v1/responses", `{"model":"default","input":"six","previous_response_id":"`+unkept.id()+`"}`, auth...); got.status != 400 {
		t.Errorf("what was not stored is continued elsewhere: %d %s", got.status, got.body)
	}
}

// Where no upgrade is possible, the status says what to do instead.
func TestSocketUpgradeIsRefused(t *testing.T) {
	_, near := socketSim(t, "openai-completions")
	p := start(t, configOf("responses: {sockets: 1}", near))
	off := start(t, configOf("responses: {webSocket: false}", near))
	f := func(p *running, status int, code string, headers ...string) {
		t.Helper()
		w, resp, err := p.dialSocket(t, headers...)
		if w != nil || resp == nil || resp.StatusCode != status {
			t.Fatalf("%v: got %v %v, want %d", headers, resp, err, status)
		}
		var v struct{ Error struct{ Code string } }
		if json.NewDecoder(resp.Body).Decode(&v); v.Error.Code != code {
			t.Errorf("%v: code %q, want %q", headers, v.Error.Code, code)
		}
	}
	req, _ := http.NewRequest("GET", p.base+"/v1/responses", nil)
	for k, v := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "8", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
		req.Header.Set(k, v)
	}
	if got := p.do(req); got.status != 400 || got.header.Get("Sec-WebSocket-Version") != "13" {
		t.Errorf("an old version: %d %v", got.status, got.header)
	}
	f(off, 426, "websocket_not_supported")
	f(p, 403, "origin_refused", "Origin", "https://evil.example")
	f(p, 403, "origin_refused", "Origin", "null")
	own := p.socket(t, "Origin", "http://"+p.addr)
	f(p, 503, "overloaded")
	own.c.CloseNow()
	p.untilSocket(t) // its place is free again
	for _, p := range []*running{p, off} {
		if got := p.get("/v1/responses"); got.status != 405 || got.header.Get("Allow") != "POST" {
			t.Errorf("a plain GET: %d %v %s", got.status, got.header, got.body)
		}
	}
}

// untilSocket opens a socket as soon as there is a place for one.
func (r *running) untilSocket(t *testing.T) *wsClient {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		w, resp, err := r.dialSocket(t)
		if err == nil {
			return w
		}
		if time.Now().After(end) {
			t.Fatalf("no place: %v %v", resp, err)
		}
		runtime.Gosched()
	}
}

// Whatever is wrong with a message is said on the socket, which goes on.
func TestSocketSurvivesWrongMessages(t *testing.T) {
	_, near := socketSim(t, "openai-completions")
	p := start(t, configOf("providers: {}", near))
	w := p.socket(t)
	f := func(message, code, param string) {
		t.Helper()
		w.send(message)
		if h := w.turn(); h.failure == nil || code != "" && h.code() != code || param != "" && h.failure["param"] != param {
			t.Errorf("%s: %v %v, want %s %s", message, h.failure, h.resource, code, param)
		}
	}
	f(`not json`, "", "")
	f(`[]`, "", "")
	f(`{}`, "invalid_value", "type")
	f(`{"type":7}`, "invalid_value", "type")
	f(`{"type":"session.update"}`, "invalid_value", "type")
	f(`{"type":"response.steer","input":"x"}`, "steering_not_supported", "")
	f(`{"type":"response.cancel"}`, "response_cancel_not_active", "")
	f(`{"type":"response.create","input":"hi","model":"nobody/knows"}`, "model_not_found", "")
	f(`{"type":"response.create","model":"default","input":7}`, "", "input")
	f(`{"type":"response.create","model":"default","input":"hi","previous_response_id":"resp_1","conversation":"conv_1"}`, "", "")
	f(`{"type":"response.create","model":"default","input":"`+"\xff\xfe"+`"}`, "", "")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := w.c.Write(ctx, websocket.MessageBinary, []byte(`{"type":"response.create"}`)); err != nil {
		t.Fatal(err)
	}
	if h := w.turn(); h.failure == nil {
		t.Errorf("binary: %v", h)
	}
	// One message in several frames.
	wr, err := w.c.Writer(ctx, websocket.MessageText)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.SplitAfter(`{"type":"response.create","model":"default","input":"in pieces"}`, ",") {
		if _, err := wr.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if err := wr.Close(); err != nil {
		t.Fatal(err)
	}
	if h := w.turn().completed(t); !strings.Contains(h.text(), "in pieces") {
		t.Errorf("says %q", h.text())
	}
}

// A message above the limit ends the socket with the status that says so.
func TestSocketRefusesLargeMessages(t *testing.T) {
	_, near := socketSim(t, "openai-completions")
	p := start(t, configOf("limits: {bodyBytes: 65536}", near))
	w := p.socket(t)
	w.create(said1(strings.Repeat("x", 50<<10)))
	w.turn().completed(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_ = w.c.Write(ctx, websocket.MessageText, []byte(`{"type":"response.create","model":"default",`+said1(strings.Repeat("x", 200<<10))+`}`))
	if _, err := w.read(); websocket.CloseStatus(err) != websocket.StatusMessageTooBig {
		t.Errorf("got %v, want 1009", err)
	}
}

// The client's departure ends what the backend does, however it leaves.
func TestSocketDepartureStopsBackend(t *testing.T) {
	f := func(name string, leave func(*wsClient)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t, stall(sseHead+chunked(chatRole, said("some "))))
			p := start(t, configOf("providers: {}", provider("near", b.url, "openai-completions")))
			w := p.socket(t)
			w.create(said1("hi"))
			for {
				v, err := w.read()
				if err != nil {
					t.Fatal(err)
				}
				if v["type"] == "response.output_text.delta" {
					break
				}
			}
			w.create(said1("waits")) // and never gets to the backend
			leave(w)
			select {
			case <-b.gone:
			case <-time.After(patience):
				t.Fatalf("the backend is still asked\n%s", p.output())
			}
			p.wait("client_closed", func(l string) bool { return strings.Contains(l, "client_closed") })
			if n := b.count(); n != 1 {
				t.Errorf("the backend was asked %d times", n)
			}
		})
	}
	f("without a word", func(w *wsClient) { w.c.CloseNow() })
	f("with a goodbye", func(w *wsClient) { go w.c.Close(websocket.StatusNormalClosure, "") })
}

// A cancel ends the response that runs, or is about to, and nothing else: what
// it was built on can be built on again.
func TestSocketCancel(t *testing.T) {
	b := newBackend(t, func(b *backend, c net.Conn, a asked) bool {
		if ask := string(a.body); strings.Contains(ask, "stall") && !strings.Contains(ask, "three") {
			return stall(sseHead+chunked(chatRole, said("some ")))(b, c, a)
		}
		return chat("fine")(b, c, a)
	})
	p := start(t, configOf("providers: {near: {breaker: {disabled: true}}}", provider("near", b.url, "openai-completions")))
	w := p.socket(t)
	w.create(said1("hi") + `,"store":false`)
	id := w.turn().completed(t).id()
	w.create(said1("stall") + `,"store":false,"previous_response_id":"` + id + `"`)
	for {
		v, err := w.read()
		if err != nil {
			t.Fatal(err)
		}
		if v["type"] == "response.output_text.delta" {
			break
		}
	}
	w.send(`{"type":"response.cancel"}`)
	if h := w.turn(); h.code() != "response_cancelled" {
		t.Fatalf("got %v %v", h.failure, h.resource)
	}
	select {
	case <-b.gone:
	case <-time.After(patience):
		t.Fatal("the backend is still asked")
	}
	w.create(said1("three") + `,"store":false,"previous_response_id":"` + id + `"`)
	if h := w.turn().completed(t); h.text() != "fine" {
		t.Errorf("says %q", h.text())
	}
	// Sent together, the cancel is still of this one.
	w.create(said1("stall"))
	w.send(`{"type":"response.cancel"}`)
	if h := w.turn(); h.code() != "response_cancelled" {
		t.Fatalf("got %v %v", h.failure, h.resource)
	}
	w.create(said1("five"))
	w.turn().completed(t)
}

// More than may wait are refused at once; those that wait run in order.
func TestSocketQueueIsBounded(t *testing.T) {
	release := make(chan struct{})
	s := sim.New(sim.Options{})
	base, err := s.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	s.Push(sim.Script{Steps: []sim.Step{sim.Until(release), sim.Answer()}})
	p := start(t, configOf("responses: {socketQueue: 2}", provider("near", base+"/v1", "openai-completions")))
	w := p.socket(t)
	for i := range 4 {
		w.create(said1(fmt.Sprintf("number %d", i)))
	}
	if h := w.turn(); h.code() != "rate_limit_exceeded" || h.status != 429 {
		t.Fatalf("got %v %v", h.failure, h.resource)
	}
	close(release)
	for i := range 3 {
		if h := w.turn().completed(t); !strings.Contains(h.text(), fmt.Sprintf("number %d", i)) {
			t.Errorf("turn %d says %q", i, h.text())
		}
	}
}

// Errors of the backend keep their status, and the socket goes on.
func TestSocketTellsBackendErrors(t *testing.T) {
	b := newBackend(t, whole(429, `{"error":{"message":"slow down","type":"rate_limit_error","code":"rate_limit_exceeded"}}`, "Retry-After: 7"),
		whole(500, `{"error":{"message":"broke"}}`), rawClose(sseHead+chunked(chatRole, said("some "))), chat("fine"))
	p := start(t, configOf("providers: {near: {breaker: {disabled: true}}}", provider("near", b.url, "openai-completions")))
	w := p.socket(t)
	w.create(said1("hi"))
	if h := w.turn(); h.status != 429 || h.code() != "rate_limit_exceeded" {
		t.Errorf("429: %d %v", h.status, h.failure)
	}
	for {
		w.create(said1("hi"))
		h := w.turn()
		if h.status == 429 || h.status == 503 { // cooling down
			continue
		}
		if h.status < 500 || h.failure == nil {
			t.Errorf("500: %d %v %v", h.status, h.failure, h.resource)
		}
		break
	}
	w.create(said1("hi"))
	h := w.turn()
	if h.resource == nil || h.resource["status"] != "failed" {
		t.Errorf("broken off: %v %v", h.failure, h.resource)
	}
	w.create(said1("hi"))
	if h := w.turn().completed(t); h.text() != "fine" {
		t.Errorf("says %q", h.text())
	}
}

// A socket that has been open for its time says so and closes, but not in the
// middle of a response.
func TestSocketTimeLimit(t *testing.T) {
	release := make(chan struct{})
	b := newBackend(t, func(b *backend, c net.Conn, a asked) bool {
		<-release
		return chatStream("late")(b, c, a)
	})
	p := start(t, configOf("responses: {socketForMs: 300}", provider("near", b.url, "openai-completions")))
	quiet := p.socket(t)
	busy := p.socket(t)
	busy.create(said1("hi"))
	b.next()
	if h := quiet.turn(); h.code() != "websocket_connection_limit_reached" {
		t.Fatalf("got %v", h.failure)
	}
	if _, err := quiet.read(); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Errorf("got %v, want 1008", err)
	}
	close(release)
	if h := busy.turn().completed(t); h.text() != "late" {
		t.Errorf("says %q", h.text())
	}
	if h := busy.turn(); h.code() != "websocket_connection_limit_reached" {
		t.Errorf("got %v", h.failure)
	}
}

// A shutdown lets the response that runs finish, refuses what waits, and says
// goodbye to all.
func TestSocketShutdown(t *testing.T) {
	release := make(chan struct{})
	b := newBackend(t, func(b *backend, c net.Conn, a asked) bool {
		<-release
		return chatStream("late")(b, c, a)
	})
	p := start(t, configOf("drain: {graceSeconds: 20}", provider("near", b.url, "openai-completions")))
	quiet, busy := p.socket(t), p.socket(t)
	busy.create(said1("hi"))
	b.next()
	busy.create(said1("waits"))
	p.cmd.Process.Signal(os.Interrupt)
	if _, err := quiet.read(); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("quiet: %v, want 1001", err)
	}
	close(release)
	if h := busy.turn().completed(t); h.text() != "late" {
		t.Errorf("says %q", h.text())
	}
	if h := busy.turn(); h.code() != "server_shutting_down" || h.status != 503 {
		t.Errorf("what waits: %v", h.failure)
	}
	if _, err := busy.read(); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("busy: %v, want 1001", err)
	}
	select {
	case <-p.exited:
	case <-time.After(patience):
		t.Fatal("it does not stop")
	}
	if n := b.count(); n != 1 {
		t.Errorf("the backend was asked %d times", n)
	}
}

// A response that outlasts the grace ends with its error event.
func TestSocketShutdownAfterGrace(t *testing.T) {
	b := newBackend(t, stall(sseHead+chunked(chatRole, said("some "))))
	p := start(t, configOf("drain: {graceMs: 200}", provider("near", b.url, "openai-completions")))
	w := p.socket(t)
	w.create(said1("hi"))
	b.next()
	p.cmd.Process.Signal(os.Interrupt)
	h := w.turn()
	if e, _ := h.resource["error"].(map[string]any); h.resource["status"] != "failed" || e["code"] != "server_shutting_down" {
		t.Errorf("got %v %v", h.resource, h.failure)
	}
	if _, err := w.read(); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("got %v, want 1001", err)
	}
}

// Sockets leave no descriptor behind, however they end.
func TestSocketsLeaveNoDescriptor(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("descriptors are counted in /proc")
	}
	b := newBackend(t, func(b *backend, c net.Conn, a asked) bool {
		if strings.Contains(string(a.body), "stall") {
			return stall(sseHead+chunked(chatRole, said("x")))(b, c, a)
		}
		chat("hello")(b, c, a)
		return false
	})
	p := start(t, configOf("providers: {near: {breaker: {disabled: true}}}", provider("near", b.url, "openai-completions")))
	open := func() int {
		client.CloseIdleConnections()
		all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	use := func() {
		w := p.socket(t)
		w.create(said1("hi"))
		w.turn().completed(t)
		w.c.Close(websocket.StatusNormalClosure, "")
		w = p.socket(t)
		w.create(said1("stall"))
		w.read()
		w.c.CloseNow()
	}
	use()
	base := open()
	for range 20 {
		use()
	}
	for end := time.Now().Add(patience); open() > base+2; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%d descriptors, %d before", open(), base)
		}
	}
}

// A message that a client keeps sending after we said goodbye does not keep the
// socket open.
func TestSocketEndsWithAClientThatDoesNotSayGoodbye(t *testing.T) {
	_, near := socketSim(t, "openai-completions")
	p := start(t, configOf("responses: {socketForMs: 100, sockets: 1}", near))
	deaf := deafSocket(t, p)
	p.untilSocket(t)
	deaf.Close()
}

// deafSocket upgrades a connection and never reads from it again.
func deafSocket(t *testing.T, p *running, send ...string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.(*net.TCPConn).SetReadBuffer(4 << 10)
	fmt.Fprintf(c, "GET /v1/responses HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", p.addr)
	line, err := bufio.NewReaderSize(c, 16).ReadString('\n')
	if err != nil || !strings.Contains(line, "101") {
		t.Fatalf("upgrade: %q %v", line, err)
	}
	for _, text := range send { // a zero mask leaves the text as it is
		head := []byte{0x81, 0xfe, byte(len(text) >> 8), byte(len(text)), 0, 0, 0, 0}
		if _, err := c.Write(append(head, text...)); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// A client that does not read is dropped once a write has taken its time, and
// its backend with it; leaving earlier, it does not wait for that.
func TestSocketThatDoesNotReadIsDropped(t *testing.T) {
	flood := func(b *backend, c net.Conn, a asked) bool {
		io.WriteString(c, sseHead+chunked(chatRole))
		piece := chunked(said(strings.Repeat("x", 32<<10)))
		for {
			if _, err := io.WriteString(c, piece); err != nil {
				b.gone <- a.n
				return false
			}
		}
	}
	f := func(name, settings string, leave func(net.Conn)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t, flood)
			p := start(t, configOf(settings, provider("near", b.url, "openai-completions")))
			c := deafSocket(t, p, `{"type":"response.create","model":"default","input":"hi"}`)
			b.next()
			leave(c)
			select {
			case <-b.gone:
			case <-time.After(patience):
				t.Fatalf("the backend still writes\n%s", p.output())
			}
		})
	}
	f("and stays", "client: {writeMs: 300}", func(net.Conn) {})
	f("and leaves", "client: {writeSeconds: 600}", func(c net.Conn) { c.(*net.TCPConn).CloseWrite() })
}

// Codex opens a socket, hands over all it has without asking for an answer, and
// then sends only what is new, in the fields that it sends over HTTP.
func TestSocketServesCodex(t *testing.T) {
	p, err := os.ReadFile("testdata/captures/codex.001.json")
	if err != nil {
		t.Fatal(err)
	}
	var capture map[string]json.RawMessage
	if err := json.Unmarshal(p, &capture); err != nil {
		t.Fatal(err)
	}
	for _, api := range socketDialects {
		t.Run(api, func(t *testing.T) {
			t.Parallel()
			backend, near := socketSim(t, api)
			p := start(t, configOf("providers: {}", near))
			message := map[string]json.RawMessage{}
			for k, v := range capture {
				message[k] = v
			}
			send := func(w *wsClient, more map[string]string) heard {
				for k, v := range more {
					message[k] = json.RawMessage(v)
				}
				b, err := json.Marshal(message)
				if err != nil {
					t.Fatal(err)
				}
				w.send(string(b))
				return w.turn().completed(t)
			}
			w := p.socket(t, "Originator", "codex_exec", "Session-Id", "01a201aa-bbd0-7b80-b4ee-798dd267be26")
			warm := send(w, map[string]string{"type": `"response.create"`, "model": `"default"`, "generate": "false"})
			delete(message, "generate")
			one := send(w, map[string]string{"previous_response_id": `"` + warm.id() + `"`, "input": `[{"type":"message","role":"user","id":"msg_new","content":[{"type":"input_text","text":"something new"}]}]`})
			if one.text() == "" && len(list(one.resource["output"])) == 0 {
				t.Errorf("says nothing: %v", one.resource)
			}
			asked := backend.Requests()
			if sent := string(asked[len(asked)-1].Body); !strings.Contains(sent, "something new") || !strings.Contains(sent, "exec_command") || len(sent) < 10<<10 {
				t.Errorf("sent %d bytes: %.400s", len(sent), sent)
			}
		})
	}
}

// While a backend is silent the socket hears what a stream hears: the response
// is in progress, a target may still change, and all is numbered on.
func TestSocketIsHeldLikeAStream(t *testing.T) {
	b, far := newBackend(t, stall("")), newBackend(t, chat("from ", "far"))
	p := start(t, configOf(soon, provider("near", b.url, "openai-completions"), provider("far", far.url, "openai-completions")))
	w := p.socket(t)
	w.create(said1("hi"))
	h := w.turn().completed(t)
	beats := 0
	for _, v := range h.events {
		if v["type"] == "response.in_progress" {
			beats++
		}
	}
	if h.text() != "from far" || h.resource["model"] != "far/m" || beats < 2 {
		t.Errorf("%q of %v after %d heartbeats", h.text(), h.resource["model"], beats)
	}
}

// Over TLS a socket does the same, its client's departure included, and a client
// may ask in turn whether we live, in the middle of a response too.
func TestSocketOverTLS(t *testing.T) {
	cert, key := certificateFiles(t)
	b := newBackend(t, stall(sseHead+chunked(chatRole, said("some "))))
	p := start(t, configOf(fmt.Sprintf("tls: {cert: %q, key: %q}", cert, key), provider("near", b.url, "openai-completions")))
	pem, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer tr.CloseIdleConnections()
	c, _, err := websocket.Dial(ctx, "wss://"+p.addr+"/v1/responses", &websocket.DialOptions{HTTPClient: &http.Client{Transport: tr}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	w := &wsClient{t: t, c: c}
	w.create(said1("hi"))
	for {
		v, err := w.read()
		if err != nil {
			t.Fatal(err)
		}
		if v["type"] == "response.output_text.delta" {
			break
		}
	}
	reading := c.CloseRead(ctx) // pongs are seen while reading
	if err := c.Ping(ctx); err != nil {
		t.Errorf("ping: %v %v", err, reading.Err())
	}
	c.CloseNow()
	select {
	case <-b.gone:
	case <-time.After(patience):
		t.Fatalf("the backend is still asked\n%s", p.output())
	}
}
