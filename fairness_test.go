package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// queueOf returns how the queue of a provider stands.
func (r *running) queueOf(id string) (q struct {
	Slots, Running, Waiting int
	From                    string `json:"slots_from"`
	Loaded                  []string
	Swaps                   int
	Keys                    []struct {
		Key              string
		Running, Waiting int
	}
	Line []struct {
		ID    string `json:"request_id"`
		Key   string
		Ahead int
		Batch bool
	}
},
) {
	r.t.Helper()
	var st struct {
		Backends []struct {
			Provider string
			Queue    json.RawMessage
		}
	}
	if err := json.Unmarshal([]byte(r.get("/proxy/status").body), &st); err != nil {
		r.t.Fatal(err)
	}
	for _, b := range st.Backends {
		if b.Provider == id {
			if err := json.Unmarshal(b.Queue, &q); err != nil {
				r.t.Fatalf("%s has the queue %s: %v", id, b.Queue, err)
			}
		}
	}
	return q
}

// words says which of some words a body holds.
func words(body string, all ...string) string {
	for _, w := range all {
		if strings.Contains(body, w) {
			return w
		}
	}
	return body
}

// TestFloodLeavesTheQuietAgentItsTurn: an agent that floods a server of one slot has
// at most one request served between a quiet agent's question and its turn, each
// time, while it has fifteen waiting.
func TestFloodLeavesTheQuietAgentItsTurn(t *testing.T) {
	const many, one = "key-of-the-flood", "key-of-the-quiet"
	near, came, let := gatedBackend(t)
	r := start(t, configOf(`keys: {many: {sha256: "`+hexSum(many)+`"}, one: {sha256: "`+hexSum(one)+`", operator: true}}, providers: {near: {slots: 1}}`,
		provider("near", near.url, "openai-completions")))
	r.key = one
	const flood = 16
	var wg sync.WaitGroup
	defer wg.Wait()
	ask := func(key, text string) {
		wg.Go(func() {
			if p := r.post("/v1/chat/completions", saying(text), "Authorization", "Bearer "+key); p.status != 200 {
				t.Errorf("%s: %d %s", text, p.status, p.body)
			}
		})
	}
	for range flood {
		ask(many, "flood")
	}
	<-came
	r.waiting(flood - 1)
	left := flood - 1 // of the flood that wait
	for turn := range 4 {
		ask(one, "quiet")
		r.waiting(left + 1)
		if q := r.queueOf("near"); turn == 0 && (len(q.Line) != left+1 || q.Line[0].Key != "one" || q.Line[0].Ahead != 0 || len(q.Keys) != 2 || q.Keys[0].Key != "many") {
			t.Errorf("/proxy/status does not show the quiet one first: %+v", q)
		}
		before := 0
		for {
			let <- struct{}{} // what is served ends
			if words(<-came, "flood", "quiet") == "quiet" {
				break
			}
			left--
			before++
		}
		if before > 1 {
			t.Errorf("turn %d: %d of the flood were served before the quiet one", turn, before)
		}
		let <- struct{}{} // the quiet one's answer
		if served := words(<-came, "flood", "quiet"); served != "flood" {
			t.Fatalf("turn %d: %s is served", turn, served)
		}
		left--
	}
	for range left {
		let <- struct{}{}
		<-came
	}
	let <- struct{}{}
}

