package main

import (
	"context"
	"encoding/csv"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-json"
)

// TestUsageIsAccounted: near and far answers, a failure and a refusal each have
// one row, with tokens, money and attempts, and no word of what was said.
func TestUsageIsAccounted(t *testing.T) {
	answer := func(text string) step {
		return whole(200, `{"id":"x","object":"chat.completion","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"`+text+`"}}],
			"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100,"prompt_tokens_details":{"cached_tokens":400}}}`)
	}
	near := newBackend(t, answer("near-secret-word"), whole(500, `{"error":{"message":"broken"}}`), whole(400, `{"error":{"message":"no","type":"invalid_request_error","code":"you said near-secret-word"}}`))
	far := newBackend(t, answer("far-secret-word"))
	dir := t.TempDir()
	r := start(t, configOf(`dataDir: `+strconv.Quote(dir)+`, providers: { far: { near: false } }`,
		provider("near", near.url, "openai-completions"),
		provider("far", far.url, "openai-completions", `, cost: {input: 2, output: 10, cacheRead: 0.5, cacheWrite: 0}`)))
	for _, want := range []int{200, 200, 400} {
		if p := r.post("/v1/chat/completions", hello); p.status != want {
			t.Fatalf("status %d, want %d: %s", p.status, want, p.body)
		}
	}
	if p := r.post("/v1/chat/completions", `{"model":"default"`); p.status != 400 {
		t.Fatalf("status %d: %s", p.status, p.body)
	}
	path := filepath.Join(dir, "ledger.db")
	// While it runs: the proxy is asked, which writes what waits, and then its file.
	asked, code := runBinary("usage", "--url", r.base, "--json", "--by", "route,outcome", "--since", "1h")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, asked)
	}
	read, code := runBinary("usage", "--file", path, "--json", "--by", "route,outcome", "--since", "1h")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, read)
	}
	if a, b := sumsOf(t, asked), sumsOf(t, read); a != b || !strings.Contains(a, `"exchanges": 1`) {
		t.Errorf("the running proxy and its file do not say the same:\n%s\n%s", asked, read)
	}
	live, code := runBinary("usage", "--url", r.base+"/v1/", "--rows")
	if lines, err := csv.NewReader(strings.NewReader(live)).ReadAll(); code != 0 || err != nil || len(lines) != 5 || lines[1][0] > lines[4][0] {
		t.Errorf("rows of a running proxy, the oldest first: exit %d, %v, %s", code, err, live)
	}
	r.stop() // which writes what waits
	out, code := runBinary("usage", "--file", path, "--by", "route,model,outcome", "--json")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	var got struct {
		Sums []struct {
			Group                    []string
			Exchanges, Input, Cached int64
			Cost                     float64 `json:"cost_usd"`
			Saved                    float64 `json:"saved_usd"`
		}
	}
	if err := json.UnmarshalContext(context.Background(), []byte(out), &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const price = (600*2 + 400*0.5 + 100*10) / 1e6
	seen := map[string]bool{}
	for _, s := range got.Sums {
		group := strings.Join(s.Group, " ")
		seen[group] = true
		cost, saved := 0.0, 0.0
		switch group {
		case "far far/m ok":
			cost = price
		case "near near/m ok":
			saved = price
		case "near near/m error", "  rejected":
			if s.Input != 0 {
				t.Errorf("%s: %d input tokens of an exchange without an answer", group, s.Input)
			}
		default:
			t.Errorf("an unexpected group %q", group)
		}
		if s.Exchanges != 1 || math.Abs(s.Cost-cost) > 1e-12 || math.Abs(s.Saved-saved) > 1e-12 {
			t.Errorf("%s: %d exchanges cost $%v and saved $%v; want one, $%v and $%v", group, s.Exchanges, s.Cost, s.Saved, cost, saved)
		}
	}
	if len(seen) != 4 {
		t.Errorf("%d groups: %s", len(seen), out)
	}
	rows, code := runBinary("usage", "--file", path, "--rows", "--since", "all")
	lines, err := csv.NewReader(strings.NewReader(rows)).ReadAll()
	if code != 0 || err != nil || len(lines) != 5 {
		t.Fatalf("exit %d, %v, %d lines: %s", code, err, len(lines), rows)
	}
	if trail := lines[2][len(lines[2])-1]; trail != "near/m=status_500, far/m=ok" {
		t.Errorf("the trail of the exchange that went far is %q", trail)
	}
	if strings.Contains(rows, "secret-word") {
		t.Error("the ledger holds content")
	}
	text, code := runBinary("usage", "--file", path, "--by", "route")
	if code != 0 || !strings.Contains(text, "saved") || !strings.Contains(text, "all") || !strings.Contains(text, "near: 66.7 % of the exchanges, 50 % of the tokens; saved $0.0024, paid $0.0024") {
		t.Errorf("exit %d: %s", code, text)
	}
	sums, code := runBinary("usage", "--file", path, "--by", "day,route", "--csv", "--since", "all")
	if lines, err := csv.NewReader(strings.NewReader(sums)).ReadAll(); code != 0 || err != nil || len(lines) != 5 || lines[4][0] != "all" || lines[4][2] != "4" {
		t.Errorf("exit %d, %v: %s", code, err, sums)
	}
	for _, bad := range [][]string{{"--by", "shoe"}, {"--since", "whenever"}, {"--since", "1d", "--until", "2d"}} {
		if out, code := runBinary(append([]string{"usage", "--file", path}, bad...)...); code != 2 {
			t.Errorf("%v: exit %d: %s", bad, code, out)
		}
	}
	if out, code := runBinary("usage", "--file", filepath.Join(dir, "none.db")); code != 1 || !strings.Contains(out, "there is no ledger") {
		t.Errorf("exit %d: %s", code, out)
	}
}

// sumsOf returns the sums of a usage as text.
func sumsOf(t *testing.T, out string) string {
	t.Helper()
	var u struct {
		Sums, Total, Near, Far json.RawMessage
	}
	if err := json.Unmarshal([]byte(out), &u); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(u.Sums) + string(u.Total) + string(u.Near) + string(u.Far)
}

// TestUnreportedTokensAreEstimated: a backend that says no usage leaves its row
// marked, with tokens that were reckoned (row 30 of the matrix).
func TestUnreportedTokensAreEstimated(t *testing.T) {
	b := newBackend(t, whole(200, `{"id":"x","object":"chat.completion","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"well"}}]}`))
	dir := t.TempDir()
	r := start(t, configOf(`dataDir: `+strconv.Quote(dir), provider("near", b.url, "openai-completions")))
	if p := r.post("/v1/chat/completions", hello); p.status != 200 {
		t.Fatalf("status %d: %s", p.status, p.body)
	}
	out, code := runBinary("usage", "--url", r.base, "--rows", "--json")
	var row struct {
		Input, Output int
		Reported      bool `json:"usage_reported"`
		Estimated     bool `json:"usage_estimated"`
	}
	if err := json.Unmarshal([]byte(out), &row); code != 0 || err != nil || row.Reported || !row.Estimated || row.Input == 0 || row.Output == 0 {
		t.Errorf("exit %d, %v: %s", code, err, out)
	}
	if text, code := runBinary("usage", "--url", r.base); code != 0 || !strings.Contains(text, "of 1 answer the backend did not say the tokens") {
		t.Errorf("exit %d: %s", code, text)
	}
}
