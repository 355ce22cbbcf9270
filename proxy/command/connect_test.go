package command

import (
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-json"
)

// Every client's settings are sound whatever a model is called, with and without
// a key, an authority and a window; a JSON file is strict JSON, which all of them
// read.
func TestConnectSettingsAreSound(t *testing.T) {
	odd := connectModel{name: `local/it's "odd" $HOME`, ref: "local/x", title: "Odd\nname"}
	known := connectModel{name: "default", ref: "near/m", title: "default (near/m)", window: 100000, maxTokens: 4000, image: true, reasoning: true}
	for _, to := range []*connection{
		{base: "http://127.0.0.1:4141", model: known, models: []connectModel{known, odd}},
		{base: "https://gpubox.local:4141", ca: "/a folder/ca.pem", keyEnv: "MY_KEY", model: odd, models: []connectModel{odd}},
	} {
		for i := range connectClients {
			at := &connectClients[i]
			text, err := at.settings(to)
			if err != nil {
				t.Fatalf("%s: %v", at.name, err)
			}
			if !strings.HasSuffix(text, "\n") || !strings.Contains(text, strings.TrimPrefix(to.base, "http")) {
				t.Errorf("%s: no address in\n%s", at.name, text)
			}
			if at.merges && !json.Valid([]byte(text)) {
				t.Errorf("%s: not JSON\n%s", at.name, text)
			}
			if names := strings.Contains(text, "MY_KEY"); names != (to.keyEnv != "") && at.name != "zed" {
				t.Errorf("%s: names the key's variable: %v\n%s", at.name, names, text)
			}
			if regexp.MustCompile(`%!|<nil>|\(MISSING\)`).MatchString(text) {
				t.Errorf("%s: a broken format\n%s", at.name, text)
			}
			if at.merges && at.file == nil {
				t.Errorf("%s can be added to and has no file", at.name)
			}
		}
	}
}
