package upstream

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"nearside/catalog"
)

// lookTime is far more than any look at loopback takes; nothing waits for it.
const lookTime = 20 * time.Second

// recorded answers as a server did: testdata/servers/<name>, one file a path.
// What it was asked is kept.
type recorded struct {
	*httptest.Server
	mu    sync.Mutex
	asked []string
	keys  []string
}

func (r *recorded) list() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.asked...)
}

// replay serves the recorded answers; instead replaces the answer to a path.
func replay(t *testing.T, name string, instead map[string]http.HandlerFunc) *recorded {
	t.Helper()
	r := &recorded{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.mu.Lock()
		r.asked = append(r.asked, q.Method+" "+q.URL.Path)
		r.keys = append(r.keys, q.Header.Get("Authorization")+q.Header.Get("x-api-key"))
		r.mu.Unlock()
		if h := instead[q.URL.Path]; h != nil {
			h(w, q)
			return
		}
		file := strings.ReplaceAll(strings.Trim(q.URL.Path, "/"), "/", "-")
		if file == "" {
			file = "root"
		}
		text, err := os.ReadFile("testdata/servers/" + name + "/" + file + ".txt")
		if err != nil {
			if text, err = os.ReadFile("testdata/servers/" + name + "/nope.txt"); err != nil {
				t.Error(err)
				return
			}
		}
		head, body, _ := strings.Cut(string(text), "\r\n\r\n")
		lines := strings.Split(head, "\r\n")
		status, err := strconv.Atoi(strings.Fields(lines[0])[1])
		if err != nil {
			t.Error(err)
			return
		}
		for _, l := range lines[1:] {
			key, value, _ := strings.Cut(l, ": ")
			if key != "Content-Length" && key != "Connection" && key != "Keep-Alive" {
				w.Header().Set(key, value)
			}
		}
		w.WriteHeader(status)
		w.Write([]byte(body))
	}))
	t.Cleanup(r.Close)
	return r
}

func answer(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		w.Write([]byte(body))
	}
}

func discover(t *testing.T, urls ...string) []Found {
	t.Helper()
	opt := DiscoverOptions{Timeout: lookTime}
	for _, u := range urls {
		opt.Addresses = append(opt.Addresses, DiscoverAddress{URL: u})
	}
	return Discover(context.Background(), opt)
}

