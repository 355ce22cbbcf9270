package main

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/goccy/go-json"
)

// The keys of these tests. The proxy's output is searched for "sk-secret" when it
// stops, and every answer is here.
const (
	keyA = "sk-secret-key-of-the-first-aaaa"
	keyB = "sk-secret-key-of-another-bbbb"
	keyC = "sk-secret-key-of-a-third-cccc"
)

// byKey answers each request by its key and the model that it names, and notes
// both, as "A m".
func byKey(t *testing.T, f func(key, model string) step) (*backend, func() []string) {
	t.Helper()
	seen := make(chan string, 1024)
	b := newBackend(t, func(b *backend, c net.Conn, a asked) bool {
		key := map[string]string{"Bearer " + keyA: "A", "Bearer " + keyB: "B", "Bearer " + keyC: "C"}[a.header.Get("Authorization")]
		var body struct{ Model string }
		if err := json.Unmarshal(a.body, &body); err != nil {
			t.Error(err)
		}
		seen <- key + " " + body.Model
		return f(key, body.Model)(b, c, a)
	})
	return b, func() (all []string) {
		for {
			select {
			case s := <-seen:
				all = append(all, s)
			default:
				return all
			}
		}
	}
}

// keyed is a hosted provider's entry with its first key and two models.
func keyed(id, url, key string) string {
	return fmt.Sprintf(`%s: {baseUrl: %q, api: "openai-completions", apiKey: %q, models: [{id: "m", contextWindow: 100000}, {id: "n", contextWindow: 100000}]}`, id, url, key)
}

// farWith are settings under which far counts as hosted and has further keys.
func farWith(more string, keys ...string) string {
	quoted := make([]string, len(keys))
	for i, k := range keys {
		quoted[i] = strconv.Quote(k)
	}
	return fmt.Sprintf(`providers: {far: {near: false, breaker: {disabled: true}, apiKeys: [%s]}}%s`, strings.Join(quoted, ","), more)
}

// conversation is a request of a conversation.
func conversation(name string) (body, header, value string) {
	return hello, "X-Nearside-Session", name
}

func said429(headers ...string) step {
	return whole(429, `{"error":{"message":"slow down"}}`, headers...)
}

var (
	said401 = whole(401, `{"error":{"message":"Incorrect API key provided"}}`)
	said402 = whole(402, `{"error":{"message":"insufficient credits"}}`)
	said529 = whole(529, `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`)
)

func triedBy(got reply) string { return got.header.Get("X-Nearside-Attempts") }

// What is a key's fault has the next key of the same provider answer, and the key
// is left alone then; what is not has the next target answer.
func TestKeysRotate(t *testing.T) {
	f := func(name string, bad step, outcome string, rotates bool) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			far, seen := byKey(t, func(key, _ string) step {
				if key == "A" {
					return bad
				}
				return chat("from B")
			})
			other := newBackend(t, chat("from other"))
			p := start(t, configOf(farWith("", keyB), keyed("far", far.url, keyA), provider("other", other.url, "openai-completions")))
			first, second := p.post("/v1/chat/completions", hello), p.post("/v1/chat/completions", hello)
			if !rotates {
				if want := "far/m=" + outcome + ", other/m=ok"; triedBy(first) != want || triedBy(second) != want || !slices.Equal(seen(), []string{"A m", "A m"}) {
					t.Errorf("attempts %q and %q, want %q twice", triedBy(first), triedBy(second), want)
				}
				return
			}
			if want := "far/m=" + outcome + ", far/m=ok"; first.text() != "from B" || triedBy(first) != want || triedBy(second) != "far/m=ok" {
				t.Errorf("%d %q, attempts %q and %q, want %q and far/m=ok", first.status, first.text(), triedBy(first), triedBy(second), want)
			}
			if got := seen(); !slices.Equal(got, []string{"A m", "B m", "B m"}) {
				t.Errorf("the backend saw %q", got)
			}
			attempts := list(p.receipt(first)["attempts"])
			if len(attempts) != 2 || attempts[0]["key"] != "key 1 (…aaaa)" || attempts[1]["key"] != "key 2 (…bbbb)" {
				t.Errorf("the receipt's attempts: %v", attempts)
			}
		})
	}
	f("429", said429(), "status_429", true)
	f("402", said402, "status_402", true)
	f("401", said401, "status_401", true)
	f("403", whole(403, `{"error":{"message":"access denied"}}`), "status_403", true)
	f("529", said529, "status_529", true)
	f("500", whole(500, `{"error":{"message":"boom"}}`), "status_500", false)
	f("408", whole(408, `{"error":{"message":"boom"}}`), "status_408", false)
	f("404", whole(404, `{"error":{"message":"no such model"}}`), "status_404", false)
}

