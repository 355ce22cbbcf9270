package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-json"
)

// metricLabels reads the reference of docs/metrics.md, which a test of proxy/meter
// holds to the code: the labels of each metric, and its type.
func metricLabels(t *testing.T) (labels map[string][]string, kinds map[string]string) {
	t.Helper()
	page, err := os.ReadFile("docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	labels, kinds = map[string][]string{}, map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(nearside_\\w+)` \\| (\\w+) \\| ([^|]*) \\|").FindAllStringSubmatch(string(page), -1) {
		labels[m[1]], kinds[m[1]] = nil, m[2]
		for _, l := range strings.Split(m[3], ",") {
			if l = strings.TrimSpace(l); l != "" {
				labels[m[1]] = append(labels[m[1]], l)
			}
		}
	}
	if len(labels) < 40 {
		t.Fatalf("only %d metrics are in the reference", len(labels))
	}
	return labels, kinds
}

// query is one of the board or of the alerts.
type query struct{ where, expr, legend string }

// boardQueries are all queries of the board.
func boardQueries(t *testing.T) []query {
	t.Helper()
	text, err := os.ReadFile("docs/grafana/nearside.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		UID    string
		Panels []struct {
			ID      int
			Type    string
			Title   string
			GridPos struct{ H, W, X, Y int }
			Targets []struct{ Expr, LegendFormat string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	var all []query
	ids := map[int]bool{}
	for _, p := range board.Panels {
		if p.Type == "row" {
			continue
		}
		if ids[p.ID] || len(p.Targets) == 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %d %q has another's id, no query or no place", p.ID, p.Title)
		}
		ids[p.ID] = true
		for _, q := range p.Targets {
			all = append(all, query{p.Title, q.Expr, q.LegendFormat})
		}
	}
	if board.UID != "nearside" || len(all) < 40 {
		t.Fatalf("%d queries on the board %q", len(all), board.UID)
	}
	return all
}

// alertQueries are the rules of alerts.yml.
func alertQueries(t *testing.T) []query {
	t.Helper()
	text, err := os.ReadFile("docs/prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var all []query
	for _, m := range regexp.MustCompile(`(?m)^ +- alert: (\w+)\n +expr: (.*)$`).FindAllStringSubmatch(string(text), -1) {
		all = append(all, query{where: m[1], expr: m[2]})
	}
	if len(all) != strings.Count(string(text), "- alert:") || len(all) < 15 {
		t.Fatalf("%d rules were understood", len(all))
	}
	return all
}

var (
	selects  = regexp.MustCompile(`\b([a-z][a-z0-9_]*_[a-z0-9_]+)(?:\{([^}]*)\})?`)
	matchers = regexp.MustCompile(`(\w+)(?:=~|!~|!=|=)"`)
	groups   = regexp.MustCompile(`\bby \(([^)]*)\)`)
	legends  = regexp.MustCompile(`\{\{(\w+)\}\}`)
	ofServer = []string{"instance", "job"} // which Prometheus itself adds
)

// A board with a query for a metric that there is not shows an empty panel, and an
// alert never fires: nobody sees either.
func TestQueriesNameWhatThereIs(t *testing.T) {
	labels, kinds := metricLabels(t)
	used := map[string]bool{}
	for _, q := range append(boardQueries(t), alertQueries(t)...) {
		known := slices.Clone(ofServer)
		found := false
		for _, m := range selects.FindAllStringSubmatch(q.expr, -1) {
			name := m[1]
			switch {
			case strings.HasPrefix(name, "go_"), strings.HasPrefix(name, "process_"): // the scrape shows whether they are there
				found = true
				continue
			case !strings.HasPrefix(name, "nearside_"):
				continue // a function
			}
			found = true
			base := name
			if _, ok := labels[name]; !ok {
				base = strings.TrimSuffix(name, "_bucket")
				if kinds[base] != "histogram" {
					t.Errorf("%s: %s is no metric: %s", q.where, name, q.expr)
					continue
				}
				known = append(known, "le")
			}
			used[base] = true
			own := append(slices.Clone(ofServer), labels[base]...)
			known = append(known, labels[base]...)
			for _, l := range matchers.FindAllStringSubmatch(m[2], -1) {
				if !slices.Contains(own, l[1]) {
					t.Errorf("%s: %s has no label %s: %s", q.where, name, l[1], q.expr)
				}
			}
			if counter := kinds[base] == "counter" || base != name; counter != regexp.MustCompile(`(rate|increase)\(`+name+`\b`).MatchString(q.expr) {
				t.Errorf("%s: %s is a %s: %s", q.where, base, kinds[base], q.expr)
			}
		}
		if !found && !strings.HasPrefix(q.expr, "up{") {
			t.Errorf("%s asks for nothing: %s", q.where, q.expr)
		}
		kept := known
		for _, m := range groups.FindAllStringSubmatch(q.expr, -1) {
			kept = nil
			for _, l := range strings.Split(m[1], ",") {
				if l = strings.TrimSpace(l); !slices.Contains(known, l) {
					t.Errorf("%s: no label %s to group by: %s", q.where, l, q.expr)
				}
				kept = append(kept, l)
			}
		}
		for _, m := range legends.FindAllStringSubmatch(q.legend, -1) {
			if !slices.Contains(kept, m[1]) {
				t.Errorf("%s: no label %s for the legend %q of %s", q.where, m[1], q.legend, q.expr)
			}
		}
	}
	if len(used) < 35 {
		t.Errorf("only %d metrics are used", len(used))
	}
}

// tool returns where a program is that scripts/test.sh installs.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%v: scripts/test.sh installs it", err)
		}
		t.Skipf("%v: scripts/test.sh installs it", err)
	}
	return path
}