// What is at stake: the kind decides which rules a request is rewritten by, the
// windows which requests are sent at all.
func TestDiscoverTellsServersApart(t *testing.T) {
	text := []string{"text"}
	missing := answer(404, "text/plain", "404 page not found")
	f := func(name string, instead map[string]http.HandlerFunc, want Found) {
		t.Helper()
		s := replay(t, name, instead)
		want.URL, want.Told = s.URL+"/v1", want.Kind != ""
		got := discover(t, s.URL)
		if diff := cmp.Diff([]Found{want}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s\nasked %q", name, diff, s.list())
		}
		for _, q := range s.list() {
			if strings.Contains(q, "completions") || strings.HasPrefix(q, "POST ") && q != "POST /api/show" {
				t.Errorf("%s was asked %s", name, q)
			}
		}
	}
	f("llamacpp", nil, Found{Kind: catalog.KindLlamaCPP, Version: "b0-unknown", State: StateReady, Slots: 4, Models: []FoundModel{
		{ID: "tiny", ContextWindow: 8192, ContextMax: 32768, Loaded: true, Input: text, Tools: yes(), Reasoning: true},
	}})
	f("ollama", nil, Found{Kind: catalog.KindOllama, Version: "0.0.0", State: StateReady, Models: []FoundModel{
		{ID: "tiny:latest", ContextWindow: 4096, ContextMax: 32768, Loaded: true, Input: text, Type: "llm", Tools: yes(), Reasoning: true},
	}})
	const asleep = "no model is loaded: the first request waits for it"
	// Nothing loaded: the Modelfile's num_ctx counts, then the model's own length.
	f("ollama", map[string]http.HandlerFunc{"/api/ps": answer(200, "application/json", `{"models":[]}`)},
		Found{Kind: catalog.KindOllama, Version: "0.0.0", State: StateAsleep, Detail: asleep, Models: []FoundModel{
			{ID: "tiny:latest", ContextWindow: 8192, ContextMax: 32768, Input: text, Type: "llm", Tools: yes(), Reasoning: true},
		}})
	f("ollama", map[string]http.HandlerFunc{"/api/ps": missing, "/api/show": missing},
		Found{Kind: catalog.KindOllama, Version: "0.0.0", State: StateAsleep, Detail: asleep, Models: []FoundModel{
			{ID: "tiny:latest", ContextWindow: 32768, ContextMax: 32768, Input: text, Type: "llm", Tools: yes(), Reasoning: true},
		}})
	f("ollama", map[string]http.HandlerFunc{"/api/tags": answer(200, "application/json", `{"models":[]}`), "/v1/models": answer(200, "application/json", `{"object":"list","data":[]}`)},
		Found{Kind: catalog.KindOllama, Version: "0.0.0", State: StateMisconfigured, Detail: "it has no models: download one there", Models: []FoundModel{}})
	f("mlx", nil, Found{Kind: catalog.KindMLX, State: StateReady, Models: []FoundModel{{ID: "mlx-community/Qwen3-0.6B-4bit"}}})
	f("lmstudio", nil, Found{Kind: catalog.KindLMStudio, State: StateReady, Slots: 5, Models: []FoundModel{
		{ID: "qwen/qwen3-8b", ContextWindow: 8192, ContextMax: 40960, Loaded: true, Input: text, Type: "llm", Tools: yes(), Reasoning: true, Efforts: []string{"off", "on"}},
		{ID: "google/gemma-3-4b", ContextWindow: 131072, ContextMax: 131072, Input: []string{"text", "image"}, Type: "llm", Tools: no()},
		{ID: "text-embedding-nomic-embed-text-v1.5", ContextWindow: 2048, ContextMax: 2048, Type: "embeddings"},
	}})
	// Each loaded model serves as many as it says, whatever the others do.
	loaded := answer(200, "application/json", `{"models":[{"key":"a","type":"llm","loaded_instances":[{"id":"a","config":{"parallel":1}},{"id":"a:2","config":{"parallel":1}}]},
		{"key":"b","type":"llm","loaded_instances":[{"id":"b","config":{"parallel":4}}]},{"key":"c","type":"llm","loaded_instances":[]}]}`)
	f("lmstudio", map[string]http.HandlerFunc{"/api/v1/models": loaded}, Found{Kind: catalog.KindLMStudio, State: StateReady, Slots: 6, Models: []FoundModel{
		{ID: "a", Loaded: true, Type: "llm"}, {ID: "b", Loaded: true, Type: "llm"}, {ID: "c", Type: "llm"},
	}})
	// Before 0.4 there is no /api/v1, and 200 says so.
	older := answer(200, "application/json", `{"error":"Unexpected endpoint or method. (GET /api/v1/models)"}`)
	f("lmstudio", map[string]http.HandlerFunc{"/api/v1/models": older},
		Found{Kind: catalog.KindLMStudio, State: StateReady, Models: []FoundModel{
			{ID: "qwen/qwen3-8b", ContextWindow: 16384, ContextMax: 40960, Loaded: true, Input: text, Type: "llm", Tools: yes()},
			{ID: "qwen2-vl-7b-instruct", ContextWindow: 32768, ContextMax: 32768, Input: []string{"text", "image"}, Type: "llm"},
			{ID: "text-embedding-nomic-embed-text-v1.5", ContextWindow: 2048, ContextMax: 2048, Input: text, Type: "embeddings"},
		}})
	f("lmstudio", map[string]http.HandlerFunc{"/api/v1/models": older, "/api/v0/models": older},
		Found{Kind: catalog.KindLMStudio, State: StateReady, Models: []FoundModel{{ID: "qwen/qwen3-8b"}, {ID: "text-embedding-nomic-embed-text-v1.5"}}})
	f("vllm", nil, Found{Kind: catalog.KindVLLM, Version: "0.11.2", State: StateReady, Models: []FoundModel{
		{ID: "Qwen/Qwen3-8B", ContextWindow: 32768, Loaded: true},
	}})
	f("sglang", nil, Found{Kind: catalog.KindSGLang, Version: "0.5.6", State: StateReady, Slots: 4, Models: []FoundModel{{ID: "default", ContextWindow: 65536, Loaded: true}}})
	f("vllm", map[string]http.HandlerFunc{"/v1/models": answer(200, "application/json", `{"object":"list","data":[{"id":"a/deepseek-r1","max_model_len":"4096","owned_by":7}]}`)},
		Found{Kind: catalog.KindVLLM, Version: "0.11.2", State: StateReady, Models: []FoundModel{{ID: "a/deepseek-r1", ContextWindow: 4096, Loaded: true, Reasoning: true}}})
	// LiteLLM stands before servers of other kinds, and must not be taken for one.
	lite := func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("x-litellm-version", "1.77.3")
		answer(200, "application/json", `{"data":[{"id":"fast","object":"model","created":1677610602,"owned_by":"vllm","max_model_len":100}]}`)(w, q)
	}
	f("litellm", map[string]http.HandlerFunc{"/v1/models": lite}, Found{Kind: catalog.KindLiteLLM, State: StateReady, Models: []FoundModel{{ID: "fast", ContextWindow: 100, Loaded: true}}})
	f("litellm", nil, Found{Kind: catalog.KindLiteLLM, State: StateReady, Models: []FoundModel{{ID: "fast"}}})
	generic := answer(200, "application/json", `{"data":[{"id":"m"},{"id":""},{"id":"n","context_length":8192.0,"architecture":{"input_modalities":["text","image"]}}]}`)
	f("vllm", map[string]http.HandlerFunc{"/v1/models": generic},
		Found{State: StateReady, Models: []FoundModel{{ID: "m"}, {ID: "n", ContextWindow: 8192, Input: []string{"text", "image"}}}})
}

