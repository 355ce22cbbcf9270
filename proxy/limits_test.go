package proxy

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/goccy/go-json"

	"nearside/catalog"
	"nearside/proxy/access"
	"nearside/upstream"
)

// pricedChat answers with a usage of 100 tokens in and 50 out.
func pricedChat(c net.Conn, _ string) bool {
	const body = `{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150}}`
	_, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	return err == nil
}

// grantServer is policyServer with keys, where far costs $1 a request of
// pricedChat and near nothing.
func grantServer(t *testing.T, near, far func(net.Conn, string) bool, grants ...access.Grant) (*Server, string) {
	t.Helper()
	s, base := policyServer(t, upstream.Dialer{}, func(snap *Snapshot) {
		snap.Config.Keys, snap.Config.Access.ReserveOutput = keysOf(grants...), 50
	}, rawBackend(t, near)+"/v1", rawBackend(t, far)+"/v1")
	for _, p := range s.Snapshot().Catalog.Providers {
		for _, m := range p.Models {
			if !p.Near {
				m.Cost = catalog.Cost{Output: 20_000} // $1 for 50
			}
		}
	}
	return s, base + "/v1"
}

func chatFor(model string) string {
	return fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":"hi"}],"max_tokens":50}`, model)
}

func codeOf(body string) string {
	var e struct{ Error struct{ Code string } }
	_ = json.Unmarshal([]byte(body), &e)
	return e.Error.Code
}

// What is at stake: what a key may not ask for is not there for it, under whatever
// name, and nothing tells it from what there is not.
func TestAKeyMayAskForItsModelsOnly(t *testing.T) {
	_, base := grantServer(t, pricedChat, pricedChat,
		access.Grant{ID: "chain", Models: []string{"house"}}, access.Grant{ID: "near", Models: []string{"near/*"}}, access.Grant{ID: "cloud", Models: []string{"cloud"}},
		access.Grant{ID: "one", Models: []string{"far/m"}, DefaultChain: "house"}, access.Grant{ID: "all"})
	f := func(key, model string, want string, headers ...string) { // the model that answers; empty for none
		t.Helper()
		status, h, body := ask(t, base+"/chat/completions", chatFor(model), append([]string{"x-api-key", key + "-key"}, headers...)...)
		if got := h.Get("X-Nearside-Model"); got != want || (want == "") != (status == 404) || want == "" && codeOf(body) != "model_not_found" {
			t.Errorf("%s asks for %q %q: %d from %q, want %q\n%s", key, model, headers, status, got, want, body)
		}
	}
	f("all", "far/m", "far/m")
	f("all", "default", "near/m")
	f("chain", "house", "near/m")
	f("chain", "HOUSE", "near/m")
	f("chain", "mine", "near/m") // an alias of it
	f("chain", "default", "")
	f("chain", "", "")
	f("chain", "near/m", "") // what is in the chain is not the chain
	f("chain", "far/m", "")
	f("chain", "far/other", "") // passed through
	f("chain", "house", "near/m", "x-nearside-fallback", "far/m")
	f("near", "near/m", "near/m")
	f("near", "near/anything", "near/anything")
	f("near", "default", "near/m")
	f("near", "away", "near/m") // of its models that which may
	f("near", "far/m", "")
	f("near", "cloud", "")
	f("cloud", "cloud", "far/m")
	f("cloud", "far/m", "")
	f("one", "far/m", "far/m")
	f("one", "default", "near/m")
	f("one", "", "near/m")
	for _, dialect := range []string{`/responses {"model":%q,"input":"hi"}`, `/messages {"model":%q,"max_tokens":9,"messages":[{"role":"user","content":"hi"}]}`, `/completions {"model":%q,"prompt":"hi"}`,
		`/embeddings {"model":%q,"input":"hi"}`, `/messages/count_tokens {"model":%q,"messages":[{"role":"user","content":"hi"}]}`, `/responses/input_tokens {"model":%q,"input":"hi"}`} {
		path, body, _ := strings.Cut(dialect, " ")
		_, _, hidden := ask(t, base+path, fmt.Sprintf(body, "far/m"), "x-api-key", "near-key")
		status, _, absent := ask(t, base+path, fmt.Sprintf(body, "nowhere/m"), "x-api-key", "near-key")
		drop := func(s string) string { // the request's id, and the name that was asked for
			s, _, _ = strings.Cut(s, `"request_id"`)
			return strings.NewReplacer("nowhere/m", "NAME", "far/m", "NAME").Replace(s)
		}
		if status != 404 || drop(hidden) != drop(absent) {
			t.Errorf("%s: hidden and absent differ\n%s\n%s", path, hidden, absent)
		}
	}

	listed := func(key string) (ids []string) {
		t.Helper()
		_, _, body := call(t, "GET", base+"/models", "x-api-key", key+"-key")
		var out struct {
			Data []struct {
				ID       string
				Nearside struct{ To []string }
			}
		}
		if err := json.Unmarshal([]byte(body), &out); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		for _, e := range out.Data {
			ids = append(ids, e.ID)
		}
		return ids
	}
	for key, want := range map[string]string{"chain": "house mine", "cloud": "cloud", "one": "default far/m"} {
		have := map[string]bool{}
		for _, id := range listed(key) {
			have[id] = true
			if status, _, body := call(t, "GET", base+"/models/"+id, "x-api-key", key+"-key"); status != 200 {
				t.Errorf("%s: %s is listed and not there: %s", key, id, body)
			}
		}
		for _, id := range strings.Fields(want) {
			if !have[id] {
				t.Errorf("%s does not see %s: %v", key, id, have)
			}
		}
		if have["near/m"] || have["far/m"] != (key == "one") {
			t.Errorf("%s sees what it may not ask for: %v", key, have)
		}
	}
	if len(listed("all")) < 10 {
		t.Errorf("a key without a list sees %v", listed("all"))
	}
	if status, _, body := call(t, "GET", base+"/models/far/m", "x-api-key", "near-key"); status != 404 || strings.Contains(body, `"cloud"`) {
		t.Errorf("a model that it may not ask for: %d %s", status, body)
	}
}