// TestClientsHearTheirPosition: in a stream with each heartbeat, in the answer's
// headers, and when there is no place. One that leaves is out before anything else
// happens.
func TestClientsHearTheirPosition(t *testing.T) {
	near, came, let := gatedBackend(t)
	r := start(t, configOf(`heartbeat: {firstMs: 20, everyMs: 20}, providers: {near: {slots: 1, queue: 3}}`, provider("near", near.url, "openai-completions")))
	done := make(chan reply, 4)
	go func() { done <- r.post("/v1/chat/completions", saying("first")) }()
	<-came
	go func() { done <- r.post("/v1/chat/completions", saying("second")) }()
	r.waiting(1)
	for path, body := range map[string]string{
		"/v1/chat/completions": `{"model":"default","stream":true,"messages":[{"role":"user","content":"third"}]}`,
		"/v1/responses":        `{"model":"default","stream":true,"store":false,"input":"third"}`,
		"/v1/messages":         `{"model":"default","stream":true,"max_tokens":100,"messages":[{"role":"user","content":"third"}]}`,
	} {
		c := r.dial()
		fmt.Fprint(c, request(path, body))
		lines, heard := bufio.NewReader(c), ""
		for !strings.Contains(heard, ": nearside queue: position 2\n") {
			line, err := lines.ReadString('\n')
			if err != nil {
				t.Fatalf("%s: %v after %q", path, err, heard)
			}
			heard += line
		}
		r.waiting(2)
		c.Close()
		r.waiting(1) // and nothing of the backend has changed
	}
	c := r.dial()
	fmt.Fprint(c, request("/v1/chat/completions", `{"model":"default","stream":true,"messages":[{"role":"user","content":"fourth"}]}`))
	r.waiting(2)
	go func() { done <- r.post("/v1/chat/completions", saying("fifth")) }()
	r.waiting(3)
	p := r.post("/v1/chat/completions", saying("sixth"))
	if got := p.header.Get("X-Nearside-Queue"); p.status != 503 || !strings.HasPrefix(got, "slots=1; waiting=3; expected=") || p.header.Get("Retry-After") == "" || p.failure()["code"] != "upstream_saturated" {
		t.Errorf("no place: %d, x-nearside-queue %q, retry-after %q: %s", p.status, got, p.header.Get("Retry-After"), p.body)
	}
	if q := r.receipt(p)["queue"]; q != p.header.Get("X-Nearside-Queue") {
		t.Errorf("the receipt has the queue %v", q)
	}
	let <- struct{}{}
	if body := <-came; !strings.Contains(body, "second") {
		t.Fatalf("served is %s", body)
	}
	first, heard := <-done, ""
	if got := first.header.Get("X-Nearside-Queue"); got != "" {
		t.Errorf("who did not wait hears of a queue: %q", got)
	}
	for lines := bufio.NewReader(c); !strings.Contains(heard, ": nearside queue: position 1, expected wait "); {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("%v after %q", err, heard)
		}
		heard += line
	}
	let <- struct{}{}
	if p := <-done; !strings.HasPrefix(p.header.Get("X-Nearside-Queue"), "position=1; waited=") || r.receipt(p)["queue_position"] != 1.0 {
		t.Errorf("the second hears %q; its receipt: %v", p.header.Get("X-Nearside-Queue"), r.receipt(p))
	}
	<-came
	let <- struct{}{}
	rest, _ := readUntil(c, "[DONE]")
	if !strings.Contains(rest, `"queue":"position=2; waited=`) {
		t.Errorf("a stream that had heartbeats does not say in its last event that it waited: %s", rest)
	}
	<-came
	let <- struct{}{}
	<-done
}

// readUntil reads a connection until it has said something.
func readUntil(c io.Reader, what string) (string, error) {
	var b strings.Builder
	buf := make([]byte, 4096)
	for !strings.Contains(b.String(), what) {
		n, err := c.Read(buf)
		b.Write(buf[:n])
		if err != nil {
			return b.String(), err
		}
	}
	return b.String(), nil
}

// TestBatchWaitsForTheOthers: a request that says that nobody waits for it, and one of
// a key for such, come after those of others.
func TestBatchWaitsForTheOthers(t *testing.T) {
	near, came, let := gatedBackend(t)
	const person, night = "key-of-a-person", "key-for-the-night"
	r := start(t, configOf(`keys: {person: {sha256: "`+hexSum(person)+`", operator: true}, night: {sha256: "`+hexSum(night)+`", batch: true}}, providers: {near: {slots: 1}}`,
		provider("near", near.url, "openai-completions")))
	r.key = person
	var wg sync.WaitGroup
	defer wg.Wait()
	for i, name := range []string{"running", "nightly", "batch", "person"} {
		wg.Go(func() {
			var headers []string
			if name == "batch" {
				headers = []string{"X-Nearside-Priority", "batch"}
			} else if name == "nightly" {
				headers = []string{"Authorization", "Bearer " + night}
			}
			r.post("/v1/chat/completions", saying(name), headers...)
		})
		if i == 0 {
			<-came
		}
		r.waiting(i)
	}
	for i, want := range []string{"person", "batch", "batch"} {
		let <- struct{}{}
		got := words(<-came, "person", "batch", "nightly")
		if (got == "person") != (want == "person") {
			t.Errorf("number %d that is served is %s, want %s", i+1, got, want)
		}
	}
	let <- struct{}{}
}

