package config

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"nearside/upstream"
)

// with reads a text in an environment.
func with(text string, env map[string]string) (*Config, Problems) {
	return Load("config.json5", Options{Home: "/home/someone",
		LookupEnv: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		Environ: func() []string {
			var all []string
			for name, v := range env {
				all = append(all, name+"="+v)
			}
			return all
		},
		ReadFile: func(path string, limit int) ([]byte, error) {
			if path != "config.json5" {
				return nil, os.ErrNotExist
			}
			return []byte(text), nil
		}})
}

func keysOf(c *Config, id string) []string {
	for _, b := range c.Backends {
		if b.ID == id {
			var all []string
			for _, s := range append([]upstream.Secret{b.Key}, b.More...) {
				if !s.IsZero() {
					all = append(all, s.Reveal())
				}
			}
			return all
		}
	}
	return nil
}

// The environment's lists are OpenClaw's: one that stands above all, a list, the
// plain one, numbered ones in the order of their names, each key once.
func TestKeysOfTheEnvironment(t *testing.T) {
	f := func(what, id, text string, env map[string]string, want ...string) {
		t.Helper()
		c, problems := with(text, env)
		if errs := problems.Errors(); len(errs) > 0 {
			t.Fatalf("%s: %s", what, errs)
		}
		if got := keysOf(c, id); !slices.Equal(got, want) {
			t.Errorf("%s\n got %q\nwant %q", what, got, want)
		}
	}
	all := map[string]string{"OPENAI_API_KEYS": "sk-a, sk-b;sk-c\n sk-a", "OPENAI_API_KEY": "sk-d", "OPENAI_API_KEY_10": "sk-f", "OPENAI_API_KEY_2": "sk-e",
		"OPENAI_API_KEY_3": "sk-b", "OPENAI_API_KEY_FILE": "/run/secrets/openai", "OPENAI_API_KEY_EMPTY": " "}
	f("a built-in provider", "openai", `{}`, all, "sk-a", "sk-b", "sk-c", "sk-d", "sk-e", "sk-f")
	f("one in the file, without a key", "openai", `{models: {providers: {openai: {}}}}`, all, "sk-a", "sk-b", "sk-c", "sk-d", "sk-e", "sk-f")
	f("one in the file, with its key", "openai", `{models: {providers: {openai: {apiKey: "sk-own"}}}}`, all, "sk-own")
	f("one in the file, with its key and others", "openai", `{models: {providers: {openai: {apiKey: "sk-own"}}}, proxy: {providers: {openai: {apiKeys: ["sk-x", {source: "env", id: "OPENAI_API_KEY"}]}}}}`, all, "sk-own", "sk-x", "sk-d")
	f("and those of the environment too", "openai", `{proxy: {providers: {openai: {apiKeys: ["sk-x"]}}}}`, map[string]string{"OPENAI_API_KEY": "sk-d"}, "sk-d", "sk-x")
	f("keys of the file alone", "openai", `{proxy: {providers: {openai: {apiKeys: ["sk-x", "sk-y"]}}}}`, nil, "sk-x", "sk-y")
	all["OPENCLAW_LIVE_OPENAI_KEY"] = "sk-live"
	f("the one above all", "openai", `{}`, all, "sk-live")
	f("one that is not built in", "acme-ai", `{models: {providers: {"acme-ai": {baseUrl: "https://api.acme.example/v1"}}}}`, map[string]string{"ACME_AI_API_KEYS": "k1 k2"}, "k1", "k2")
	f("keys of one's own machine are said", "lab", `{models: {providers: {lab: {baseUrl: "http://127.0.0.1:9/v1"}}}}`, map[string]string{"LAB_API_KEYS": "k1 k2"})
	f("variables of the file", "mistral", `{env: {vars: {MISTRAL_API_KEY_1: "m1", MISTRAL_API_KEY: "m0"}}}`, nil, "m0", "m1")
	f("the first that is set counts", "moonshot", `{}`, map[string]string{"MOONSHOT_API_KEYS": "a b", "KIMI_API_KEY": "k"}, "a", "b")
	f("its other name", "moonshot", `{}`, map[string]string{"KIMI_API_KEYS": "k l"}, "k", "l")
	f("a token", "anthropic", `{}`, map[string]string{"ANTHROPIC_OAUTH_TOKEN": "t", "ANTHROPIC_API_KEYS": "k l"}, "t")
}