// A key that asks too often hears when to come again, in the words and headers that
// OpenAI's clients know; other keys do not notice.
func TestAKeysRate(t *testing.T) {
	_, base := grantServer(t, pricedChat, pricedChat, access.Grant{ID: "slow", Limits: access.Limits{RequestsPerMinute: 2}}, access.Grant{ID: "small", Limits: access.Limits{TokensPerMinute: 200}}, access.Grant{ID: "free"})
	post := func(key string) (int, http.Header, string) {
		return ask(t, base+"/chat/completions", chatFor("default"), "x-api-key", key+"-key")
	}
	for left := 1; left >= 0; left-- {
		status, h, body := post("slow")
		if status != 200 || h.Get("X-Ratelimit-Limit-Requests") != "2" || h.Get("X-Ratelimit-Remaining-Requests") != fmt.Sprint(left) || h.Get("X-Ratelimit-Reset-Requests") == "" {
			t.Fatalf("%d %v %s", status, h, body)
		}
	}
	status, h, body := post("slow")
	if status != 429 || codeOf(body) != "rate_limit_exceeded" || h.Get("Retry-After") == "" || h.Get("X-Ratelimit-Remaining-Requests") != "0" || !strings.Contains(body, "Limit 2") {
		t.Errorf("a third: %d %v %s", status, h, body)
	}
	post("small")
	post("small")
	if status, h, body = post("small"); status != 429 || h.Get("X-Ratelimit-Limit-Tokens") != "200" || !strings.Contains(body, `"type":"tokens"`) {
		t.Errorf("beyond its tokens: %d %v %s", status, h, body)
	}
	if status, h, body = post("free"); status != 200 || h.Get("X-Ratelimit-Limit-Requests") != "" {
		t.Errorf("another key: %d %v %s", status, h, body)
	}
}