func TestDiscoverTellsStates(t *testing.T) {
	f := func(name string, instead map[string]http.HandlerFunc, kind catalog.Kind, state, detail string) {
		t.Helper()
		s := replay(t, name, instead)
		got := discover(t, s.URL)
		if len(got) != 1 || got[0].Kind != kind || got[0].State != state || !strings.Contains(got[0].Detail, detail) {
			t.Errorf("%s: got %+v, want %s %s with %q", name, got, kind, state, detail)
		}
	}
	server := func(name string, h http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, q *http.Request) { w.Header().Set("Server", name); h(w, q) }
	}
	loading := server("llama.cpp", answer(503, "application/json", `{"error":{"message":"Loading model","type":"unavailable_error","code":503}}`))
	f("llamacpp", map[string]http.HandlerFunc{"/v1/models": loading, "/props": loading}, catalog.KindLlamaCPP, StateLoading, "loaded")
	f("llamacpp", map[string]http.HandlerFunc{"/props": loading}, catalog.KindLlamaCPP, StateLoading, "loaded")
	f("llamacpp", map[string]http.HandlerFunc{"/props": server("llama.cpp", answer(401, "application/json", `{"error":{"message":"Invalid API Key","type":"authentication_error","code":401}}`))},
		catalog.KindLlamaCPP, StateMisconfigured, "set models.providers.<id>.apiKey")
	f("llamacpp", map[string]http.HandlerFunc{"/props": server("llama.cpp", answer(200, "application/json", `{"is_sleeping":true,"total_slots":1}`))},
		catalog.KindLlamaCPP, StateAsleep, "sleeps")
	f("llamacpp", map[string]http.HandlerFunc{"/v1/models": server("llama.cpp", answer(500, "application/json", `{}`))}, catalog.KindLlamaCPP, StateFailing, "Internal Server Error")
	f("vllm", map[string]http.HandlerFunc{"/v1/models": answer(401, "application/json", `{"error":"Unauthorized"}`)}, catalog.KindVLLM, StateMisconfigured, "asks for a key")
	f("lmstudio", map[string]http.HandlerFunc{"/api/v1/models": answer(200, "application/json", `{"models":[{"key":"a","type":"llm","loaded_instances":[]}]}`)},
		catalog.KindLMStudio, StateAsleep, "first request")
}