// What is wrong with keys is said with its place, and no key is.
func TestMistakesInKeys(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		_, problems := with(text, nil)
		if got := problems.Errors().Error(); !strings.Contains(got, want) || strings.Contains(got, "sk-secret") {
			t.Errorf("%s\n got %s\nwant %s", text, got, want)
		}
	}
	far := `models: {providers: {far: {baseUrl: "https://api.example.com/v1", apiKey: "sk-secret-1"}}}, `
	f(`{`+far+`proxy: {providers: {far: {apiKeys: ["sk-secret-2\nx"]}}}}`, "proxy.providers.far.apiKeys[0]: must be one line")
	f(`{`+far+`proxy: {providers: {far: {apiKeys: ["ollama-local"]}}}}`, "proxy.providers.far.apiKeys[0]: is no key")
	f(`{`+far+`proxy: {providers: {far: {apiKeys: "sk-secret-2"}}}}`, "proxy.providers.far.apiKeys: must be an array")
	f(`{`+far+`proxy: {providers: {far: {apiKeys: [{source: "env", id: "NOT_THERE"}]}}}}`, "NOT_THERE is not set")
	f(`{`+far+`proxy: {providers: {far: {apiKeys: [`+strings.Repeat(`"sk-secret-2",`, 64)+`]}}}}`, "at most 64 keys")
	f(`{proxy: {providers: {ollama: {apiKeys: ["sk-secret-2"]}}}}`, "proxy.providers.ollama.apiKeys")
	f(`{proxy: {cooldown: {billingBackoffHours: 30}}}`, "is longer than billingMax")
	f(`{proxy: {cooldown: {billingBackoffHours: 5, billingBackoffMs: 5}}}`, "is the same setting as")
	f(`{proxy: {cooldown: {billingMaxHours: 9e9}}}`, "out of range")
	f(`{proxy: {cooldown: {firstHours: 1}}}`, "unknown key")
}

// Every number of proxy.cooldown arrives, and one provider may have its own.
func TestCooldownSettings(t *testing.T) {
	c, problems := with(`{models: {providers: {far: {baseUrl: "https://api.example.com/v1", apiKey: "k"}, other: {baseUrl: "https://api.example.org/v1", apiKey: "k"}}},
		proxy: {providers: {far: {billingBackoffHours: 48}}, cooldown: {firstMs: 1, secondMs: 2, furtherMs: 3, refusedSeconds: 0, billingBackoffMs: 5, billingMaxSeconds: 6, authPermanentBackoffMs: 7,
			authPermanentMaxMinutes: 8, disabledMinMs: 9, failureWindowHours: 10, probeWithinMs: 11, probeEveryMs: 12, overloadedRotations: 0, rateLimitedRotations: 2, rotations: 3},
			affinity: {sessions: 4, forMs: 5, targets: false}}}`, nil)
	if errs := problems.Errors(); len(errs) > 0 {
		t.Fatal(errs)
	}
	const ms = time.Millisecond
	want := upstream.Cooldown{First: ms, Second: 2 * ms, Further: 3 * ms, Refused: 0, Billing: 5 * ms, BillingMax: 6 * time.Second, Permanent: 7 * ms, PermanentMax: 8 * time.Minute,
		DisabledMin: 9 * ms, FailureWindow: 10 * time.Hour, ProbeWithin: 11 * ms, ProbeEvery: 12 * ms}
	if got := c.backend(t, "other").Cooldown; got != want || c.Proxy.Cooldown.Cooldown != want {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	want.Billing, want.BillingMax = 48*time.Hour, 48*time.Hour
	if got := c.backend(t, "far").Cooldown; got != want {
		t.Errorf("far: got %+v\nwant %+v", got, want)
	}
	if k, a := c.Proxy.Cooldown, c.Proxy.Affinity; k.OverloadedRotations != 0 || k.RateLimitedRotations != 2 || k.Rotations != 3 || a.Sessions != 4 || a.For != 5*ms || a.Targets {
		t.Errorf("rotations %+v, affinity %+v", k, a)
	}
}
