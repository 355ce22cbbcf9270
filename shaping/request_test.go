package shaping

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"nearside/catalog"
	"nearside/shaping/wire"
)

var update = flag.Bool("update", false, "rewrite what the rule stories in testdata expect")

// story is the model of a testdata/rules file, in the configuration's words.
type story struct {
	Client    string          `json:"client"` // default: what the api speaks
	Provider  string          `json:"provider"`
	BaseURL   string          `json:"baseUrl"`
	API       catalog.API     `json:"api"`
	ID        string          `json:"id"`
	Reasoning bool            `json:"reasoning"`
	Kind      catalog.Kind    `json:"kind"` // of the server
	Near      bool            `json:"near"`
	Lean      bool            `json:"lean"`           // of the options
	System    string          `json:"systemMessages"` // of the provider
	Compat    catalog.Compat  `json:"compat"`
	Params    json.RawMessage `json:"params"`

	Input             []string          `json:"input"` // default: guessed from the id
	MaxTokens         int               `json:"maxTokens"`
	UnsupportedImages string            `json:"unsupportedImages"`
	Room              Room              `json:"room"`
	Fetched           map[string]string `json:"fetched"` // address → what was found there
	GoesOn            bool              `json:"goesOn"`
}

func (st story) model() *catalog.Model {
	if st.Provider == "" {
		st.Provider = "local"
	}
	if st.API == "" {
		st.API = catalog.Completions
	}
	if st.BaseURL == "" {
		st.BaseURL = "http://127.0.0.1:8000/v1"
	}
	if st.ID == "" {
		st.ID = "m"
	}
	m := &catalog.Model{
		Provider: &catalog.Provider{ID: st.Provider, API: st.API, BaseURL: st.BaseURL, Kind: st.Kind, Near: st.Near, SystemMessages: st.System},
		ID:       st.ID, API: st.API, BaseURL: st.BaseURL, Reasoning: st.Reasoning, Compat: st.Compat,
	}
	m.MaxTokens, m.Input = st.MaxTokens, st.Input
	if len(m.Input) == 0 {
		m.Input, m.InputGuessed = catalog.InferredInput(m.ID), true
	}
	for it := wire.Members(st.Params, wire.Whole(st.Params)); it.Next(); {
		m.Params = append(m.Params, catalog.Param{Key: string(it.Key.Of(st.Params)), Value: it.Value.Of(st.Params)})
	}
	return m
}

func (st story) dialect() wire.Dialect {
	for d := wire.Chat; d <= wire.Plain; d++ {
		if d.String() == st.Client {
			return d
		}
	}
	if st.API == catalog.Responses {
		return wire.Responses
	}
	return wire.Chat
}

// shaped is what a request becomes for a story's model.
type shaped struct {
	sent    string
	dropped string
	headers string
	format  string
	explain string
	json    string
	asked   bool
	err     *wire.Error

	translated bool
}

func shape(t testing.TB, st story, body string) shaped {
	t.Helper()
	s, err := New(st.model(), st.dialect(), Options{Lean: st.Lean, UnsupportedImages: st.UnsupportedImages})
	if err != nil {
		return shaped{err: asError(t, err)}
	}
	var env wire.Envelope
	if err := wire.Scan([]byte(body), wire.ScanLimits{}, &env); err != nil {
		t.Fatalf("scan %q: %v", body, err)
	}
	r := Request{Room: st.Room, GoesOn: st.GoesOn}
	for url, data := range st.Fetched {
		r.Images = append(r.Images, NewImage(url, "image/png", []byte(data)))
	}
	if err := s.Request([]byte(body), &env, &r); err != nil {
		return shaped{err: asError(t, err)}
	}
	if r.Images != nil || r.Room != (Room{}) || r.GoesOn {
		t.Errorf("the next request would have %v, %v and %v of this one", r.Images, r.Room, r.GoesOn)
	}
	lines := Explain([]byte(body), &r)
	format := r.Format
	if len(r.FormatSchema) > 0 {
		format += " " + string(r.FormatSchema)
	}
	from := []byte(body)
	if len(r.Body) > 0 {
		from = r.Body
	}
	return shaped{
		headers: strings.ReplaceAll(strings.TrimSuffix(string(r.Headers), "\r\n"), "\r\n", "\n"),
		format:  format,
		sent:    string(wire.Splice(nil, from, r.Edits)),
		dropped: strings.Join(r.Dropped, "\n"),
		explain: string(AppendText(nil, lines)),
		json:    string(AppendJSON(nil, lines)),
		asked:   r.AskedUsage,

		translated: len(r.Body) > 0,
	}
}

func asError(t testing.TB, err error) *wire.Error {
	t.Helper()
	var e *wire.Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v (%T) is no *wire.Error", err, err)
	}
	return e
}