// A request's own fault costs no key and no further try.
func TestRequestFaultsDoNotRotate(t *testing.T) {
	far, seen := byKey(t, func(_, _ string) step {
		return whole(400, `{"error":{"message":"bad temperature","code":"invalid_value"}}`)
	})
	p := start(t, configOf(farWith("", keyB), keyed("far", far.url, keyA)))
	for range 2 {
		if got := p.post("/v1/chat/completions", hello); got.status != 400 {
			t.Errorf("%d %s", got.status, got.body)
		}
	}
	if got := seen(); !slices.Equal(got, []string{"A m", "A m"}) {
		t.Errorf("the backend saw %q", got)
	}
}

// Of a provider that limits every key one further key is tried, not all.
func TestRotationsAreBounded(t *testing.T) {
	f := func(name, settings string, bad step, want ...string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			far, seen := byKey(t, func(_, _ string) step { return bad })
			other := newBackend(t, chat("from other"))
			p := start(t, configOf(farWith(settings, keyB, keyC), keyed("far", far.url, keyA), provider("other", other.url, "openai-completions")))
			if got := p.post("/v1/chat/completions", hello); got.text() != "from other" || !slices.Equal(seen(), want) {
				t.Errorf("%d %q, attempts %q, want keys %q", got.status, got.text(), triedBy(got), want)
			}
		})
	}
	f("limited", "", said429(), "A m", "B m")
	f("limited, none", ", cooldown: {rateLimitedRotations: 0}", said429(), "A m")
	f("limited, two", ", cooldown: {rateLimitedRotations: 2}", said429(), "A m", "B m", "C m")
	f("overloaded", "", said529, "A m", "B m")
	f("overloaded, none", ", cooldown: {overloadedRotations: 0}", said529, "A m")
	f("refused", "", said401, "A m", "B m", "C m")
	f("without credit", "", said402, "A m", "B m", "C m")
	f("without credit, one in all", ", cooldown: {rotations: 1}", said402, "A m", "B m")
}

// A limit is the model's: another model of the key is asked with it.
func TestLimitsAreTheModels(t *testing.T) {
	far, seen := byKey(t, func(key, model string) step {
		if key+model == "Am" {
			return said429()
		}
		return chat("ok")
	})
	p := start(t, configOf(farWith("", keyB), keyed("far", far.url, keyA)))
	for _, model := range []string{"far/m", "far/n", "far/m"} {
		p.post("/v1/chat/completions", strings.Replace(hello, "default", model, 1))
	}
	if got := seen(); !slices.Equal(got, []string{"A m", "B m", "A n", "B m"}) {
		t.Errorf("the backend saw %q", got)
	}
}