// What is on a usual port need not be a model server.
func TestDiscoverLeavesOutWhatIsNoModelServer(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + ln.Addr().String()
	ln.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts in the kernel, never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	everywhere := func(h http.HandlerFunc) string {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s.URL
	}
	other := replay(t, "ollama", nil)
	own := func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Server", "nearside/1.0")
		answer(200, "application/json", `{"data":[{"id":"default"}]}`)(w, q)
	}
	list := []string{
		closed,
		everywhere(answer(200, "text/html", "<!doctype html><title>dev server</title>")),
		everywhere(answer(200, "application/json", `{"data":null}`)),
		everywhere(answer(200, "application/json", `[]`)),
		everywhere(answer(200, "application/json", `{"data":{"id":"x"}}`)),
		everywhere(answer(404, "text/plain", "not found")),
		everywhere(answer(401, "text/plain", "who are you")),
		everywhere(answer(500, "text/plain", "oops")),
		everywhere(answer(503, "text/plain", "loading")),
		everywhere(own),
		everywhere(func(w http.ResponseWriter, q *http.Request) {
			http.Redirect(w, q, other.URL+q.URL.Path, http.StatusTemporaryRedirect)
		}),
		everywhere(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Write([]byte(`{"data":[{"id":"`))
			for range 10 {
				w.Write(make([]byte, 1<<20))
			}
		}),
	}
	if got := discover(t, list...); len(got) != 0 {
		t.Errorf("got %+v, want nothing", got)
	}
	if asked := other.list(); len(asked) != 0 {
		t.Errorf("a redirect was followed: %q", asked)
	}
	opt := DiscoverOptions{Timeout: 50 * time.Millisecond, Addresses: []DiscoverAddress{{URL: "http://" + silent.Addr().String()}}}
	if got := Discover(context.Background(), opt); len(got) != 0 {
		t.Errorf("silent port: got %+v, want nothing", got)
	}
	if got := Discover(context.Background(), DiscoverOptions{}); len(got) != 0 {
		t.Errorf("no addresses: got %+v", got)
	}
}

// Many addresses keep their order, each is looked at once, and an address that
// needs a setting says so instead of vanishing.
func TestDiscoverKeepsOrderAndTheAddressPolicy(t *testing.T) {
	vllm, mlx := replay(t, "vllm", nil), replay(t, "mlx", nil)
	n := openPretendNet(t, nil)
	got := Discover(context.Background(), DiscoverOptions{Timeout: lookTime, Addresses: []DiscoverAddress{
		{URL: vllm.URL + "/"}, {URL: "192.168.1.20:1234"}, {URL: strings.TrimPrefix(mlx.URL, "http://")}, {URL: vllm.URL},
	}, Dialer: Dialer{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if strings.HasPrefix(address, "192.") {
			return n.dial(ctx, network, address)
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}}})
	var kinds []catalog.Kind
	for _, f := range got {
		kinds = append(kinds, f.Kind)
	}
	if diff := cmp.Diff([]catalog.Kind{catalog.KindVLLM, "", catalog.KindMLX}, kinds); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	var refused *AddressError
	if !errors.As(got[1].Err, &refused) || !strings.Contains(got[1].Err.Error(), "allowPrivateNetwork") || len(n.dialled) != 0 {
		t.Errorf("LAN address: got %v after dialling %q", got[1].Err, n.dialled)
	}
	for _, key := range append(vllm.keys, mlx.keys...) {
		if key != "" {
			t.Errorf("a credential was sent: %q", key)
		}
	}
}

func TestDiscoverMarksSimulatedBackends(t *testing.T) {
	s := replay(t, "vllm", map[string]http.HandlerFunc{"/v1/models": func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("x-nearside-simulated", "1")
		answer(200, "application/json", `{"data":[{"id":"m","owned_by":"vllm","max_model_len":100}]}`)(w, q)
	}})
	if got := discover(t, s.URL); len(got) != 1 || !got[0].Simulated || got[0].Kind != catalog.KindVLLM {
		t.Fatalf("got %+v, want a simulated vLLM", got)
	}
}

