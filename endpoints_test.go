package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/goccy/go-json"
)

// box is one endpoint of a test: more are further keys of its entry.
type box struct {
	name string
	b    *backend
	more string
}

// boxed is a configuration with a provider gpu that has endpoints, and behind it
// in the default chain the given ones.
func boxed(settings string, boxes []box, others ...string) string {
	var list []string
	for _, e := range boxes {
		list = append(list, fmt.Sprintf(`{url: %q, name: %q %s}`, e.b.url, e.name, e.more))
	}
	own := `providers: {gpu: {endpoints: [` + strings.Join(list, ", ") + `], deadlines: {connectMs: 2000}, ` + settings + `}}, balance: {slowStartSeconds: 0}`
	gpu := `gpu: {api: "openai-completions", models: [{id: "m", contextWindow: 100000}]}`
	return configOf(own, append([]string{gpu}, others...)...)
}

// turn is the n-th request of a conversation.
func turn(conversation string, n int) string {
	messages := `{"role":"system","content":"Be brief."},{"role":"user","content":"` + conversation + `"}`
	for i := range n {
		messages += fmt.Sprintf(`,{"role":"assistant","content":"answer %d"},{"role":"user","content":"question %d"}`, i, i)
	}
	return `{"model":"default","messages":[` + messages + `]}`
}

// A conversation stays at the endpoint that has it cached, and different ones
// use all of them.
func TestConversationsStayAtTheirEndpoint(t *testing.T) {
	boxes := []box{{name: "a", b: newBackend(t, chat("a"))}, {name: "b", b: newBackend(t, chat("b"))}, {name: "c", b: newBackend(t, chat("c"))}}
	p := start(t, boxed("", boxes))
	at := map[string]int{}
	for i := range 24 {
		first := ""
		for n := range 4 {
			got := p.post("/v1/chat/completions", turn(fmt.Sprintf("conversation %d", i), n))
			where := got.header.Get("X-Nearside-Endpoint")
			if got.status != 200 || got.text() != where || got.header.Get("X-Nearside-Attempts") != "gpu/m@"+where+"=ok" {
				t.Fatalf("got %d %q of endpoint %q, attempts %q\n%s", got.status, got.text(), where, got.header.Get("X-Nearside-Attempts"), got.body)
			}
			if first == "" {
				first = where
				at[where]++
			}
			if where != first {
				t.Fatalf("turn %d of conversation %d went to %s, the ones before to %s", n, i, where, first)
			}
		}
	}
	if len(at) != 3 {
		t.Errorf("24 conversations are at %v, want all three endpoints used", at)
	}
}

// An endpoint that dies is passed over within the exchange, at once and later;
// its conversations go on elsewhere.
func TestAnEndpointThatDiesIsPassedOver(t *testing.T) {
	boxes := []box{{name: "a", b: newBackend(t, chat("a"))}, {name: "b", b: newBackend(t, chat("b"))}}
	p := start(t, boxed(`breaker: {openForSeconds: 60, openMaxSeconds: 60}`, boxes))
	conversation := ""
	for i := 0; conversation == ""; i++ {
		if c := fmt.Sprintf("conversation %d", i); p.post("/v1/chat/completions", turn(c, 0)).text() == "a" {
			conversation = c
		}
	}
	boxes[0].b.close()
	got := p.post("/v1/chat/completions", turn(conversation, 1))
	if got.status != 200 || got.text() != "b" || got.header.Get("X-Nearside-Endpoint") != "b" || got.header.Get("X-Nearside-Attempts") != "gpu/m@a=connect_refused, gpu/m@b=ok" {
		t.Fatalf("got %d %q, attempts %q\n%s", got.status, got.text(), got.header.Get("X-Nearside-Attempts"), got.body)
	}
	r := p.receipt(got)
	attempts := list(r["attempts"])
	if len(attempts) != 2 || attempts[0]["endpoint"] != "a" || attempts[0]["outcome"] != "connect_refused" || attempts[1]["endpoint"] != "b" || r["endpoint"] != "b" {
		t.Errorf("the receipt has %v", r)
	}
	for n := 2; n < 6; n++ {
		got := p.post("/v1/chat/completions", turn(conversation, n))
		if got.text() != "b" || got.header.Get("X-Nearside-Attempts") != "gpu/m@b=ok" {
			t.Errorf("turn %d: %q, attempts %q; want only b asked while the failure of a is fresh", n, got.text(), got.header.Get("X-Nearside-Attempts"))
		}
	}
	metrics := p.get("/metrics").body
	for _, want := range []string{`nearside_endpoint_attempts_total{endpoint="a",outcome="connect_refused",provider="gpu"} 1`, `nearside_endpoint_in_flight{endpoint="b",provider="gpu"} 0`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics do not hold %s", want)
		}
	}
	if strings.Contains(p.output(), `"to":"unreachable"`) {
		t.Errorf("the provider was said to be unreachable while an endpoint served:\n%s", p.output())
	}
}

