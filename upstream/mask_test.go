package upstream

import (
	"testing"

	"nearside/catalog"
)

// A backend's message goes to the client and is kept: no key may travel in it,
// and a word must not be taken for one.
func TestMask(t *testing.T) {
	b := Backend{secrets: secretsOf(Config{Key: NewSecret("hunter22"), Auth: Auth{Secret: NewSecret("abc")},
		Headers: []catalog.Header{{Name: "X-API-Key", Value: "tunnel99"}, {Name: "X-Team", Value: "kitchen"}}})}
	f := func(in, want string) {
		t.Helper()
		if got := b.Mask(in); got != want {
			t.Errorf("Mask(%q)\n got %q\nwant %q", in, got, want)
		}
	}
	f("key hunter22 is wrong", "key *** is wrong")
	f("got tunnel99", "got ***")
	f("abc kitchen", "abc kitchen")
	f("Incorrect API key: sk-proj-1234567890abc.", "Incorrect API key: sk-***")
	f("header Authorization: Bearer eyJ0eXAi.9.x was sent", "header Authorization: Bearer *** was sent")
	f("Bearer authentication is needed, task-force", "Bearer authentication is needed, task-force")
	// As OpenClaw's page has it: apiKey: "lmstudio".
	b = Backend{secrets: secretsOf(Config{ID: "lmstudio", Key: NewSecret("lmstudio")})}
	f("lmstudio: connect_refused", "lmstudio: connect_refused")
}
