//go:build clients

package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/goccy/go-json"
)

// paced streams some words, then goes on when it is let, one word at a time, to the
// end when the channel is closed.
func paced(words []string, more <-chan struct{}) step {
	return func(_ *backend, c net.Conn, _ asked) bool {
		io.WriteString(c, sseHead+chunked(chatRole))
		for _, w := range words {
			io.WriteString(c, chunked(said(w)))
		}
		for range more {
			if _, err := io.WriteString(c, chunked(said("more "))); err != nil {
				return false
			}
		}
		_, err := io.WriteString(c, chunked(chunk(`{}`, "stop"), chatUsage, chatDone)+lastChunk)
		return err == nil
	}
}

const watchedStream = `{"model":"default","stream":true,"messages":[{"role":"user","content":"hi"}]}`

// looks looks at a view in every theme and width.
func (p *page) looks(view string) {
	p.t.Helper()
	for _, theme := range []string{"light", "dark"} {
		for _, width := range []int{1440, 360} {
			p.look(width, theme)
			where := fmt.Sprintf("%s-%d-%s", view, width, theme)
			p.fine(where)
			p.shot(where, true)
		}
	}
	p.look(1440, "light")
}

// visit goes to a view by its link, as people do.
func (p *page) visit(view string) {
	p.t.Helper()
	p.click(`nav a[href="#` + view + `"]`)
	p.wait(`document.querySelector('nav a[aria-current=page]').hash === '#` + view + `'`)
}

// TestDashboardShowsWhatHappens: in a real browser, what happens is seen as it
// happens, everyone can use the page in every theme and width, and it breaks none of
// its own rules.
func TestDashboardShowsWhatHappens(t *testing.T) {
	more := make(chan struct{})
	enough := sync.OnceFunc(func() { close(more) })
	near := newBackend(t, chat("It is ", "sunny."), whole(500, `{"error":{"message":"CUDA error: out of memory"}}`), paced([]string{"one ", "two "}, more))
	t.Cleanup(enough) // before the backends wait for their steps
	far := newBackend(t, chat("From ", "afar."))
	config := configOf(`dashboard: {everyMs: 100}, ledger: {keep: true}, providers: {far: {near: false}, near: {slots: 1, queue: 4}}`,
		provider("near", near.url, "openai-completions"),
		strings.Replace(provider("far", far.url, "openai-completions", `, cost: {input: 3, output: 15}`), "{", `{apiKey: "sk-secret-of-the-far-9876", `, 1))
	r := start(t, config)
	b := startBrowser(t)
	p := b.page("main", r.base)
	p.look(1440, "light")
	p.open("/dashboard")
	p.says(".headline", "A request now goes to", "near/", "near")
	p.says(".flights, .empty", "Nothing is under way")
	p.fine("now, at rest")

	// One that is answered near, one that fails there and goes far.
	for range 2 {
		if got := r.post("/v1/chat/completions", hello); got.status != 200 {
			t.Fatalf("status %d: %s", got.status, got.body)
		}
	}
	// One that is answered slowly and one that waits for its slot behind it.
	var under []*http.Response
	ask := func() {
		res, err := http.Post(r.base+"/v1/chat/completions", "application/json", strings.NewReader(watchedStream))
		if err != nil {
			t.Error(err)
			return
		}
		under = append(under, res)
	}
	ask()
	second := make(chan struct{})
	go func() { defer close(second); ask() }()
	p.says(".flight.answering", "answering", "near/m", "tokens")
	p.says(".flight.queued", "next in the queue")
	for range 5 {
		more <- struct{}{}
	}
	p.says(".flight.answering", "8 tokens")
	p.wait(`document.querySelector('.tile:nth-child(2) .value').textContent !== '0'`)
	p.says(".card", "1 of 1 slot taken, 1 wait")
	p.looks("now")
	enough()
	<-second
	for _, res := range under {
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Error(err)
		}
		res.Body.Close()
	}
	p.look(1440, "light")
	p.says(".empty", "Nothing is under way")

	var list struct {
		Data []struct {
			Queued   int64 `json:"queued_ns"`
			Own      int64 `json:"own_ns"`
			Attempts []struct {
				At     int64 `json:"at_ns"`
				Queued int64 `json:"queued_ns"`
			}
		}
	}
	if err := json.Unmarshal([]byte(r.get("/proxy/exchanges").body), &list); err != nil || len(list.Data) != 4 {
		t.Fatalf("%v: %d exchanges", err, len(list.Data))
	}
	if x := list.Data[0]; x.Queued == 0 || x.Own >= x.Queued || len(x.Attempts) != 1 || x.Attempts[0].Queued != x.Queued || x.Attempts[0].At < x.Queued {
		t.Errorf("what waited for its slot says %+v", x)
	}

	// The trail of what failed near and was answered far.
	p.visit("exchanges")
	p.says(".exchanges", "answered", "far/m", "2 attempts")
	p.wait(`document.querySelectorAll('.exchange').length === 4`)
	p.click(".bar .pill:nth-child(3)")
	p.wait(`document.querySelectorAll('.exchange').length === 1`)
	p.click(".exchange .summary")
	p.says(".detail", "near/m", "CUDA error: out of memory", "far/m", "first token came", "Went far because")
	p.looks("exchanges")

	// What was used, and what it would have cost.
	p.visit("usage")
	p.says(".tiles", "Saved by answering near", "Spent far", "$")
	p.says(".figures", "Tokens each hour", "Money each hour")
	p.says("table", "near/m", "far/m")
	p.click(".bar .pill:nth-child(2)")
	p.says(".figures", "Tokens each day")
	p.looks("usage")

	p.visit("speed")
	p.says("table", "near/m", "far/m", "ms")
	p.wait(`document.querySelectorAll('circle.dot').length >= 3`)
	p.looks("speed")

	p.visit("backends")
	p.says(".card", "near", "far", near.url, "1 taken")
	p.says("table", "near/m", "Reads a prompt at")
	p.says("table", "status 500", "CUDA error: out of memory")
	p.looks("backends")

	// The configuration: no secret, and what is wrong with the next one.
	p.visit("config")
	p.says(".headline", "valid and in force", "config.json5")
	p.says(".tree", "baseUrl", far.url, "set, ends in 9876")
	p.wait(`!document.body.innerText.includes('sk-secret')`)
	p.looks("config")
	broken := strings.Replace(config, "primary:", "primry:", 1)
	if err := os.WriteFile(r.config, []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	p.says(".headline.bad", "not in force")
	p.says(".problems", "primry", "config.json5:")
	p.looks("config-broken")
	p.visit("now")
	p.says(".headline", "has mistakes and is not used")
}

