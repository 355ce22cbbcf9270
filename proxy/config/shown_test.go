package config

import (
	"strings"
	"testing"
)

// TestShownTellsNoSecret: who may look at the configuration sees that a credential
// is set and how it ends, wherever it stands.
func TestShownTellsNoSecret(t *testing.T) {
	text := `{
		env: { vars: { MY_TOKEN: "tok-0123456789-abcdefgh", PLAIN: "plain-0123456789-word" } },
		models: { providers: { gpu: { baseUrl: "http://127.0.0.1:1/v1", apiKey: "sk-literal-0123456789", headers: { "X-Proxy": "header-secret-0123456789" }, models: [{ id: "m" }] },
			short: { baseUrl: "http://127.0.0.1:2/v1", apiKey: "tiny-key", models: [{ id: "m" }] },
			far: { baseUrl: "https://api.example.com/v1", apiKey: "${SHOWN_API_KEY}", models: [{ id: "m" }] } } },
	}`
	env := func(name string) (string, bool) {
		if name == "SHOWN_API_KEY" {
			return "sk-environment-99998888", true
		}
		return "", false
	}
	c, problems := LoadText("config.json5", []byte(text), Options{LookupEnv: env, Home: "/home/someone"})
	if errs := problems.Errors(); len(errs) > 0 {
		t.Fatal(errs)
	}
	got := string(c.Shown)
	for _, secret := range []string{"sk-literal", "header-secret", "tiny", "sk-environment", "tok-0123", "plain", "-key"} {
		if strings.Contains(got, secret) {
			t.Errorf("it tells %q: %s", secret, got)
		}
	}
	for _, want := range []string{"set, ends in 6789", `"apiKey":"set"`, "${SHOWN_API_KEY} (set, ends in 8888)", "http://127.0.0.1:1/v1"} {
		if !strings.Contains(got, want) {
			t.Errorf("it does not say %q: %s", want, got)
		}
	}
}
