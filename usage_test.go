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
	near := newBackend(t, answer("near-secret-word"), whole(500, `{"error":{"message":"broken"}}`), whole(400, `{"error":{"message":"no","type":"invalid_request_error"}}`))
	far := newBackend(t, answer("far-secret-word"))
	dir := t.TempDir()
	r := start(t, configOf(`ledger: { keep: true }, dataDir: `+strconv.Quote(dir)+`, providers: { far: { near: false } }`,
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
	r.stop() // which writes what waits
	path := filepath.Join(dir, "ledger.db")
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
	if code != 0 || !strings.Contains(text, "saved") || !strings.Contains(text, "all") {
		t.Errorf("exit %d: %s", code, text)
	}
	for _, bad := range [][]string{{"--by", "shoe"}, {"--since", "yesterday"}, {"--since", "1d", "--until", "2d"}} {
		if out, code := runBinary(append([]string{"usage", "--file", path}, bad...)...); code != 2 {
			t.Errorf("%v: exit %d: %s", bad, code, out)
		}
	}
	if out, code := runBinary("usage", "--file", filepath.Join(dir, "none.db")); code != 1 || !strings.Contains(out, "there is no ledger") {
		t.Errorf("exit %d: %s", code, out)
	}
}