// One story a file: what the client sent, for which model, and what the backend
// must receive, be told of as dropped, and explain must say.
func TestRuleStories(t *testing.T) {
	files, err := filepath.Glob("testdata/rules/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	told := map[string]bool{}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			parts := map[string]string{}
			for _, f := range ar.Files {
				parts[f.Name] = strings.TrimSuffix(string(f.Data), "\n")
			}
			var st story
			dec := json.NewDecoder(strings.NewReader(parts["model"]))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&st); err != nil {
				t.Fatalf("model: %v", err)
			}
			got := shape(t, st, parts["request"])
			if *update {
				rewrite(t, file, ar, got)
				return
			}
			if got.err != nil {
				if diff := cmp.Diff(parts["error"], describe(got.err)); diff != "" {
					t.Fatalf("error (-want +got):\n%s", diff)
				}
				return
			}
			if diff := cmp.Diff(parts["sent"], got.sent); diff != "" {
				t.Errorf("sent (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(parts["dropped"], got.dropped); diff != "" {
				t.Errorf("dropped (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(parts["headers"], got.headers); diff != "" {
				t.Errorf("headers (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(parts["format"], got.format); diff != "" {
				t.Errorf("format (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(parts["explain"], strings.TrimSuffix(got.explain, "\n")); diff != "" {
				t.Errorf("explain (-want +got):\n%s", diff)
			}
			if !json.Valid([]byte(got.json)) {
				t.Errorf("explain is not valid JSON: %s", got.json)
			}
			if got.translated {
				st.Client = "" // what is sent is in the backend's dialect
			}
			if again := shape(t, st, got.sent); again.sent != got.sent {
				t.Errorf("shaping what was sent changes it again:\n got %s\nwant %s", again.sent, got.sent)
			}
		})
		b, _ := os.ReadFile(file)
		for _, r := range Rules() {
			if bytes.Contains(b, []byte("\n    "+r.Name+": ")) || bytes.Contains(b, []byte("\n    "+r.Name+" (")) {
				told[r.Name] = true
			}
		}
	}
	for _, r := range Rules() {
		if !told[r.Name] && !*update {
			t.Errorf("no story tells of the rule %q", r.Name)
		}
	}
}

func describe(e *wire.Error) string {
	return fmt.Sprintf("%d %s %s %s: %s", e.Status, e.Type, e.Code, e.Param, e.Message)
}

func rewrite(t *testing.T, file string, ar *txtar.Archive, got shaped) {
	t.Helper()
	keep := ar.Files[:0]
	for _, f := range ar.Files {
		if f.Name == "request" || f.Name == "model" {
			keep = append(keep, f)
		}
	}
	add := func(name, text string) {
		if text != "" {
			keep = append(keep, txtar.File{Name: name, Data: []byte(strings.TrimSuffix(text, "\n") + "\n")})
		}
	}
	if got.err != nil {
		add("error", describe(got.err))
	} else {
		add("sent", got.sent)
		add("dropped", got.dropped)
		add("headers", got.headers)
		add("format", got.format)
		add("explain", got.explain)
	}
	ar.Files = keep
	if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
		t.Fatal(err)
	}
}

// A client that speaks another dialect than the provider gets a sentence that
// says what to do, not a backend's complaint.
func TestNewRefusesWhatItCannotTranslate(t *testing.T) {
	f := func(api catalog.API, client wire.Dialect, want string) {
		t.Helper()
		_, err := New(story{Provider: "lmstudio", API: api, ID: "x"}.model(), client, Options{})
		if want == "" {
			if err != nil {
				t.Fatalf("New(%s, %s): %v", api, client, err)
			}
			return
		}
		if err == nil {
			t.Fatalf("New(%s, %s) succeeded", api, client)
		}
		e := asError(t, err)
		if e.Message != want || e.Status != 400 || e.Code != "unsupported_dialect" || e.Param != "model" {
			t.Fatalf("New(%s, %s)\n got %s\nwant %s", api, client, describe(e), want)
		}
	}
	f(catalog.Completions, wire.Chat, "")
	f(catalog.Responses, wire.Responses, "")
	f(catalog.Completions, wire.Completions, "")
	f(catalog.Responses, wire.Plain, "")
	f(catalog.Completions, wire.Responses, "")
	f(catalog.Responses, wire.Chat, "")
	f(catalog.Messages, wire.Chat, "")
	f(catalog.Messages, wire.Completions, `this version cannot translate a completions request for "lmstudio/x", whose provider speaks anthropic-messages`)
	f(catalog.Messages, wire.Plain, `this version cannot translate a plain request for "lmstudio/x", whose provider speaks anthropic-messages`)
	f("google-generative-ai", wire.Chat, `this version cannot translate a chat request for "lmstudio/x", whose provider speaks google-generative-ai`)
}

// Usage that the client did not ask for must be hidden from it, and only that.
func TestAskedUsageSaysWhoAsked(t *testing.T) {
	f := func(st story, body string, want bool) {
		t.Helper()
		if got := shape(t, st, body).asked; got != want {
			t.Fatalf("AskedUsage for %s = %t, want %t", body, got, want)
		}
	}
	f(story{}, `{"model":"m","stream":true}`, true)
	f(story{}, `{"model":"m","stream":true,"stream_options":null}`, true)
	f(story{}, `{"model":"m","stream":true,"stream_options":{"include_usage":false}}`, true)
	f(story{}, `{"model":"m","stream":true,"stream_options":{"include_usage":true}}`, false)
	f(story{}, `{"model":"m","stream":false}`, false)
	f(story{}, `{"model":"m"}`, false)
	f(story{Client: "completions"}, `{"model":"m","stream":true}`, true)
	f(story{API: catalog.Responses}, `{"model":"m","stream":true}`, false)
	f(story{Compat: catalog.Compat{SupportsUsageInStreaming: new(bool)}}, `{"model":"m","stream":true}`, false)
	off := json.RawMessage(`{"extra_body":{"stream_options":{"include_usage":false}}}`)
	f(story{Params: off}, `{"model":"m","stream":true}`, false)
	on := json.RawMessage(`{"extra_body":{"stream_options":{"include_usage":true}}}`)
	f(story{Params: on}, `{"model":"m","stream":true}`, true)
	f(story{Params: on}, `{"model":"m","stream":true,"stream_options":{"include_usage":true}}`, false)
	f(story{Params: on}, `{"model":"m"}`, false)
}
