package shaping

import (
	"bytes"
	"encoding/json"
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

// translated is the model of a testdata/translate file: what a story says and
// what translations look at besides.
type translated struct {
	story
	Near      bool         `json:"near"`
	Kind      catalog.Kind `json:"kind"`
	MaxTokens int          `json:"maxTokens"`
}

func (st translated) shape(t testing.TB) *Shape {
	t.Helper()
	m := st.model()
	m.MaxTokens, m.Provider.Near, m.Provider.Kind = st.MaxTokens, st.Near, st.Kind
	s, err := New(m, st.dialect(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// translatedStory is what one request becomes.
type translatedStory struct{ sent, dropped, explain, turn, failure string }

func (st translated) tell(t testing.TB, body []byte) translatedStory {
	t.Helper()
	return toldBy(t, st.shape(t), body)
}

// toldBy is what a body becomes in a shape.
func toldBy(t testing.TB, s *Shape, body []byte) translatedStory {
	t.Helper()
	sent, r, err := translatedBody(t, s, body)
	if err != nil {
		return translatedStory{failure: describe(err)}
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, sent, "", " "); err != nil {
		t.Fatalf("sent is no JSON: %v\n%s", err, sent)
	}
	told := translatedStory{sent: indented.String(), dropped: strings.Join(r.Dropped, "\n")}
	told.explain = strings.TrimSuffix(string(AppendText(nil, Explain(body, r))), "\n")
	if len(r.Turn.Tools)+len(r.Turn.Allowed)+len(r.Turn.Unwrap) > 0 || r.Turn.Legacy {
		told.turn = fmt.Sprintf("%+v", r.Turn)
	}
	return told
}

// translatedBody shapes a body and says what is sent.
func translatedBody(t testing.TB, s *Shape, body []byte) ([]byte, *Request, *wire.Error) {
	t.Helper()
	var env wire.Envelope
	if err := wire.Scan(body, wire.ScanLimits{}, &env); err != nil {
		t.Fatalf("scan %q: %v", body, err)
	}
	var r Request
	if err := s.Request(body, &env, &r); err != nil {
		return nil, nil, asError(t, err)
	}
	return wire.Splice(nil, r.Body, r.Edits), &r, nil
}

// requestStories are the files of the ways that this file is about.
func requestStories(t testing.TB) []string {
	t.Helper()
	var files []string
	for _, way := range [...]string{"chat-responses", "chat-messages", "messages-chat", "messages-responses"} {
		some, err := filepath.Glob("testdata/translate/" + way + "-*.txtar")
		if err != nil || len(some) == 0 {
			t.Fatalf("no stories of %s: %v", way, err)
		}
		files = append(files, some...)
	}
	return files
}

// One story a file: what the client sent, for which model, what the backend must
// receive, what is told of as dropped or changed, and what the answer is told.
func TestTranslatedRequestStories(t *testing.T) {
	for _, file := range requestStories(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			parts := map[string]string{}
			for _, f := range ar.Files {
				parts[f.Name] = strings.TrimSuffix(string(f.Data), "\n")
			}
			var st translated
			dec := json.NewDecoder(strings.NewReader(parts["model"]))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&st); err != nil {
				t.Fatalf("model: %v", err)
			}
			got := st.tell(t, []byte(parts["request"]))
			want := translatedStory{parts["sent"], parts["dropped"], parts["explain"], parts["turn"], parts["error"]}
			if again := st.tell(t, []byte(parts["request"])); again != got {
				t.Errorf("the same request becomes another one:\n%s", cmp.Diff(got.sent, again.sent))
			}
			if *update {
				got.write(t, file, ar)
				return
			}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(translatedStory{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func (s translatedStory) write(t *testing.T, file string, ar *txtar.Archive) {
	t.Helper()
	keep := ar.Files[:0]
	for _, f := range ar.Files {
		if f.Name == "request" || f.Name == "model" {
			keep = append(keep, f)
		}
	}
	for _, part := range [...]struct{ name, text string }{{"error", s.failure}, {"sent", s.sent}, {"dropped", s.dropped}, {"explain", s.explain}, {"turn", s.turn}} {
		if part.text != "" && part.text != "nothing changes" {
			keep = append(keep, txtar.File{Name: part.name, Data: []byte(part.text + "\n")})
		}
	}
	ar.Files = keep
	if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
		t.Fatal(err)
	}
}

// shapesOfWays are models of every kind that translations of this file go to.
func shapesOfWays(t testing.TB, client string) map[string]*Shape {
	t.Helper()
	off := false
	shapes := map[string]*Shape{}
	for name, st := range map[string]translated{
		"openai":    {story: story{API: catalog.Responses, BaseURL: "https://api.openai.com/v1", Reasoning: true}},
		"near":      {story: story{API: catalog.Responses, Reasoning: true}, Near: true},
		"adaptive":  {story: story{API: catalog.Messages, ID: "claude-opus-4-6", Reasoning: true}, MaxTokens: 32000},
		"budget":    {story: story{API: catalog.Messages, ID: "claude-sonnet-4-5", Reasoning: true}},
		"plain":     {story: story{API: catalog.Messages, ID: "minimax", Compat: catalog.Compat{SupportsTemperature: &off, CacheControlFormat: "none", SupportedReasoningEfforts: []string{"low"}}}},
		"chat":      {story: story{API: catalog.Completions, Reasoning: true}, Near: true, Kind: catalog.KindVLLM},
		"chat-far":  {story: story{API: catalog.Completions, BaseURL: "https://api.openai.com/v1"}},
		"openroute": {story: story{API: catalog.Completions, Compat: catalog.Compat{CacheControlFormat: "anthropic"}}},
	} {
		st.Client = client
		if s := st.shape(t); s.Backend() != s.client {
			shapes[name] = s
		}
	}
	return shapes
}

// Whatever a client sends, a translation panics never, is JSON that a scan
// accepts, is the same every time, and names in its errors what to change.
func FuzzTranslatedRequest(f *testing.F) {
	for _, file := range requestStories(f) {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(bytes.TrimSpace(ar.Files[0].Data))
	}
	f.Add([]byte(`{"messages":[{"role":"user","content":"\ud800\u0000\\"}],"model":"m","max_tokens":1e999}`))
	f.Add([]byte(`{"model":"m","max_tokens":1,"messages":[{"role":"assistant","content":"a\\n \\\\n"},{"role":"assistant","content":null,"tool_calls":[]}]}`))
	var shapes []*Shape
	for _, client := range [...]string{"chat", "messages"} {
		for _, s := range shapesOfWays(f, client) {
			shapes = append(shapes, s)
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var env, again wire.Envelope
		if wire.Scan(body, wire.ScanLimits{}, &env) != nil {
			return
		}
		var twice Request // is used again, as pooled ones are
		for _, s := range shapes {
			var r Request
			if err := s.Request(body, &env, &r); err != nil {
				if e := asError(t, err); e.Status != 400 || e.Message == "" {
					t.Fatalf("error %s of %q", describe(e), body)
				}
				continue
			}
			sent := wire.Splice(nil, r.Body, r.Edits)
			if err := wire.Scan(sent, wire.ScanLimits{Depth: translatedDepth, Fields: 1 << 10}, &again); err != nil || !json.Valid(sent) {
				t.Fatalf("what is sent is no JSON: %v\nbody %q\nsent %q", err, body, sent)
			}
			if err := s.Request(body, &env, &twice); err != nil || !bytes.Equal(sent, wire.Splice(nil, twice.Body, twice.Edits)) {
				t.Fatalf("the second time is another: %v\nbody %q\nsent %q", err, body, sent)
			}
			for _, c := range r.Changes {
				if c.Path == "" || c.Why == "" {
					t.Fatalf("change %+v does not say what and why", c)
				}
			}
			Explain(body, &r)
		}
	})
}

// capturedBodies are what real clients sent.
func capturedBodies(t testing.TB, client string) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/bodies/" + client + ".*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no bodies of %s: %v", client, err)
	}
	bodies := map[string][]byte{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		bodies[filepath.Base(file)] = b
	}
	return bodies
}

// normalChat is a chat request as far as Messages can carry it: each message by
// its role, texts, calls and result.
func normalChat(t testing.TB, body []byte) []string {
	t.Helper()
	var doc struct {
		Messages []struct {
			Role      string
			Content   any
			ToolCalls []struct {
				ID, Type string
				Function struct{ Name, Arguments string }
			} `json:"tool_calls"`
			ToolCallID string `json:"tool_call_id"`
		}
		Tools []struct {
			Function struct {
				Name, Description string
				Parameters        any
			}
		}
		ToolChoice any `json:"tool_choice"`
		Stream     bool
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		t.Fatal(err)
	}
	lines := []string{fmt.Sprintf("stream %v, choice %v", doc.Stream, doc.ToolChoice)}
	for _, tool := range doc.Tools {
		lines = append(lines, fmt.Sprintf("tool %+v", tool.Function))
	}
	for _, m := range doc.Messages {
		if m.Role == "developer" {
			m.Role = "system"
		}
		said := ""
		switch c := m.Content.(type) {
		case string:
			said = c
		case []any:
			for i, p := range c {
				part := p.(map[string]any)
				if i > 0 {
					said += "\n"
				}
				if part["type"] == "text" {
					said += part["text"].(string)
				} else {
					said += fmt.Sprint(part["image_url"].(map[string]any)["url"])
				}
			}
		}
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s %s %+v", m.Role, m.ToolCallID, said, m.ToolCalls)))
	}
	return lines
}

// What a chat client says to a Messages backend comes out the same when another
// proxy says it to a chat backend.
func TestChatSurvivesMessages(t *testing.T) {
	for name, body := range capturedBodies(t, "chat") {
		t.Run(name, func(t *testing.T) {
			there := shapesOfWays(t, "chat")["adaptive"]
			sent, _, failure := translatedBody(t, there, body)
			if failure != nil {
				t.Fatal(failure)
			}
			back, _, failure := translatedBody(t, shapesOfWays(t, "messages")["chat"], sent)
			if failure != nil {
				t.Fatal(failure)
			}
			want, got := normalChat(t, body), normalChat(t, back)
			if want[0] == "stream true, choice <nil>" && strings.Contains(string(body), `"tools"`) {
				want[0] = got[0] // auto is what no choice means
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("(-sent +returned):\n%s\nbetween %s", diff, sent)
			}
		})
	}
}

// conversation is a chat or Messages request of an agent after some turns.
func conversation(client string, turns, size int) []byte {
	filler := strings.Repeat("what was said before; ", max(1, size/22/max(1, turns)))
	var b bytes.Buffer
	b.WriteString(`{"model":"m","max_tokens":4096,"stream":true,"temperature":0.7,`)
	if client == "messages" {
		b.WriteString(`"system":[{"type":"text","text":"be brief"}],"tools":[{"name":"read","description":"reads","input_schema":{"type":"object","properties":{"path":{"type":"string"}}}}],"messages":[{"role":"user","content":"begin"}`)
	} else {
		b.WriteString(`"tools":[{"type":"function","function":{"name":"read","description":"reads","parameters":{"type":"object","properties":{"path":{"type":"string"}}}}}],"messages":[{"role":"system","content":"be brief"},{"role":"user","content":"begin"}`)
	}
	for i := range turns {
		if client == "messages" {
			fmt.Fprintf(&b, `,{"role":"assistant","content":[{"type":"text","text":"I read."},{"type":"tool_use","id":"toolu_%d","name":"read","input":{"path":"a/%d"}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_%d","content":%q}]}`, i, i, i, filler)
		} else {
			fmt.Fprintf(&b, `,{"role":"assistant","content":"I read.","tool_calls":[{"id":"call_%d","type":"function","function":{"name":"read","arguments":"{\"path\":\"a/%d\"}"}}]},{"role":"tool","tool_call_id":"call_%d","content":%q}`, i, i, i, filler)
		}
	}
	b.WriteString("]}")
	return b.Bytes()
}

// A prompt cache sees bytes: what one turn sent must be how the next one begins,
// but for the marks, which are no part of the prompt.
func TestTurnsShareTheirBeginning(t *testing.T) {
	unmarked := func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(markShort), nil) }
	for _, client := range [...]string{"chat", "messages"} {
		for name, s := range shapesOfWays(t, client) {
			for turns := range 5 {
				now, _, failure := translatedBody(t, s, conversation(client, turns, 200))
				if failure != nil {
					t.Fatal(failure)
				}
				next, _, failure := translatedBody(t, s, conversation(client, turns+1, 200*(turns+1)/max(1, turns)))
				if failure != nil {
					t.Fatal(failure)
				}
				now, next = unmarked(now), unmarked(next)
				// The end of the list and of the body, and of a user's turn.
				whole := bytes.TrimRight(now, "]}")
				if turns > 0 && !bytes.HasPrefix(next, whole) {
					t.Errorf("%s to %s, turn %d:\n%s\ndoes not begin\n%s", client, name, turns, whole, next)
				}
			}
		}
	}
}

// Anthropic takes four cache marks, and caches what a marked block ends.
func TestCacheMarksFollowTheConversation(t *testing.T) {
	s := shapesOfWays(t, "chat")["adaptive"]
	sent, _, failure := translatedBody(t, s, conversation("chat", 5, 100))
	if failure != nil {
		t.Fatal(failure)
	}
	if n := bytes.Count(sent, []byte(`"cache_control"`)); n != marksMax {
		t.Fatalf("%d marks, want %d: %s", n, marksMax, sent)
	}
	last := bytes.LastIndex(sent, []byte(markShort))
	if rest := string(sent[last+len(markShort):]); rest != "}]}]}" {
		t.Fatalf("the last mark is followed by %s", rest)
	}
}

func BenchmarkTranslatedRequest(b *testing.B) {
	for _, way := range [...]struct{ client, to string }{
		{"chat", "openai"}, {"chat", "adaptive"}, {"messages", "chat"}, {"messages", "openai"}, {"chat", "copy"},
	} {
		s, err := New(story{}.model(), wire.Chat, Options{})
		if err != nil {
			b.Fatal(err)
		}
		if way.to != "copy" {
			s = shapesOfWays(b, way.client)[way.to]
		}
		for _, size := range []int{1 << 10, 100 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("%s-%s/%dKB", way.client, way.to, size>>10), func(b *testing.B) {
				body := conversation(way.client, max(1, size/4000), size)
				var env wire.Envelope
				var r Request
				if err := wire.Scan(body, wire.ScanLimits{}, &env); err != nil {
					b.Fatal(err)
				}
				b.SetBytes(int64(len(body)))
				b.ReportAllocs()
				for b.Loop() {
					if err := s.Request(body, &env, &r); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// What is compared with each other is bounded, so that no body costs its square.
func TestLongListsAreRefused(t *testing.T) {
	f := func(client, way, param, format string, n int, one string) {
		t.Helper()
		list := strings.TrimSuffix(strings.Repeat(one+",", n), ",")
		for k := 0; strings.Contains(list, "#"); k++ {
			list = strings.Replace(list, "#", fmt.Sprint(k), 1)
		}
		_, _, failure := translatedBody(t, shapesOfWays(t, client)[way], fmt.Appendf(nil, format, list))
		if failure == nil || failure.Param != param || failure.Status != 400 {
			t.Fatalf("%s: %d elements are answered with %v, want an error at %s", client, n, failure, param)
		}
	}
	f("chat", "adaptive", "stop", `{"model":"m","messages":[{"role":"user","content":"a"}],"stop":[%s]}`, 5, `"a"`)
	f("chat", "adaptive", "tools", `{"model":"m","messages":[{"role":"user","content":"a"}],"tools":[%s]}`, toolsMax+1, `{"type":"function","function":{"name":"f"}}`)
	f("chat", "openai", "functions", `{"model":"m","messages":[{"role":"user","content":"a"}],"functions":[%s]}`, toolsMax+1, `{"name":"f"}`)
	f("chat", "adaptive", "messages[0].tool_calls", `{"model":"m","messages":[{"role":"assistant","tool_calls":[%s]}]}`, turnCallsMax+1, `{"id":"#","type":"function","function":{"name":"f","arguments":""}}`)
	f("messages", "chat", "messages.0.content.1024", `{"model":"m","max_tokens":1,"messages":[{"role":"assistant","content":[%s]}]}`, turnCallsMax+1, `{"type":"tool_use","id":"#","name":"f","input":{}}`)
	f("messages", "chat", "tools", `{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"a"}],"tools":[%s]}`, toolsMax+1, `{"name":"f","input_schema":{}}`)
}