// TestAlertsFireAndStayQuiet: promtool takes the rules, and for each there is a case
// in which it fires and one in which it does not.
func TestAlertsFireAndStayQuiet(t *testing.T) {
	cases, err := os.ReadFile("docs/prometheus/alerts_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range alertQueries(t) {
		for _, does := range []string{" fires\n", " stays quiet\n"} {
			if !strings.Contains(string(cases), "name: "+q.where+does) {
				t.Errorf("alerts_test.yml has no case in which %s%s", q.where, strings.TrimSpace(does))
			}
		}
	}
	promtool := tool(t, "promtool")
	for _, args := range [][]string{{"check", "config", "docs/prometheus/prometheus.yml"}, {"test", "rules", "docs/prometheus/alerts_test.yml"}} {
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// scraper is a Prometheus that scrapes a proxy.
type scraper struct {
	t    *testing.T
	base string
	log  bytes.Buffer
	done chan struct{}
}

// scrape starts one on the configuration of docs, but for the address and how often.
func scrape(t *testing.T, addr, key string) *scraper {
	t.Helper()
	program := tool(t, "prometheus")
	dir := t.TempDir()
	text, err := os.ReadFile("docs/prometheus/prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	alerts, err := os.ReadFile("docs/prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	own := strings.Replace(strings.Replace(string(text), "scrape_interval: 15s", "scrape_interval: 250ms\n  scrape_timeout: 250ms\n  evaluation_interval: 250ms", 1), "127.0.0.1:4141", addr, 1)
	own = strings.Replace(own, "#authorization: { credentials_file: /etc/prometheus/nearside.key }", "authorization: { credentials_file: "+filepath.Join(dir, "key")+" }", 1)
	for name, text := range map[string][]byte{"prometheus.yml": []byte(own), "alerts.yml": alerts, "key": []byte(key)} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 { // the port may be taken between the two
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		at := ln.Addr().String()
		ln.Close()
		p := &scraper{t: t, base: "http://" + at, done: make(chan struct{})}
		cmd := exec.Command(program, "--config.file", filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path", filepath.Join(dir, "data"), "--web.listen-address", at, "--log.level", "warn")
		cmd.Stdout, cmd.Stderr = &p.log, &p.log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go func() { cmd.Wait(); close(p.done) }()
		t.Cleanup(func() {
			cmd.Process.Signal(syscall.SIGTERM)
			select {
			case <-p.done:
			case <-time.After(patience):
				cmd.Process.Kill()
				<-p.done
			}
		})
		if p.ready() {
			return p
		}
	}
	t.Fatal("no Prometheus came up")
	return nil
}

// ready waits until it answers; false when it has ended.
func (p *scraper) ready() bool {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if resp, err := http.Get(p.base + "/-/ready"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == 200 {
				return true
			}
		}
		select {
		case <-p.done:
			return false
		case <-tick.C:
		}
		if time.Now().After(deadline) {
			p.t.Fatal("Prometheus is not ready")
		}
	}
}

// ask returns how many series a query finds, of which samples have a value.
func (p *scraper) ask(expr string) int {
	p.t.Helper()
	resp, err := http.Get(p.base + "/api/v1/query?query=" + url.QueryEscape(expr))
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	var out struct {
		Status, Error string
		Data          struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		p.t.Fatal(err)
	}
	if out.Status != "success" {
		p.t.Fatalf("%s: %s", expr, out.Error)
	}
	n := 0
	for _, r := range out.Data.Result {
		if r.Value[1] != "NaN" {
			n++
		}
	}
	return n
}

// TestPrometheusScrapes: a real Prometheus takes what the real binary tells after
// traffic of many kinds, and every query of the board has an answer with a value.
func TestPrometheusScrapes(t *testing.T) {
	const mine, others = "key-of-the-laptop", "key-of-the-agent"
	answer := whole(200, `{"id":"x","object":"chat.completion","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"hello"}}],
		"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100,"prompt_tokens_details":{"cached_tokens":400}}}`)
	broken := whole(500, `{"error":{"message":"CUDA error"}}`)
	stream := chatStream("<think>hm", "</think>", "a", "b")
	near := newBackend(t, answer, broken, stream, answer)
	bad := newBackend(t, broken)
	slow, came, let := gatedBackend(t)
	far := newBackend(t, answer, whole(429, `{"error":{"message":"slow down"}}`, "Retry-After: 60"), answer)
	one, two := newBackend(t, stream), newBackend(t, stream)
	r := start(t, configOf(`ledger: { keep: true }, traces: { endpoint: "`+newCollecting(t).url+`/v1/traces", sample: 0.5, everyMs: 50 }, `+observed(t)+`
			providers: { far: { near: false, apiKeys: ["sk-far-two"] }, slow: { slots: 1 }, bad: { breaker: { consecutive: 3, openForMs: 50 } }, pair: { endpoints: [{ url: "`+one.url+`" }, { url: "`+two.url+`" }] } }`,
		provider("near", near.url, "openai-completions"),
		strings.Replace(provider("far", far.url, "openai-completions", `, cost: {input: 2, output: 10, cacheRead: 0.5, cacheWrite: 0}`), "{", `{apiKey: "sk-far-one", `, 1),
		provider("bad", bad.url, "openai-completions"), provider("slow", slow.url, "openai-completions"),
		strings.Replace(provider("pair", one.url, "openai-completions"), `baseUrl: "`+one.url+`", `, "", 1)))
	r.key = mine
	p := scrape(t, r.addr, mine)
	traffic := func() {
		for i, body := range []string{hello, hello, helloStream, hello, hello} { // near; far after near failed; a stream; near; far
			key := mine
			if i > 2 {
				key = others
			}
			r.post("/v1/chat/completions", body, "Authorization", "Bearer "+key, "X-Nearside-Fallback", "far/m")
		}
		for range 2 { // a key that is limited, and the next one
			r.post("/v1/chat/completions", strings.Replace(hello, "default", "far/m", 1), "Authorization", "Bearer "+mine)
		}
		r.post("/v1/chat/completions", strings.Replace(helloStream, "default", "pair/m", 1), "Authorization", "Bearer "+mine)
		r.post("/v1/chat/completions", `{"model":`, "Authorization", "Bearer "+mine)
		// No time is left for a second target.
		r.post("/v1/chat/completions", strings.Replace(hello, "default", "bad/m", 1), "Authorization", "Bearer "+mine, "X-Nearside-Timeout", "0.2", "X-Nearside-Fallback", "far/m")
		// One has the slot, one waits for it, and one leaves the queue.
		done := make(chan reply, 2)
		toSlow := strings.Replace(hello, "default", "slow/m", 1)
		for range 2 {
			go func() {
				done <- r.post("/v1/chat/completions", toSlow, "Authorization", "Bearer "+mine, "X-Nearside-Fallback", "none")
			}()
		}
		<-came
		gone := r.dial()
		fmt.Fprint(gone, strings.Replace(request("/v1/chat/completions", toSlow), "\r\n", "\r\nAuthorization: Bearer "+mine+"\r\nX-Nearside-Fallback: none\r\n", 1))
		r.waitingFor("slow", 2)
		gone.Close()
		r.waitingFor("slow", 1)
		let <- struct{}{}
		<-came
		let <- struct{}{}
		<-done
		<-done
	}
	traffic()
	missing := boardQueries(t)
	deadline := time.Now().Add(2 * patience)
	for round := 0; len(missing) > 0; round++ {
		if time.Now().After(deadline) {
			for _, q := range missing {
				t.Errorf("%s has no data: %s", q.where, q.expr)
			}
			t.Fatalf("%d queries of the board have no data\n%s\n%s", len(missing), p.log.String(), r.get("/metrics").body)
		}
		traffic() // rates want two scrapes and something between them
		missing = slices.DeleteFunc(missing, func(q query) bool {
			return p.ask(strings.NewReplacer("$instance", ".+", "$__rate_interval", "1m").Replace(q.expr)) > 0
		})
	}
	for _, q := range alertQueries(t) {
		p.ask(q.expr)
	}
	if n := p.ask(`up{job="nearside"} == 1`); n != 1 {
		t.Errorf("%d proxies are up", n)
	}
	resp, err := http.Get(p.base + "/api/v1/rules")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var rules struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&rules); err != nil || len(rules.Data.Groups) != 1 {
		t.Fatalf("%v, %d groups of rules", err, len(rules.Data.Groups))
	}
	for _, rule := range rules.Data.Groups[0].Rules {
		if rule.Health == "err" {
			t.Errorf("%s: %s", rule.Name, rule.LastError)
		}
	}
}

// observed are the settings of a proxy whose clients have keys.
func observed(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf(`keys: {laptop: {sha256: %q, operator: true}, agent: {sha256: %q}}, `, hexSum("key-of-the-laptop"), hexSum("key-of-the-agent"))
}