// endpointsOf is what the status says of the endpoints of gpu.
func (r *running) endpointsOf(provider string) map[string]map[string]any {
	r.t.Helper()
	var st struct {
		Backends []struct {
			Provider  string
			Endpoints []map[string]any
		}
	}
	if err := json.Unmarshal([]byte(r.get("/proxy/status").body), &st); err != nil {
		r.t.Fatal(err)
	}
	all := map[string]map[string]any{}
	for _, b := range st.Backends {
		for _, e := range b.Endpoints {
			if b.Provider == provider {
				all[e["name"].(string)] = e
			}
		}
	}
	return all
}

// Drained by a reload, an endpoint gets no new request, not even of a
// conversation that is cached there, while what it streams goes on to its end.
func TestAnEndpointIsDrainedByAReload(t *testing.T) {
	release := make(chan struct{})
	var boxes []box
	for _, name := range []string{"a", "b"} {
		boxes = append(boxes, box{name: name, b: newBackend(t, func(b *backend, c net.Conn, a asked) bool {
			if !strings.Contains(string(a.body), `"stream":true`) {
				return chatWhole(name)(b, c, a)
			}
			io.WriteString(c, sseHead+chunked(chatRole, said(name)))
			<-release
			_, err := io.WriteString(c, chunked(said(" to the end"), chunk(`{}`, "stop"), chatDone)+lastChunk)
			return err == nil
		})})
	}
	p := start(t, boxed("", boxes))
	req, err := http.NewRequest("POST", p.base+"/v1/chat/completions", strings.NewReader(strings.Replace(turn("long", 0), "{", `{"stream":true,`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	where := resp.Header.Get("X-Nearside-Endpoint")
	other := map[string]string{"a": "b", "b": "a"}[where]
	rest := bufio.NewReader(resp.Body)
	for line := ""; !strings.Contains(line, `"content":"`+where+`"`); {
		if line, err = rest.ReadString('\n'); err != nil {
			t.Fatalf("before its first content: %v", err)
		}
	}
	for i := range boxes {
		if boxes[i].name == where {
			boxes[i].more = ", drain: true"
		}
	}
	if err := os.WriteFile(p.config, []byte(boxed("", boxes)), 0o600); err != nil {
		t.Fatal(err)
	}
	p.wait("reloaded", func(l string) bool { return strings.Contains(l, "configuration reloaded") })
	for n := range 8 {
		if got := p.post("/v1/chat/completions", turn("long", n+1)); got.text() != other {
			t.Errorf("turn %d: %d from %q, want %s: %s is drained", n, got.status, got.text(), other, where)
		}
	}
	if e := p.endpointsOf("gpu")[where]; e["drain"] != true || e["in_flight"] != 1.0 || e["effective_weight"] != 0.0 {
		t.Errorf("the status says of the drained endpoint %v; want one request in flight and no weight", e)
	}
	close(release)
	all, err := io.ReadAll(rest)
	if err != nil || !strings.Contains(string(all), " to the end") || strings.Count(string(all), "data: [DONE]") != 1 {
		t.Errorf("the stream of the drained endpoint: %v\n%s", err, all)
	}
	p.until("nothing runs there any more", func() bool { return p.endpointsOf("gpu")[where]["in_flight"] == 0.0 })
	text, code := runBinary("status", "--url", p.base)
	if code != 0 || !strings.Contains(text, "gpu@"+where) || !strings.Contains(text, "drained") {
		t.Errorf("nearside status exits %d with\n%s", code, text)
	}
}

// An endpoint that fails at once has never anything to do; that must not draw
// requests to it, with or without a breaker.
func TestAnEndpointThatFailsFastIsNoBlackHole(t *testing.T) {
	hole := newBackend(t, whole(500, `{"error":{"message":"CUDA error"}}`))
	boxes := []box{{name: "a", b: newBackend(t, chat("a"))}, {name: "hole", b: hole}, {name: "c", b: newBackend(t, chat("c"))}}
	p := start(t, boxed("breaker: {disabled: true}", boxes))
	const n = 200
	for i := range n {
		if got := p.post("/v1/chat/completions", turn(fmt.Sprintf("conversation %d", i), 0)); got.status != 200 {
			t.Fatalf("request %d: %d %s", i, got.status, got.body)
		}
	}
	if got := hole.count(); got == 0 || got > n/20 {
		t.Errorf("the endpoint that fails was asked %d times for %d requests; want some, and less than 5%%", got, n)
	}
	if e := p.endpointsOf("gpu")["hole"]; e["penalty"] == nil {
		t.Errorf("the status does not say that its failures count: %v", e)
	}
}

// Endpoints leave the chain its next target, and count as targets.
func TestDeadEndpointsLeaveTheNextTargetItsTurn(t *testing.T) {
	var boxes []box
	for _, name := range []string{"a", "b", "c"} {
		b := newBackend(t, chat(name))
		b.close()
		boxes = append(boxes, box{name: name, b: b})
	}
	far := newBackend(t, chat("far"))
	p := start(t, boxed(`breaker: {consecutiveConnect: 1, openForSeconds: 60, openMaxSeconds: 60}}, far: {near: false`, boxes, provider("far", far.url, "openai-completions")))
	got := p.post("/v1/chat/completions", turn("x", 0))
	attempts := list(p.receipt(got)["attempts"])
	if got.text() != "far" || len(attempts) != 3 || attempts[0]["outcome"] != "connect_refused" || attempts[1]["outcome"] != "connect_refused" || attempts[0]["endpoint"] == attempts[1]["endpoint"] || attempts[2]["ref"] != "far/m" {
		t.Errorf("got %d %q, attempts %v; want two endpoints, then far", got.status, got.text(), attempts)
	}
	if got := p.post("/v1/chat/completions", turn("x", 1)); got.text() != "far" {
		t.Errorf("second: %d %q", got.status, got.text())
	}
	// Now all three breakers are open: the step is skipped as a whole.
	got = p.post("/v1/chat/completions", turn("x", 2))
	attempts = list(p.receipt(got)["attempts"])
	if got.text() != "far" || len(attempts) != 2 || attempts[0]["outcome"] != "breaker_open" || !strings.Contains(fmt.Sprint(attempts[0]["reason"]), "none of its 3 endpoints can be asked") {
		t.Errorf("third: %d %q, attempts %v", got.status, got.text(), attempts)
	}
}

// An endpoint that is there again is found by a probe, and gets its
// conversations back.
func TestAnEndpointComesBack(t *testing.T) {
	a, b := newBackend(t, chat("a")), newBackend(t, chat("b"))
	config := boxed(`breaker: {consecutiveConnect: 1, openForMs: 100, openMaxMs: 200}`, []box{{name: "a", b: a}, {name: "b", b: b}})
	p := start(t, strings.Replace(config, "balance: {", "balance: {failureForMs: 300, ", 1))
	conversation := ""
	for i := 0; conversation == ""; i++ {
		if c := fmt.Sprintf("conversation %d", i); p.post("/v1/chat/completions", turn(c, 0)).text() == "a" {
			conversation = c
		}
	}
	address := a.ln.Addr().String()
	a.close()
	if got := p.post("/v1/chat/completions", turn(conversation, 1)); got.text() != "b" {
		t.Fatalf("got %d %q while a is down", got.status, got.text())
	}
	if at := p.endpointsOf("gpu")["a"]; at["state"] != "failing" {
		t.Errorf("the status has %v of an endpoint whose breaker is open", at)
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	backendOn(t, ln, chat("a again"))
	p.until("a probe closes its breaker", func() bool { return p.endpointsOf("gpu")["a"]["breaker"] == nil })
	n := 2
	p.until("its conversation comes back once its failure has worn off", func() bool {
		n++
		got := p.post("/v1/chat/completions", turn(conversation, n%10))
		return got.text() == "a again" && got.header.Get("X-Nearside-Attempts") == "gpu/m@a=ok"
	})
}

// What the request is at fault for is not tried at every endpoint, and drained
// ones say why they are not asked.
func TestEndpointsAreNotAskedInVain(t *testing.T) {
	a, b := newBackend(t, whole(400, `{"error":{"message":"bad temperature","type":"invalid_request_error"}}`)), newBackend(t, whole(400, `{"error":{"message":"bad temperature","type":"invalid_request_error"}}`))
	p := start(t, boxed("", []box{{name: "a", b: a}, {name: "b", b: b}}))
	if got := p.post("/v1/chat/completions", hello); got.status != 400 || a.count()+b.count() != 1 {
		t.Errorf("got %d after %d requests; want 400 after one\n%s", got.status, a.count()+b.count(), got.body)
	}
	q := start(t, boxed("", []box{{name: "a", b: a, more: ", drain: true"}}))
	if got := q.post("/v1/chat/completions", hello); got.status != 503 || !strings.Contains(got.body, "all its endpoints are drained (proxy.providers.gpu.endpoints)") {
		t.Errorf("all drained: %d %s", got.status, got.body)
	}
}

// The commands that look at providers show their endpoints.
func TestCommandsShowEndpoints(t *testing.T) {
	up, down := newBackend(t, chat("up")), newBackend(t, chat("down"))
	down.close()
	p := start(t, boxed("", []box{{name: "up", b: up}, {name: "down", b: down}}))
	for _, command := range []string{"check", "models"} {
		text, code := runBinary(command, "--config", p.config)
		if code != 0 {
			t.Fatalf("nearside %s exits %d: %s", command, code, text)
		}
		for _, want := range []string{"endpoints of gpu", up.url, down.url, "unreachable", "down is unreachable"} {
			if !strings.Contains(text, want) {
				t.Errorf("nearside %s does not say %q:\n%s", command, want, text)
			}
		}
	}
	if text, code := runBinary("probe", "--config", p.config, "gpu/m"); code != 0 || !strings.Contains(text, "gpu/m at up") {
		t.Errorf("nearside probe exits %d: %s", code, text)
	}
	if text, code := runBinary("probe", "--config", p.config, "gpu/m", "--endpoint", "down"); code != 1 {
		t.Errorf("nearside probe --endpoint down exits %d: %s", code, text)
	}
	if text, code := runBinary("probe", "--config", p.config, "gpu/m", "--endpoint", "no"); code != 1 || !strings.Contains(text, `no endpoint called "no"; it has up, down`) {
		t.Errorf("nearside probe --endpoint no exits %d: %s", code, text)
	}
}
