package upstream

import (
	"fmt"
	"strings"
	"testing"

	"nearside/catalog"
)

// Explain is pasted into bug reports: whatever the configuration gave to a
// header must not be in it, under any name.
func TestHeaderLinesHideWhatIsConfigured(t *testing.T) {
	f := func(c Config, want string) {
		t.Helper()
		c.ID, c.BaseURL = "p", "http://127.0.0.1:9/v1"
		c.Headers = []catalog.Header{{Name: "X-Api-Key", Value: "sk-secret-1"}, {Name: "User-Agent", Value: "sk-secret-2"}}
		pool := NewPool(Options{Agent: "nearside/test"})
		pool.Apply([]Config{c})
		m := &catalog.Model{Provider: &catalog.Provider{ID: "p"}, ID: "m", BaseURL: c.BaseURL, Headers: []catalog.Header{{Name: "X-Model", Value: "sk-secret-3"}}}
		b, err := pool.Backend(m)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, h := range b.HeaderLines(&Request{Path: "/chat/completions", Length: 7, Stream: true, ModelLines: ModelLines(m.Headers)}) {
			got = append(got, h.Name+"="+h.Value)
		}
		if text := strings.Join(got, " "); text != want || strings.Contains(fmt.Sprint(got), "secret") {
			t.Errorf("got  %s\nwant %s", text, want)
		}
	}
	const rest = " X-Model= Accept=text/event-stream Content-Type=application/json Content-Length=7"
	f(Config{Key: NewSecret("sk-secret-4")}, "Host=127.0.0.1:9 User-Agent= Accept-Encoding=identity X-Api-Key= User-Agent= Authorization="+rest)
	f(Config{Auth: Auth{Mode: "header", Header: "Accept-Encoding", Secret: NewSecret("sk-secret-5")}},
		"Host=127.0.0.1:9 User-Agent= Accept-Encoding= X-Api-Key= User-Agent= Accept-Encoding="+rest)
}

// A near server of Messages finds its key in either place: Anthropic's own
// header, and the one where vLLM and SGLang look.
func TestMessagesKeyStandsWhereServersLook(t *testing.T) {
	f := func(c Config, want string) {
		t.Helper()
		c.ID, c.BaseURL, c.Key = "p", "http://127.0.0.1:9/v1", NewSecret("sk-key")
		pool := NewPool(Options{})
		pool.Apply([]Config{c})
		b, err := pool.Backend(&catalog.Model{Provider: &catalog.Provider{ID: "p"}, ID: "m", BaseURL: c.BaseURL})
		if err != nil {
			t.Fatal(err)
		}
		head := string(b.appendHead(nil, &Request{Path: "/messages"}))
		for _, line := range []string{"X-Api-Key: sk-key", "Authorization: Bearer sk-key"} {
			if has := strings.Contains(head, line+"\r\n"); has != strings.Contains(want, line[:3]) {
				t.Errorf("%+v: %q in the head: %v\n%s", c.API, line, has, head)
			}
		}
	}
	f(Config{API: catalog.Messages, Near: true}, "X-A Aut")
	f(Config{API: catalog.Messages}, "X-A")
	f(Config{API: catalog.Messages, Near: true, Auth: Auth{Mode: "authorization-bearer"}}, "Aut")
	f(Config{API: catalog.Completions, Near: true}, "Aut")
}