// TestLoadedModelGoesFirst: on a box that holds one model the requests for the one
// that is loaded are served before those for another, and that one then.
func TestLoadedModelGoesFirst(t *testing.T) {
	near, came, let := gatedBackend(t)
	r := start(t, configOf(`queue: {pauseMs: 1}, providers: {near: {slots: 2, resident: 1}}`,
		`near: {baseUrl: "`+near.url+`", api: "openai-completions", models: [{id: "m"}, {id: "other"}]}`))
	var wg sync.WaitGroup
	defer wg.Wait()
	ask := func(model, text string) {
		wg.Go(func() {
			if p := r.post("/v1/chat/completions", `{"model":"near/`+model+`","messages":[{"role":"user","content":"`+text+`"}]}`); p.status != 200 {
				t.Errorf("%s: %d %s", text, p.status, p.body)
			}
		})
	}
	ask("m", "first")
	<-came
	ask("other", "swaps") // there is a slot, and no room for its model
	r.waiting(1)
	ask("m", "stays")
	if got := words(<-came, "swaps", "stays"); got != "stays" {
		t.Errorf("served beside the first is %s", got)
	}
	let <- struct{}{}
	let <- struct{}{}
	if got := words(<-came, "swaps", "stays"); got != "swaps" {
		t.Errorf("served in the end is %s", got)
	}
	if q := r.queueOf("near"); q.Swaps != 1 || len(q.Loaded) != 1 || q.Loaded[0] != "other" {
		t.Errorf("the queue is %+v", q)
	}
	let <- struct{}{}
}

// TestEndpointsHaveSlotsOfTheirOwn: two endpoints of different slots take as many
// each, and what waits goes where one becomes free.
func TestEndpointsHaveSlotsOfTheirOwn(t *testing.T) {
	type at struct{ place, body string }
	came := make(chan at, 16)
	letA, letB := make(chan struct{}), make(chan struct{})
	gated := func(name string, let chan struct{}) *backend {
		return newBackend(t, func(b *backend, c net.Conn, a asked) bool {
			came <- at{name, string(a.body)}
			<-let
			return chatWhole(name)(b, c, a)
		})
	}
	a, b := gated("a", letA), gated("b", letB)
	r := start(t, configOf(`providers: {near: {slots: 1, endpoints: [{name: "a", url: "`+a.url+`"}, {name: "b", url: "`+b.url+`", slots: 2}]}}`,
		`near: {api: "openai-completions", models: [{id: "m"}]}`))
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := range 5 {
		wg.Go(func() { r.post("/v1/chat/completions", saying(fmt.Sprint("question ", i))) })
	}
	count := map[string]int{}
	for range 3 {
		count[(<-came).place]++
	}
	r.waiting(2)
	if q := r.queueOf("near"); count["a"] != 1 || count["b"] != 2 || q.Slots != 3 {
		t.Errorf("under way are %v, of %d slots", count, q.Slots)
	}
	for _, to := range []struct {
		name string
		let  chan struct{}
	}{{"b", letB}, {"a", letA}} {
		to.let <- struct{}{}
		if next := <-came; next.place != to.name {
			t.Errorf("%s became free, and the next went to %s", to.name, next.place)
		}
	}
	letA <- struct{}{}
	letB <- struct{}{}
	letB <- struct{}{}
}

// talker is a server of a kind that answers what it is asked of itself, and streams
// answers when it is let, so many at once.
func talker(t *testing.T, slots int, own map[string]string) (url string, came, let chan struct{}) {
	came, let = make(chan struct{}, 64), make(chan struct{})
	free := make(chan struct{}, slots)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if text, ok := own[q.URL.Path]; ok {
			kind := "application/json"
			if !strings.HasPrefix(text, "{") {
				kind = "text/plain"
			}
			w.Header().Set("Content-Type", kind)
			io.WriteString(w, text)
			return
		}
		if !strings.HasSuffix(q.URL.Path, "/chat/completions") {
			http.NotFound(w, q)
			return
		}
		came <- struct{}{}
		select {
		case free <- struct{}{}:
			defer func() { <-free }()
		case <-q.Context().Done():
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, chatRole+said("begun"))
		w.(http.Flusher).Flush()
		select {
		case <-let:
		case <-q.Context().Done():
			return
		}
		io.WriteString(w, chunk(`{}`, "stop")+chatDone)
	}))
	t.Cleanup(s.Close)
	return s.URL + "/v1", came, let
}