// Many at once, of which a budget holds a few: no more are asked of backends than
// fit, and none is forgotten.
func TestBudgetsOfRequestsAtOnce(t *testing.T) {
	var mu sync.Mutex
	nearAsked, farAsked := 0, 0
	counting := func(n *int) func(net.Conn, string) bool {
		return func(c net.Conn, body string) bool {
			mu.Lock()
			*n++
			mu.Unlock()
			return pricedChat(c, body)
		}
	}
	s, base := grantServer(t, counting(&nearAsked), counting(&farAsked),
		access.Grant{ID: "money", Limits: access.Limits{Daily: access.Budget{USD: 5}}}, access.Grant{ID: "tokens", Limits: access.Limits{Daily: access.Budget{Tokens: 1500}}})
	// $1 each, reckoned and spent: five at the most.
	var all sync.WaitGroup
	codes := map[string]int{}
	for range 40 {
		all.Go(func() {
			status, _, body := ask(t, base+"/chat/completions", chatFor("far/m"), "x-api-key", "money-key", "x-nearside-fallback", "none")
			mu.Lock()
			codes[fmt.Sprint(status, codeOf(body))]++
			mu.Unlock()
		})
	}
	all.Wait()
	u := s.accounts.Used(true)["money"]
	if farAsked > 5 || u.DayUSD > 5.0001 || codes["200"] != farAsked || u.Running != 0 || codes["200"]+codes["429rate_limit_exceeded"]+codes["429insufficient_quota"] != 40 {
		t.Fatalf("%d were asked far, $%v spent: %v", farAsked, u.DayUSD, codes)
	}
	for range 6 { // one by one, until it is spent
		ask(t, base+"/chat/completions", chatFor("far/m"), "x-api-key", "money-key", "x-nearside-fallback", "none")
	}
	status, _, body := ask(t, base+"/chat/completions", chatFor("far/m"), "x-api-key", "money-key", "x-nearside-fallback", "none")
	if farAsked != 5 || status != 429 || codeOf(body) != "insufficient_quota" || !strings.Contains(body, "until 20") {
		t.Errorf("spent: asked %d times, %d %s", farAsked, status, body)
	}
	// What costs nothing goes on, and the plan says why the rest does not.
	status, h, body := ask(t, base+"/chat/completions", chatFor("away"), "x-api-key", "money-key")
	if status != 200 || h.Get("X-Nearside-Attempts") != "far/m=budget_spent, near/m=ok" || farAsked != 5 {
		t.Errorf("with a near one behind: %d %v %s", status, h, body)
	}

	nearAsked = 0
	for range 40 {
		all.Go(func() { ask(t, base+"/chat/completions", chatFor("near/m"), "x-api-key", "tokens-key") })
	}
	all.Wait()
	for range 20 {
		ask(t, base+"/chat/completions", chatFor("near/m"), "x-api-key", "tokens-key")
	}
	// 150 each; reckoned at less than they are, since the prompt was: by that much it
	// may be overdrawn, for each that runs.
	u = s.accounts.Used(true)["tokens"]
	if u.DayTokens != int64(nearAsked)*150 || u.DayTokens < 1500 {
		t.Errorf("%d asked, %d tokens spent", nearAsked, u.DayTokens)
	}
	if status, _, body = ask(t, base+"/chat/completions", chatFor("near/m"), "x-api-key", "tokens-key"); status != 429 || codeOf(body) != "insufficient_quota" || !strings.Contains(body, "begins anew at 20") {
		t.Errorf("spent: %d %s", status, body)
	}
}

// What a backend did not count is not for nothing: a client that leaves in the
// middle, again and again, comes to its limit.
func TestAnAnswerThatWasNotCountedIsSpent(t *testing.T) {
	s, base := grantServer(t, sayHello, sayHello, access.Grant{ID: "k", Limits: access.Limits{Monthly: access.Budget{Tokens: 10_000}}})
	ask(t, base+"/chat/completions", `{"model":"near/m","stream":true,"messages":[{"role":"user","content":"`+strings.Repeat("word ", 400)+`"}]}`, "x-api-key", "k-key")
	if u := s.accounts.Used(true)["k"]; u.MonthTokens < 300 {
		t.Errorf("spent: %+v", u)
	}
}

// Several answers to one request are several: they do not pass for one.
func TestAnswersAreReckonedByTheirNumber(t *testing.T) {
	_, base := grantServer(t, pricedChat, pricedChat, access.Grant{ID: "k", Limits: access.Limits{TokensPerMinute: 1000}})
	f := func(more string, want int) {
		t.Helper()
		body := strings.Replace(chatFor("near/m"), "{", "{"+more, 1)
		if status, _, said := ask(t, base+"/chat/completions", body, "x-api-key", "k-key"); status != want {
			t.Errorf("%s: %d %s, want %d", body, status, said, want)
		}
	}
	f("", 200) // 150 of 1000
	f(`"n":20,`, 429)
	f(`"n":1e300,`, 429)
	f(`"n":-3,`, 200)
	f(`"n":2,`, 200)
	f(`"n":"20",`, 200) // the backend's to refuse
}