// When every key is left alone: a limited primary is tried before its time, but
// not twice in a row; a refused one is not, one without credit only where nobody
// else answers, and one that asked for time gets it.
func TestProbes(t *testing.T) {
	f := func(name string, bad step, settings string, counts []int, skipped, strict string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			far, _ := byKey(t, func(_, _ string) step { return bad })
			other := newBackend(t, chat("from other"))
			p := start(t, configOf(farWith(settings), keyed("far", far.url, keyA), provider("other", other.url, "openai-completions")))
			var got reply
			for i, want := range counts {
				if got = p.post("/v1/chat/completions", hello); got.text() != "from other" || far.count() != want {
					t.Errorf("request %d: %q, attempts %q, far was asked %d times, want %d", i+1, got.text(), triedBy(got), far.count(), want)
				}
			}
			if want := "far/m=" + skipped + ", other/m=ok"; triedBy(got) != want {
				t.Errorf("attempts %q, want %q", triedBy(got), want)
			}
			was := far.count()
			got = p.post("/v1/chat/completions", hello, "X-Nearside-Fallback", "none")
			if code := fmt.Sprint(got.failure()["code"]); fmt.Sprint(got.status, " ", code, " ", far.count()-was) != strict {
				t.Errorf("alone: %d %s, asked %d times; want %s\n%s", got.status, code, far.count()-was, strict, got.body)
			}
			if got.status == 429 && far.count() == was && got.header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		})
	}
	f("limited", said429(), "", []int{1, 2, 2}, "cooling_down", "429 rate_limit_exceeded 0")
	f("limited, always", said429(), ", cooldown: {probeEverySeconds: 0.000001}", []int{1, 2, 3}, "status_429", "429 rate_limit_exceeded 1")
	f("limited, far from its end", said429(), ", cooldown: {firstSeconds: 300, probeEverySeconds: 0.000001}", []int{1, 1, 1}, "cooling_down", "429 rate_limit_exceeded 0")
	f("asked for time", said429("Retry-After: 60"), ", cooldown: {probeEverySeconds: 0.000001}", []int{1, 1, 1}, "cooling_down", "429 rate_limit_exceeded 0")
	f("overloaded", said529, "", []int{1, 2, 2}, "cooling_down", "429 rate_limit_exceeded 0")
	f("without credit", said402, "", []int{1, 1, 1}, "no_credit", "429 insufficient_quota 1")
	f("without credit, near its end", said402, ", cooldown: {billingBackoffMs: 60000}", []int{1, 2, 2}, "no_credit", "429 insufficient_quota 0")
	f("refused", said401, ", cooldown: {probeEverySeconds: 0.000001}", []int{1, 1, 1}, "credential_refused", "502 upstream_auth 0")
}

// A provider behind the primary that may be there again is tried once an exchange;
// where that says nothing of the provider its next model is.
func TestProbesOfFallbacks(t *testing.T) {
	f := func(name string, then step, want ...string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			down := said529
			far, seen := byKey(t, func(_, model string) step {
				if model == "m" {
					return down
				}
				return chat("from n")
			})
			near := newBackend(t, whole(500, `{"error":{"message":"boom"}}`))
			config := configOf(farWith(`, fallback: {targets: 4}`), provider("near", near.url, "openai-completions"), keyed("far", far.url, keyA))
			p := start(t, strings.Replace(strings.Replace(config, `"far/m"`, `"far/m", "far/n"`, 1), "far: {near", `near: {breaker: {disabled: true}}, far: {near`, 1))
			if got := p.post("/v1/chat/completions", strings.Replace(hello, "default", "far/m", 1), "X-Nearside-Fallback", "none"); got.status < 400 {
				t.Fatalf("%d %s", got.status, got.body)
			}
			down = then
			got := p.post("/v1/chat/completions", hello)
			if all := seen(); !slices.Equal(all, append([]string{"A m"}, want...)) {
				t.Errorf("%d, attempts %q, far saw %q", got.status, triedBy(got), all)
			}
		})
	}
	f("it is there again", chat("from m"), "A m")
	f("it is not", said529, "A m")
	f("it does not know the model", whole(404, `{"error":{"message":"no such model"}}`), "A m", "A n")
}