func TestInspectReadsAConfiguredProvider(t *testing.T) {
	s := replay(t, "lmstudio", nil)
	cfg := Config{ID: "box", BaseURL: s.URL + "/v1/", Near: true, API: catalog.Completions, Key: NewSecret("sk-box"),
		Headers: []catalog.Header{{Name: "X-Team", Value: "a"}}}
	got := Inspect(context.Background(), cfg, InspectOptions{Timeout: lookTime})
	if got.Err != nil || got.Kind != catalog.KindLMStudio || got.State != StateReady || got.URL != s.URL+"/v1" {
		t.Fatalf("got %+v", got)
	}
	if m := got.Model("qwen/qwen3-8b"); m == nil || m.ContextWindow != 8192 {
		t.Fatalf("got %+v, want the smallest loaded instance", m)
	}
	for i, key := range s.keys {
		if key != "Bearer sk-box" {
			t.Errorf("%s came with %q", s.asked[i], key)
		}
	}
}

func TestInspectExplainsWhatIsWrong(t *testing.T) {
	f := func(name string, cfg Config, state, detail string) {
		t.Helper()
		cfg.ID = "box"
		got := Inspect(context.Background(), cfg, InspectOptions{Timeout: lookTime})
		if got.Err != nil || got.State != state || !strings.Contains(got.Detail, detail) {
			t.Errorf("%s: got %q %q %v, want %q with %q", name, got.State, got.Detail, got.Err, state, detail)
		}
	}
	ollama, lms := replay(t, "ollama", nil), replay(t, "lmstudio", nil)
	f("Ollama without /v1", Config{BaseURL: ollama.URL, Near: true}, StateMisconfigured, "write "+ollama.URL+"/v1 in models.providers.box.baseUrl")
	f("LM Studio without /v1", Config{BaseURL: lms.URL + "/", Near: true}, StateMisconfigured, "write "+lms.URL+"/v1 in models.providers.box.baseUrl")
	f("LM Studio with a wrong path", Config{BaseURL: lms.URL + "/v2", Near: true}, StateMisconfigured, "is not a model list: see models.providers.box.baseUrl")
	page := replay(t, "vllm", map[string]http.HandlerFunc{"/v1/models": answer(200, "text/html", "<html>")})
	f("web page", Config{BaseURL: page.URL + "/v1", Near: true}, StateMisconfigured, "is not a model list")
	f("far web page", Config{BaseURL: page.URL + "/v1"}, StateMisconfigured, "is not a model list")
	moved := replay(t, "vllm", map[string]http.HandlerFunc{"/v1/models": func(w http.ResponseWriter, q *http.Request) {
		http.Redirect(w, q, ollama.URL+"/v1/models", http.StatusMovedPermanently)
	}})
	before := len(ollama.list())
	f("redirect", Config{BaseURL: moved.URL + "/v1", Near: true, Key: NewSecret("k")}, StateMisconfigured, "redirects")
	if len(ollama.list()) != before {
		t.Error("the redirect was followed")
	}
	locked := replay(t, "vllm", map[string]http.HandlerFunc{"/v1/models": answer(401, "application/json", `{"error":"Unauthorized"}`)})
	f("key missing", Config{BaseURL: locked.URL + "/v1", Near: true}, StateMisconfigured, "set models.providers.box.apiKey")
	f("key refused", Config{BaseURL: locked.URL + "/v1", Key: NewSecret("k")}, StateMisconfigured, "refused: see models.providers.box.apiKey")
	f("far without a list", Config{BaseURL: locked.URL + "/other"}, StateReady, "no model list")
	f("near without a list", Config{BaseURL: locked.URL + "/other", Near: true, Kind: catalog.KindVLLM}, StateMisconfigured, "is not a model list")
}