const oneModel = `{"object":"list","data":[{"id":"m","object":"model","owned_by":"somebody"}]}`

// TestServersSayTheirSlots: what llama.cpp says of itself is what it is given at
// once, without a word in the configuration; explain says so too.
func TestServersSayTheirSlots(t *testing.T) {
	url, _, let := talker(t, 1, map[string]string{"/v1/models": oneModel, "/health": `{"status":"ok"}`, "/props": `{"total_slots":1,"default_generation_settings":{"n_ctx":4096},"build_info":"b1"}`})
	r := start(t, configOf(`providers: {near: {kind: "llamacpp"}}`, provider("near", url, "openai-completions")))
	r.until("the server's slots", func() bool { q := r.queueOf("near"); return q.Slots == 1 && q.From == "server" })
	done := make(chan reply, 3)
	for range 3 {
		go func() { done <- r.post("/v1/chat/completions", helloStream) }()
	}
	r.waiting(2)
	for range 3 {
		let <- struct{}{}
		if p := <-done; p.status != 200 || !strings.Contains(p.body, "[DONE]") {
			t.Errorf("%d %s", p.status, p.body)
		}
	}
	file := filepath.Join(t.TempDir(), "request.json")
	if err := os.WriteFile(file, []byte(hello), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, code := runBinary("explain", "--config", r.config, file); code != 0 || !strings.Contains(text, "queue: 1 at once (server)") {
		t.Errorf("explain exits %d and does not name the slots:\n%s", code, text)
	}
}

// TestLearnsThatAServerServesOneAtATime of a server that does not say: then further
// requests wait in the proxy.
func TestLearnsThatAServerServesOneAtATime(t *testing.T) {
	url, came, let := talker(t, 1, map[string]string{"/v1/models": oneModel})
	r := start(t, configOf(`queue: {learn: {evidence: 2, leastMs: 100}}`, provider("near", url, "openai-completions")))
	const agents = 4
	deadline := time.Now().Add(patience)
	for r.queueOf("near").Slots == 0 {
		if time.Now().After(deadline) {
			t.Fatalf("nothing was learned\n%s", r.output())
		}
		done := make(chan reply, agents)
		for i := range agents {
			go func() { done <- r.post("/v1/chat/completions", helloStream) }()
			if i == 0 || r.queueOf("near").Slots == 0 { // one after another
				<-came
			}
		}
		for range agents {
			for begun := time.Now(); time.Since(begun) < 150*time.Millisecond; { // an answer takes a while
				r.get("/proxy/status")
			}
			let <- struct{}{}
			<-done
		}
	}
	if q := r.queueOf("near"); q.Slots != 1 || q.From != "learned" {
		t.Errorf("learned %+v", q)
	}
	r.wait(`a line that tells the slots`, func(line string) bool {
		return strings.Contains(line, `"slots":1`) && strings.Contains(line, `"from":"learned"`) || strings.Contains(line, "slots=1")
	})
	done := make(chan reply, agents)
	for range agents {
		go func() { done <- r.post("/v1/chat/completions", helloStream) }()
	}
	r.waiting(agents - 1)
	for range agents {
		let <- struct{}{}
		<-done
	}
}

// TestServersThatSayWhoWaits: vLLM is given fewer while requests wait in it.
func TestServersThatSayWhoWaits(t *testing.T) {
	url, _, let := talker(t, 8, map[string]string{"/v1/models": oneModel, "/health": "", "/version": `{"version":"0.9"}`,
		"/metrics": "vllm:num_requests_running{model_name=\"m\"} 2.0\nvllm:num_requests_waiting{model_name=\"m\"} 2.0\n"})
	r := start(t, configOf(`queue: {pollMs: 5}, providers: {near: {kind: "vllm"}}`, provider("near", url, "openai-completions")))
	done := make(chan reply, 8)
	for range 4 {
		go func() { done <- r.post("/v1/chat/completions", helloStream) }()
	}
	r.until("a limit", func() bool { q := r.queueOf("near"); return q.Slots == 2 && q.From == "learned" })
	for range 4 {
		let <- struct{}{}
		<-done
	}
}
