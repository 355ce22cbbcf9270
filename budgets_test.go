package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
)

const countedChat = `{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"hello"}}],
	"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}}`

// What is at stake: a restart gives no budget back, neither a calm one nor kill -9,
// and where the money is spent what costs nothing goes on.
func TestBudgetsOutliveTheProxy(t *testing.T) {
	t.Parallel()
	near, far := newBackend(t, whole(200, countedChat)), newBackend(t, whole(200, countedChat))
	data := t.TempDir()
	config := configOf(`dataDir: `+strconv.Quote(data)+`, access: {reserveOutput: 100, failuresPerMinute: 1000000}, providers: {far: {near: false}}, chains: {paid: ["far/m", "near/m"]}`,
		provider("near", near.url, "openai-completions"),
		provider("far", far.url, "openai-completions", `, cost: {input: 0, output: 20000, cacheRead: 0, cacheWrite: 0}`)) // $2 an answer
	p := start(t, config)
	money, _ := addKey(t, p.config, "money", "--daily-usd", "4")
	tokens, id := addKey(t, p.config, "tokens", "--monthly-tokens", "2000")
	ask := func(p *running, key, model string) reply {
		t.Helper()
		return p.post("/v1/chat/completions", fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":"hi"}]}`, model), "Authorization", "Bearer "+key)
	}
	p.until("the keys are taken", func() bool {
		return p.post("/v1/chat/completions", `{}`, "x-api-key", tokens).status == 400 && ask(p, "", "default").status == 401
	})
	if got := ask(p, money, "far/m"); got.status != 200 || got.header.Get("X-Nearside-Model") != "far/m" {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if got := ask(p, tokens, "near/m"); got.status != 200 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	p.stop()

	p = start(t, config)
	if got := ask(p, money, "paid"); got.status != 200 || got.header.Get("X-Nearside-Model") != "far/m" {
		t.Fatalf("with half of it left: %d %s", got.status, got.body)
	}
	ask(p, tokens, "near/m")
	// It is kept within a second; a crash after that forgets nothing.
	p.until("what was used is kept", func() bool {
		out := mustRun(t, "keys", "list", "--config", p.config)
		return strings.Contains(out, "$4.00, 2200 tokens today")
	})
	p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.exited

	p = start(t, config)
	got := ask(p, money, "paid")
	if got.status != 200 || got.header.Get("X-Nearside-Model") != "near/m" || got.header.Get("X-Nearside-Attempts") != "far/m=budget_spent, near/m=ok" {
		t.Errorf("with nothing left: %d %q %s", got.status, got.header.Get("X-Nearside-Attempts"), got.body)
	}
	got = p.post("/v1/chat/completions", `{"model":"far/m","messages":[{"role":"user","content":"hi"}]}`, "x-api-key", money, "x-nearside-fallback", "none")
	if e := got.failure(); got.status != 429 || e["code"] != "insufficient_quota" || !strings.Contains(fmt.Sprint(e["message"]), "until 20") || got.header.Get("X-Should-Retry") != "false" {
		t.Errorf("far alone: %d %s", got.status, got.body)
	}
	got = ask(p, tokens, "near/m")
	if e := got.failure(); got.status != 429 || e["code"] != "insufficient_quota" || !strings.Contains(fmt.Sprint(e["message"]), "begins anew at 20") {
		t.Errorf("without tokens: %d %s", got.status, got.body)
	}
	// The status and the list show it, and no key.
	boss, _ := addKey(t, p.config, "boss", "--operator")
	p.until("the status shows it", func() bool {
		out, code := runBinary("status", "--url", p.base, "--key", boss)
		return code == 0 && strings.Contains(out, "CLIENTS' KEYS") && strings.Contains(out, id) && strings.Contains(out, "2200 tokens") && !strings.Contains(out, tokens)
	})
	if out, code := runBinary("explain", "-", "--model", "default", "--offline", "--key", "money", "--config", p.config); code == 0 {
		t.Errorf("explain of nothing: %s", out)
	}
	body := filepath.Join(t.TempDir(), "body.json")
	if err := os.WriteFile(body, []byte(hello), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := mustRun(t, "explain", body, "--offline", "--key", "money", "--config", p.config); !strings.Contains(out, "key money ($4 a day)") {
		t.Errorf("explain --key:\n%s", out)
	}
	if out := mustRun(t, "check", "--offline", "--config", p.config); !strings.Contains(out, "2000 tokens a month") || strings.Contains(out, "sha256") {
		t.Errorf("check:\n%s", out)
	}
}

// Several official clients at once, each with a key of its own: each is bound by
// its own alone, hears of its limits as an error that its SDK knows, and cannot
// reach what another has stored.
func TestOfficialClientsWithKeysOfTheirOwn(t *testing.T) {
	t.Parallel()
	near := newBackend(t, whole(200, countedChat))
	p := start(t, configOf(`dataDir: `+strconv.Quote(t.TempDir())+`, access: {failuresPerMinute: 1000000}, aliases: {"gpt-4o": "near/m"}`, provider("near", near.url, "openai-completions")))
	type who struct {
		key    string
		client openai.Client
	}
	var all []who
	for i, flags := range [][]string{{"--requests-per-minute", "5"}, {"--models", "gpt-4o"}, {"--concurrent", "1"}, {"--operator"}} {
		key, _ := addKey(t, p.config, append([]string{fmt.Sprint("agent", i)}, flags...)...)
		all = append(all, who{key, openai.NewClient(option.WithAPIKey(key), option.WithBaseURL(p.base+"/v1"), option.WithMaxRetries(0))})
	}
	p.until("the keys are taken", func() bool {
		return p.post("/v1/chat/completions", `{}`).status == 401 && p.post("/v1/chat/completions", `{}`, "x-api-key", all[3].key).status == 400
	})
	stranger := openai.NewClient(option.WithAPIKey("nsk_wrong"), option.WithBaseURL(p.base+"/v1"), option.WithMaxRetries(0))
	var refused *openai.Error
	if _, err := stranger.Models.List(t.Context()); !errors.As(err, &refused) || refused.StatusCode != 401 || refused.Code != "invalid_api_key" {
		t.Errorf("a wrong key: %v", err)
	}

	chat := func(c openai.Client, model string) error {
		_, err := c.Chat.Completions.New(context.Background(), openai.ChatCompletionNewParams{Model: model, Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("hi")}})
		return err
	}
	var mu sync.Mutex
	count := map[string]int{}
	var running sync.WaitGroup
	for i, w := range all {
		for range 8 {
			running.Go(func() {
				err := chat(w.client, "gpt-4o")
				var said *openai.Error
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					count[fmt.Sprint(i, " ok")]++
				case errors.As(err, &said) && said.StatusCode == 429 && said.Code == "rate_limit_exceeded":
					count[fmt.Sprint(i, " limited")]++
				default:
					t.Errorf("agent %d: %v", i, err)
				}
			})
		}
	}
	running.Wait()
	if count["0 ok"] != 5 || count["0 limited"] != 3 || count["1 ok"] != 8 || count["3 ok"] != 8 || count["2 ok"] < 1 || count["2 ok"]+count["2 limited"] != 8 {
		t.Errorf("%v", count)
	}

	var said *openai.Error
	if err := chat(all[1].client, "near/m"); !errors.As(err, &said) || said.StatusCode != 404 || said.Code != "model_not_found" {
		t.Errorf("a model that the key may not ask for: %v", err)
	}
	list, err := all[1].client.Models.List(t.Context())
	if err != nil || len(list.Data) != 1 || list.Data[0].ID != "gpt-4o" {
		t.Errorf("its list: %+v %v", list, err)
	}
	kept, err := all[1].client.Responses.New(t.Context(), responses.ResponseNewParams{Model: "gpt-4o", Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("hi")}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := all[1].client.Responses.Get(t.Context(), kept.ID, responses.ResponseGetParams{}); err != nil {
		t.Errorf("its own response: %v", err)
	}
	for _, other := range []who{all[2], all[3]} { // an operator is no exception
		if _, err := other.client.Responses.Get(t.Context(), kept.ID, responses.ResponseGetParams{}); !errors.As(err, &said) || said.StatusCode != 404 {
			t.Errorf("another's response: %v", err)
		}
		_, err := other.client.Responses.New(t.Context(), responses.ResponseNewParams{Model: "default", PreviousResponseID: openai.String(kept.ID), Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("and?")}})
		if !errors.As(err, &said) || said.StatusCode/100 != 4 {
			t.Errorf("going on from another's response: %v", err)
		}
	}
	// A new secret of the same key finds what the old one stored.
	renewed := keyText.FindString(mustRun(t, "keys", "rotate", "agent1", "--config", p.config))
	again := openai.NewClient(option.WithAPIKey(renewed), option.WithBaseURL(p.base+"/v1"), option.WithMaxRetries(0))
	p.until("the new key is taken", func() bool {
		_, err := again.Models.List(t.Context())
		return err == nil
	})
	if _, err := again.Responses.Get(t.Context(), kept.ID, responses.ResponseGetParams{}); err != nil {
		t.Errorf("its own response, with a new key: %v", err)
	}
	out := mustRun(t, "status", "--url", p.base, "--key", all[3].key, "--json")
	for _, w := range all {
		if strings.Contains(out, w.key) || strings.Contains(p.output(), w.key) {
			t.Error("a key is shown")
		}
	}
}