// TestDashboardOperates: the buttons do what they say, and the page says what came of
// it; a proxy that goes away and comes back is noticed.
func TestDashboardOperates(t *testing.T) {
	near := newBackend(t, whole(500, `{"error":{"message":"CUDA error"}}`), whole(500, `{"error":{"message":"CUDA error"}}`), chat("near"))
	far := newBackend(t, chat("far"))
	config := configOf(`dashboard: {everyMs: 100}, providers: {far: {near: false}, near: {breaker: {consecutive: 2, openForSeconds: 600, jitter: 0}}}`,
		provider("near", near.url, "openai-completions"), strings.Replace(provider("far", far.url, "openai-completions"), "{", `{apiKey: "sk-secret-0001", `, 1))
	r := start(t, config)
	p := startBrowser(t).page("main", r.base)
	p.look(1440, "light")
	p.open("/dashboard")
	for range 2 {
		r.post("/v1/chat/completions", hello)
	}
	p.says(".headline.far", "far/m", "passed over", "breaker")
	p.says(".card", "failing", "breaker open")
	p.looks("failing")
	p.click(`button[aria-label="Reset near"]`)
	p.says(".toast", "near was reset")
	p.says(".headline.near", "near/m")

	p.click(`button[aria-label="Pause near"]`)
	p.says(".toast", "near is paused")
	p.says(".card", "paused", "Nothing new is sent to it")
	p.says(".headline.far", "far/m")
	if got := r.post("/v1/chat/completions", hello); got.header.Get("x-nearside-model") != "far/m" {
		t.Errorf("asked %v while near is paused", got.header)
	}
	p.looks("paused")
	// By keyboard alone: the focus stays where it was while all is drawn again.
	p.do("eval", map[string]any{"js": `document.querySelector('button[aria-label="Resume near"]').focus()`}, nil)
	p.do("press", map[string]any{"key": "Enter"}, nil)
	p.says(".toast", "near takes requests again")
	p.says(".headline.near", "near/m")
	p.click(`button[aria-label="Drain far"]`)
	p.says(".card", "drained", "it can be stopped now")
	p.fine("after all")

	// It goes away, and comes back at the same address.
	r.stop()
	p.says(".banner", "The connection is lost", "Try now")
	p.says(".connection", "Connection lost")
	var expected []string
	p.do("problems", nil, &expected)
	for _, e := range expected {
		if !strings.Contains(e, "/proxy/") || strings.Contains(e, "Content Security Policy") {
			t.Errorf("the page complains: %s", e)
		}
	}
	p.look(360, "dark")
	p.fine("lost")
	p.shot("lost-360-dark", true)
	p.look(1440, "light")
	p.do("problems", nil, &expected)
	again := startAt(t, r.addr, config)
	p.do("eval", map[string]any{"js": `document.querySelector('.banner button')?.click()`}, nil) // or it has tried again by itself
	p.says(".connection", "Live")
	p.says(".headline.near", "near/m")
	if again.base != r.base {
		t.Errorf("it came back at %s", again.base)
	}
}