// A hosted provider is asked for its list and nothing else, and its key goes
// where the configuration says.
func TestInspectAsksHostedProvidersForTheirListOnly(t *testing.T) {
	f := func(cfg Config, path, header, value string) {
		t.Helper()
		var asked []string
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			asked = append(asked, q.URL.RequestURI()+" "+q.Header.Get(header))
			answer(200, "application/json", `{"data":[{"id":"m"}]}`)(w, q)
		}))
		defer s.Close()
		cfg.ID, cfg.BaseURL = "far", s.URL+cfg.BaseURL
		got := Inspect(context.Background(), cfg, InspectOptions{Timeout: lookTime})
		if got.Err != nil || len(got.Models) != 1 || got.Kind != cfg.Kind {
			t.Fatalf("got %+v", got)
		}
		if diff := cmp.Diff([]string{path + " " + value}, asked); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	}
	key := NewSecret("sk-1")
	f(Config{BaseURL: "/v1", Key: key, Kind: catalog.KindOpenAI}, "/v1/models", "Authorization", "Bearer sk-1")
	f(Config{BaseURL: "/openai?api-version=2024-10-21", Auth: Auth{Mode: "header", Header: "api-key", Secret: key}}, "/openai/models?api-version=2024-10-21", "api-key", "sk-1")
	f(Config{API: catalog.Messages, Key: key}, "/v1/models", "x-api-key", "sk-1")
	f(Config{BaseURL: "/v1", Key: key, Auth: Auth{Mode: "none"}}, "/v1/models", "Authorization", "")
}

func TestInspectErrorsHaveKindsAndNoKey(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := ln.Addr().String()
	ln.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	plain := replay(t, "vllm", nil)
	f := func(base string, timeout time.Duration, want Kind) {
		t.Helper()
		got := Inspect(context.Background(), Config{ID: "box", BaseURL: base, Near: true, Key: NewSecret("sk-secret")}, InspectOptions{Timeout: timeout})
		var e *Error
		if !errors.As(got.Err, &e) || e.Kind != want || e.Backend != "box" {
			t.Fatalf("%s: got %v, want %s", base, got.Err, want)
		}
		if strings.Contains(got.Err.Error(), "secret") {
			t.Fatalf("the error shows a credential: %v", got.Err)
		}
	}
	f("http://u:secret@"+closed+"/v1?key=secret", lookTime, KindRefused)
	f("http://"+silent.Addr().String()+"/v1?key=secret", 50*time.Millisecond, KindHeadersTimeout)
	f("https://"+strings.TrimPrefix(plain.URL, "http://")+"/v1", lookTime, KindTLS)
	f("http://169.254.169.254/v1", lookTime, KindAddress)
	if got := Inspect(context.Background(), Config{ID: "box", BaseURL: "ftp://x"}, InspectOptions{}); got.Err == nil {
		t.Fatal("ftp was accepted")
	}
}

func TestFoundModelByTheNamesServersTake(t *testing.T) {
	ollama := Found{Kind: catalog.KindOllama, Models: []FoundModel{{ID: "a:latest"}, {ID: "b:7b"}}}
	one, two := Found{Kind: catalog.KindLlamaCPP, Models: []FoundModel{{ID: "x"}}}, Found{Kind: catalog.KindLlamaCPP, Models: []FoundModel{{ID: "x"}, {ID: "y"}}}
	f := func(found Found, id, want string) {
		t.Helper()
		got := ""
		if m := found.Model(id); m != nil {
			got = m.ID
		}
		if got != want {
			t.Fatalf("Model(%q) of %+v: got %q, want %q", id, found.Models, got, want)
		}
	}
	f(ollama, "a", "a:latest")
	f(ollama, "a:latest", "a:latest")
	f(ollama, "A", "a:latest")
	f(ollama, "b", "")
	f(ollama, "b:7b", "b:7b")
	f(one, "anything", "x")
	f(two, "anything", "")
	f(two, "y", "y")
}

func FuzzReadList(f *testing.F) {
	for _, name := range []string{"llamacpp", "ollama", "mlx", "lmstudio", "vllm", "sglang"} {
		text, err := os.ReadFile("testdata/servers/" + name + "/v1-models.txt")
		if err != nil {
			f.Fatal(err)
		}
		_, body, _ := strings.Cut(string(text), "\r\n\r\n")
		f.Add([]byte(body))
	}
	f.Add([]byte(`[{"id":"a","max_model_len":1e400,"meta":{"n_ctx":-1,"n_ctx_train":"9"}}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		l, ok := readList(reply{status: 200, body: body})
		models := l.found()
		if !ok && len(models) > 0 {
			t.Fatalf("models of what is no list: %+v", models)
		}
		for _, m := range models {
			if m.ID == "" || m.ContextWindow < 0 || m.ContextMax < 0 {
				t.Fatalf("got %+v", m)
			}
		}
	})
}