// A conversation stays at its key, though the first may be used again; others use
// the first.
func TestConversationsStayAtTheirKey(t *testing.T) {
	limited := make(chan bool, 1)
	limited <- true
	far, seen := byKey(t, func(key, _ string) step {
		select {
		case <-limited:
			return said429()
		default:
			return chat("ok")
		}
	})
	p := start(t, configOf(farWith(", cooldown: {firstMs: 30}", keyB), keyed("far", far.url, keyA)))
	ask := func(name string) string {
		body, header, value := conversation(name)
		p.post("/v1/chat/completions", body, header, value)
		all := seen()
		return all[len(all)-1]
	}
	if got := ask("one"); got != "B m" {
		t.Fatalf("the first turn was served with %q", got)
	}
	n := 0
	p.until("the first key is used again", func() bool { n++; return ask(fmt.Sprint("another ", n)) == "A m" })
	for range 3 {
		if got := ask("one"); got != "B m" {
			t.Errorf("a later turn was served with %q", got)
		}
		if got := ask("two"); got != "A m" {
			t.Errorf("another conversation was served with %q", got)
		}
	}
	limited <- true // its key fails: it goes on with the other, and stays there
	if got := ask("one"); got != "A m" {
		t.Errorf("after the failure it was served with %q", got)
	}
	p.until("the second key is used again", func() bool {
		for _, k := range list(status(t, p)["keys"]) {
			if k["state"] != "ready" {
				return false
			}
		}
		return true
	})
	if got := ask("one"); got != "A m" {
		t.Errorf("then with %q", got)
	}
}

// status is the row of far in /proxy/status.
func status(t *testing.T, p *running) map[string]any {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal([]byte(p.get("/proxy/status").body), &all); err != nil {
		t.Fatal(err)
	}
	for _, b := range list(all["backends"]) {
		if b["provider"] == "far" {
			return b
		}
	}
	t.Fatal("no far")
	return nil
}

// Among targets that are as far as each other a conversation stays at the one that
// served it; near stays first.
func TestConversationsStayAtTheirTarget(t *testing.T) {
	once := func(text string) step {
		failed := false
		return func(b *backend, c net.Conn, a asked) bool {
			if !failed {
				failed = true
				return whole(500, `{"error":{"message":"boom"}}`)(b, c, a)
			}
			return chat(text)(b, c, a)
		}
	}
	f := func(name, settings string, near bool, first, later, others string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			one, two := newBackend(t, once("one")), newBackend(t, chat("two"))
			routes := fmt.Sprintf(`providers: {one: {near: %v, breaker: {disabled: true}}, two: {near: false}}%s`, near, settings)
			p := start(t, configOf(routes, provider("one", one.url, "openai-completions"), provider("two", two.url, "openai-completions")))
			ask := func(name string) string {
				body, header, value := conversation(name)
				return triedBy(p.post("/v1/chat/completions", body, header, value))
			}
			for i, want := range []string{first, later, later} {
				if got := ask("a"); got != want {
					t.Errorf("turn %d: %q, want %q", i+1, got, want)
				}
			}
			if got := ask("b"); got != others {
				t.Errorf("another conversation: %q, want %q", got, others)
			}
		})
	}
	f("two far ones", "", false, "one/m=status_500, two/m=ok", "two/m=ok", "one/m=ok")
	f("near first stays near first", "", true, "one/m=status_500, two/m=ok", "one/m=ok", "one/m=ok")
	f("switched off", ", affinity: {targets: false}", false, "one/m=status_500, two/m=ok", "one/m=ok", "one/m=ok")
	f("none remembered", ", affinity: {sessions: 0}", false, "one/m=status_500, two/m=ok", "one/m=ok", "one/m=ok")
}

// A reload keeps what is known of a key that stays, wherever it stands, and has a
// refused one tried again; a new key is new.
func TestReloadKeepsCooldowns(t *testing.T) {
	bad := said429()
	far, seen := byKey(t, func(key, _ string) step {
		if key == "A" {
			return bad
		}
		return chat("ok")
	})
	config := func(first string, more ...string) string {
		return configOf(farWith("", more...), keyed("far", far.url, first))
	}
	p := start(t, config(keyA, keyB))
	p.post("/v1/chat/completions", hello)
	if got := seen(); !slices.Equal(got, []string{"A m", "B m"}) {
		t.Fatalf("the backend saw %q", got)
	}
	p.swap(config(keyC, keyA))
	p.until("the new key is used", func() bool {
		p.post("/v1/chat/completions", hello)
		return slices.Contains(seen(), "C m")
	})
	p.swap(config(keyA, keyC))
	p.until("the configuration is loaded", func() bool { return fmt.Sprint(list(status(t, p)["keys"])[0]["key"]) == "key 1 (…aaaa)" })
	p.post("/v1/chat/completions", hello)
	if got := seen(); !slices.Equal(got, []string{"C m"}) {
		t.Errorf("after the reload the backend saw %q", got)
	}
}