// TestDashboardAsksForKeys: where keys are asked for nothing is seen without one,
// what is seen is the key's, and it leaves no trace in the browser.
func TestDashboardAsksForKeys(t *testing.T) {
	const operator, guest = "sk-secret-of-the-operator", "sk-secret-of-the-guest"
	sum := func(key string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(key))) }
	near := newBackend(t, chat("near"))
	r := start(t, configOf(`dashboard: {everyMs: 100}, ledger: {keep: true}, keys: {boss: {sha256: "`+sum(operator)+`", operator: true}, kid: {sha256: "`+sum(guest)+`"}}`,
		provider("near", near.url, "openai-completions")))
	for _, key := range []string{operator, guest, guest} {
		if got := r.post("/v1/chat/completions", hello, "authorization", "Bearer "+key); got.status != 200 {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	b := startBrowser(t)
	p := b.page("boss", r.base)
	p.look(1440, "light")
	p.open("/dashboard")
	p.says(".door", "Sign in to nearside", "asks for keys")
	p.looks("door")
	p.do("type", map[string]any{"selector": "#key", "text": "wrong"}, nil)
	p.do("press", map[string]any{"key": "Enter"}, nil)
	p.says(".wrong", "no valid key")
	var complaints []string
	p.do("problems", nil, &complaints) // the browser itself writes the 401 on the console
	if len(complaints) != 1 || !strings.Contains(complaints[0], "401") {
		t.Errorf("the page complains: %v", complaints)
	}
	p.fine("wrong key")
	p.do("type", map[string]any{"selector": "#key", "text": operator}, nil) // what was wrong is selected
	p.click(".door button[type=submit]")
	p.says(".person", "boss", "operator")
	p.says(".card", "near", "Pause")
	p.visit("exchanges")
	p.wait(`document.querySelectorAll('.exchange').length === 3`)
	p.fine("signed in")
	var cookies []struct {
		Name, Value, SameSite string
		HTTPOnly              bool `json:"httpOnly"`
	}
	p.do("cookies", nil, &cookies)
	if len(cookies) != 1 || cookies[0].Name != "nearside_session" || !cookies[0].HTTPOnly || cookies[0].SameSite != "Strict" || strings.Contains(cookies[0].Value, operator) {
		t.Errorf("it keeps %+v", cookies)
	}
	var kept string
	p.do("eval", map[string]any{"js": `JSON.stringify([{...localStorage}, {...sessionStorage}, location.href, document.cookie, document.documentElement.outerHTML])`}, &kept)
	if strings.Contains(kept, operator) || strings.Contains(kept, cookies[0].Value) {
		t.Errorf("the page holds what it should not: %s", kept)
	}
	// What changes something needs more than the cookie.
	var status int
	post := `fetch('/proxy/targets/near/pause', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: '{}'}).then((r) => r.status)`
	p.do("eval", map[string]any{"js": post}, &status)
	if status != 403 {
		t.Errorf("without the session's token: %d, want 403", status)
	}
	p.do("problems", nil, &complaints)
	p.visit("now")
	p.click(`button[aria-label="Pause near"]`)
	p.says(".card", "paused", "By boss")
	p.click(`button[aria-label="Resume near"]`)
	p.says(".headline", "near/m")

	// Another sees its own only, and has no buttons.
	kid := b.page("kid", r.base)
	kid.look(1440, "light")
	kid.open("/dashboard#config")
	kid.do("type", map[string]any{"selector": "#key", "text": guest}, nil)
	kid.click(".door button[type=submit]")
	kid.says(".person", "kid", "own use")
	kid.says(".plainlist", "near", "ready")
	kid.wait(`!document.querySelector('nav a[href="#config"]') && !document.querySelector('nav a[href="#backends"]') && !document.querySelector('button[aria-label^="Pause"]')`)
	kid.visit("exchanges")
	kid.wait(`document.querySelectorAll('.exchange').length === 2`)
	kid.visit("usage")
	kid.says("table", "near/m")
	kid.says("section", "Keys and their limits", "kid")
	kid.wait(`!document.body.innerText.includes('boss')`)
	kid.looks("own")
	for _, path := range []string{"/proxy/config", "/proxy/status", "/metrics"} {
		kid.do("eval", map[string]any{"js": `fetch('` + path + `').then((r) => r.status)`}, &status)
		if status != 403 {
			t.Errorf("a key of its own reads %s: %d", path, status)
		}
	}
	kid.do("problems", nil, &complaints)

	// Who signs out is out, and so is who is signed out elsewhere.
	p.click(`button[aria-label="Sign out boss"]`)
	p.says(".door", "Sign in to nearside")
	p.do("eval", map[string]any{"js": `fetch('/proxy/status').then((r) => r.status)`}, &status)
	if status != 401 {
		t.Errorf("after signing out: %d, want 401", status)
	}
}