// A refused key may have been mended where it lies: loading the configuration has
// it tried again.
func TestReloadForgivesRefusedKeys(t *testing.T) {
	far, _ := byKey(t, func(_, _ string) step { return said401 })
	p := start(t, configOf(farWith(""), keyed("far", far.url, keyA)))
	for range 2 {
		p.post("/v1/chat/completions", hello)
	}
	if far.count() != 1 {
		t.Fatalf("far was asked %d times", far.count())
	}
	warnings := func() int { return strings.Count(p.output(), `"message":"credential refused"`) }
	p.until("the refusal is in the log", func() bool { return warnings() > 0 })
	if got := p.get("/metrics").body; !strings.Contains(got, `nearside_problems_total{kind="credential_refused"} 1`) {
		t.Error("the metrics do not count the refusal")
	}
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	p.until("far is asked again", func() bool {
		p.post("/v1/chat/completions", hello)
		return far.count() == 2
	})
	p.until("it is in the log again", func() bool { return warnings() == 2 })
}

// What is left alone, why and until when is told to operators, and no key is told
// to anybody, though the backend repeats it.
func TestKeysAreNamedAndNeverShown(t *testing.T) {
	far := newBackend(t, func(b *backend, c net.Conn, a asked) bool {
		key := strings.TrimPrefix(a.header.Get("Authorization"), "Bearer ")
		return whole(402, `{"error":{"message":"the key `+key+` has no credit, nor have `+keyA+` and `+keyB+`"}}`)(b, c, a)
	})
	p := start(t, configOf(farWith(`, log: {level: "debug"}`, keyB), keyed("far", far.url, keyA)), "FAR_API_KEYS="+keyC)
	failed := p.post("/v1/chat/completions", hello)
	if failed.status != 429 || failed.failure()["code"] != "insufficient_quota" {
		t.Errorf("%d %s", failed.status, failed.body)
	}
	p.post("/v1/chat/completions", hello) // the primary alone is tried before its time
	skipped := p.post("/v1/chat/completions", hello)
	text, code := runBinary("status", "--url", p.base)
	if code != 0 {
		t.Fatalf("nearside status: %d %s", code, text)
	}
	said := map[string]string{"the answer": failed.body, "the answer to the next": skipped.body, "/proxy/status": p.get("/proxy/status").body, "nearside status": text,
		"/metrics": p.get("/metrics").body, "/proxy/exchanges": p.get("/proxy/exchanges").body, "/v1/models": p.get("/v1/models").body, "/readyz": p.get("/readyz").body, "the log": p.output()}
	for where, got := range said {
		for _, key := range []string{keyA, keyB, keyC} {
			if strings.Contains(got, key) {
				t.Errorf("%s shows a key:\n%s", where, got)
			}
		}
	}
	f := func(where, want string) {
		t.Helper()
		if !strings.Contains(said[where], want) {
			t.Errorf("%s does not say %q:\n%s", where, want, said[where])
		}
	}
	f("/proxy/status", `{"key":"key 2 (…bbbb)","state":"disabled","reason":"billing","until":`)
	f("nearside status", "key 1 (…aaaa)")
	f("/metrics", `nearside_key_cooldown_seconds{key="2",provider="far",reason="billing"} 1`)
	f("/proxy/exchanges", `"key":"key 1 (…aaaa)"`)
	f("the log", `"key":"key 1 (…aaaa)","reason":"billing"`)
	f("the answer to the next", "key 1 (…aaaa)")
}
