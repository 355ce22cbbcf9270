package shaping

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"nearside/catalog"
	"nearside/shaping/wire"
)

// itemStory is the model of a testdata/translate/responses-chat-*.txtar file.
type itemStory struct {
	story
	Kind    catalog.Kind `json:"kind"`
	System  string       `json:"systemMessages"`
	Hub     bool         `json:"hub"`  // the first of two steps, not for a chat backend
	Native  bool         `json:"same"` // the backend speaks Responses itself
	Keyless bool         `json:"keyless"`
}

func (st itemStory) shape(t testing.TB) *Shape {
	t.Helper()
	st.Client = "responses"
	if st.Native {
		st.API = catalog.Responses
	}
	m := st.model()
	m.Provider.Kind = st.Kind
	opt := Options{SystemMessages: st.System}
	if !st.Keyless {
		opt.Sealer = testSealer(t)
	}
	s, err := New(m, wire.Responses, opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func testSealer(t testing.TB) *Sealer {
	t.Helper()
	s, err := NewSealer(bytes.Repeat([]byte{7}, SealKeyBytes))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var sealMark = regexp.MustCompile(`@(reasoning|compaction)(\{.*?\})@`)

var envelope = regexp.MustCompile(`ns1\.[\w-]+…?`)

// sealMarks puts envelopes in the place of @label{payload}@.
func sealMarks(t testing.TB, body string) string {
	s := testSealer(t)
	return sealMark.ReplaceAllStringFunc(body, func(m string) string {
		p := sealMark.FindStringSubmatch(m)
		return string(s.Seal(nil, p[1], []byte(p[2])))
	})
}

// retold is what a Responses request becomes.
type retold struct {
	sent, dropped, explain, turn string
	err                          *wire.Error
}

func retell(t testing.TB, st itemStory, body string) retold {
	t.Helper()
	s := st.shape(t)
	src := []byte(body)
	var env wire.Envelope
	if err := wire.Scan(src, wire.ScanLimits{}, &env); err != nil {
		t.Fatalf("scan %q: %v", body, err)
	}
	var r Request
	var sent []byte
	if st.Hub {
		tr := translation{shape: s, turn: &r.Turn, out: &r}
		hub, err := chatFromResponses(&tr, nil, src, &env)
		if err != nil {
			return retold{err: asError(t, err)}
		}
		sent = hub
		if n := len(tr.origins); n != strings.Count(string(hub), `{"role":"`) {
			t.Errorf("%d origins for %s", n, hub)
		}
	} else {
		if err := s.Request(src, &env, &r); err != nil {
			return retold{err: asError(t, err)}
		}
		from := r.Body
		if st.Native {
			from = src
		}
		sent = wire.Splice(nil, from, r.Edits)
		src = from
	}
	if !json.Valid(sent) {
		t.Fatalf("sent is no JSON: %s", sent)
	}
	var turn strings.Builder
	for _, tool := range r.Turn.Tools {
		fmt.Fprintf(&turn, "tool %s = %s %q kind %d\n", tool.Flat, tool.Namespace, tool.Name, tool.Kind)
	}
	if r.Turn.Allowed != nil {
		fmt.Fprintf(&turn, "allowed %q\n", r.Turn.Allowed)
	}
	if r.Turn.Seal {
		turn.WriteString("seal\n")
	}
	return retold{
		sent:    string(sent),
		dropped: strings.Join(r.Dropped, "\n"),
		explain: string(AppendText(nil, Explain(src, &r))),
		turn:    turn.String(),
	}
}

// broken lays sent bodies out with a message a line, so that diffs can be read.
func broken(sent string) string {
	return strings.NewReplacer(`{"role":`, "\n"+`{"role":`, `,"tools":[`, "\n"+`,"tools":[`, `{"type":"function","function":{"name"`, "\n"+`{"type":"function","function":{"name"`).Replace(sent)
}

// One story a file: a Responses request, the model it is for, and what a chat
// backend must be sent, what is said to be dropped and changed, and what the
// answer's translation is told.
func TestResponsesToChatStories(t *testing.T) {
	files, err := filepath.Glob("testdata/translate/responses-chat-*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
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
			var st itemStory
			dec := json.NewDecoder(strings.NewReader(parts["model"]))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&st); err != nil {
				t.Fatalf("model: %v", err)
			}
			body := sealMarks(t, parts["request"])
			got := retell(t, st, body)
			if again := retell(t, st, body); again != got && (again.err == nil || *again.err != *got.err) {
				t.Fatalf("told twice it differs:\n%+v\n%+v", got, again)
			}
			told := map[string]string{"sent": broken(got.sent), "dropped": got.dropped, "explain": envelope.ReplaceAllString(got.explain, "ns1.…"), "turn": got.turn}
			if got.err != nil {
				told = map[string]string{"error": describe(got.err)}
			}
			if *update {
				keep := ar.Files[:0]
				for _, f := range ar.Files {
					if f.Name == "request" || f.Name == "model" {
						keep = append(keep, f)
					}
				}
				for _, name := range []string{"sent", "dropped", "explain", "turn", "error"} {
					if text := strings.TrimSuffix(told[name], "\n"); text != "" {
						keep = append(keep, txtar.File{Name: name, Data: []byte(text + "\n")})
					}
				}
				ar.Files = keep
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			for _, name := range []string{"sent", "dropped", "explain", "turn", "error"} {
				if diff := cmp.Diff(parts[name], strings.TrimSuffix(told[name], "\n")); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
		})
	}
}

// A prompt cache sees the messages of a turn again at the head of the next: the
// bytes must be the same.
func TestResponsesToChatKeepsThePrefix(t *testing.T) {
	load := func(name string) string {
		b, err := os.ReadFile("testdata/bodies/responses." + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	messages := func(st itemStory, body string) (string, string) {
		sent := retell(t, st, body)
		if sent.err != nil {
			t.Fatal(describe(sent.err))
		}
		at, _ := wire.Get([]byte(sent.sent), wire.Whole([]byte(sent.sent)), "messages")
		tools, _ := wire.Get([]byte(sent.sent), wire.Whole([]byte(sent.sent)), "tools")
		return sent.sent[at.Start : at.End-1], sent.sent[tools.Start:tools.End]
	}
	for _, c := range [][2]string{{"codex-001", "codex-002"}, {"codex-gpt-5-5-001", "codex-gpt-5-5-002"}} {
		for _, st := range []itemStory{{}, {Kind: catalog.KindVLLM}, {story: story{BaseURL: "https://api.openai.com/v1"}}, {Hub: true}} {
			first, tools := messages(st, load(c[0]))
			second, toolsAfter := messages(st, load(c[1]))
			if !strings.HasPrefix(second, first) || len(second) == len(first) {
				t.Errorf("%s: the messages of the first turn do not begin the second's:\n%.300s\n%.300s", c[0], first, second)
			}
			if tools != toolsAfter {
				t.Errorf("%s: the tools differ between turns", c[0])
			}
		}
	}
}

// An error of the second step names what the client sent, not what stands
// between the steps.
func TestHubMessagesKnowWhereTheyCameFrom(t *testing.T) {
	s := itemStory{}.shape(t)
	f := func(body string, want ...string) {
		t.Helper()
		var env wire.Envelope
		if err := wire.Scan([]byte(body), wire.ScanLimits{}, &env); err != nil {
			t.Fatal(err)
		}
		var r Request
		tr := translation{shape: s, turn: &r.Turn, out: &r}
		if _, err := chatFromResponses(&tr, nil, []byte(body), &env); err != nil {
			t.Fatal(err)
		}
		var got []string
		for i := range tr.origins {
			got = append(got, tr.message(i))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", body, diff)
		}
	}
	f(`{"instructions":"a","input":"b"}`, "instructions", "input")
	f(`{"input":[{"type":"web_search_call"},{"role":"user","content":"a"},{"type":"reasoning","summary":[]},{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"role":"user","content":"b"},{"type":"function_call_output","call_id":"c","output":"x"}]}`,
		"input[1]", "input[2]", "input[5]", "input[4]")
}

// Names that all come to one flat name must not cost the square of their number.
func TestFlatNamesOfManyNamespaces(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"model":"m","input":[{"role":"user","content":"x"}`)
	const n = 5000
	for i := range n {
		fmt.Fprintf(&b, `,{"type":"function_call","call_id":"c%d","namespace":"%s","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"c%d","output":""}`, i, strings.NewReplacer("0", "!", "1", "?").Replace(fmt.Sprintf("%016b", i)), i)
	}
	b.WriteString(`]}`)
	start := time.Now()
	got := retell(t, itemStory{}, b.String())
	if got.err != nil {
		t.Fatal(describe(got.err))
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Fatalf("%d names took %s", n, took)
	}
}

// seedResponses seeds a fuzz target with all bodies and stories there are.
func seedResponses(f *testing.F) {
	f.Helper()
	for _, pattern := range []string{"testdata/bodies/responses.*.json", "testdata/translate/responses-chat-*.txtar"} {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			if strings.HasSuffix(file, ".txtar") {
				_, b, _ = bytes.Cut(b, []byte("-- request --\n"))
				b, _, _ = bytes.Cut(b, []byte("-- model --\n"))
				b = []byte(sealMarks(f, string(b)))
			}
			f.Add(b)
		}
	}
}

func FuzzResponsesToChat(f *testing.F) {
	seedResponses(f)
	var shapes []*Shape
	for _, st := range []itemStory{
		{}, {System: SystemHoist}, {System: SystemUser, Kind: catalog.KindVLLM}, {Keyless: true},
		{story: story{BaseURL: "https://api.openai.com/v1"}},
		{Native: true}, {Native: true, story: story{BaseURL: "https://api.openai.com/v1"}},
	} {
		shapes = append(shapes, st.shape(f))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var env, after wire.Envelope
		if wire.Scan(body, wire.ScanLimits{}, &env) != nil {
			return
		}
		for _, s := range shapes {
			var r, again Request
			err := s.Request(body, &env, &r)
			if errAgain := s.Request(body, &env, &again); fmt.Sprint(err) != fmt.Sprint(errAgain) {
				t.Fatalf("told twice it differs: %v, %v", err, errAgain)
			}
			if err != nil {
				asError(t, err)
				continue
			}
			from := r.Body
			if s.backend == s.client {
				from = body
			}
			sent := wire.Splice(nil, from, r.Edits)
			if err := wire.Scan(sent, wire.ScanLimits{Depth: 1024}, &after); err != nil {
				t.Fatalf("sent does not scan: %v\n%s\n%s", err, body, sent)
			}
			if !bytes.Equal(r.Body, again.Body) {
				t.Fatalf("told twice it differs:\n%s\n%s", r.Body, again.Body)
			}
			if s.backend == s.client {
				continue
			}
			answered(t, sent)
			var tr Request
			hub := translation{shape: s, turn: &tr.Turn, out: &tr}
			if text, err := chatFromResponses(&hub, nil, body, &env); err == nil {
				if err := wire.Scan(text, wire.ScanLimits{Depth: 1024}, &after); err != nil {
					t.Fatalf("the hub's does not scan: %v\n%s\n%s", err, body, text)
				}
				answered(t, text)
			}
		}
	})
}

// answered holds messages against what every server asks of them: a tool
// message stands behind the calls that it answers, and every call is answered.
func answered(t *testing.T, sent []byte) {
	t.Helper()
	at, _ := wire.Get(sent, wire.Whole(sent), "messages")
	open := map[string]bool{}
	for it := wire.Elements(sent, at); it.Next(); {
		role, _ := wire.Get(sent, it.Value, "role")
		if string(role.Of(sent)) == `"tool"` {
			id, _ := wire.Get(sent, it.Value, "tool_call_id")
			if key := string(id.Of(sent)); !open[key] {
				t.Fatalf("no call of %s is open: %s", key, sent)
			} else {
				delete(open, key)
			}
			continue
		}
		if len(open) > 0 {
			t.Fatalf("calls %v are not answered: %s", open, sent)
		}
		calls, _ := wire.Get(sent, it.Value, "tool_calls")
		for call := wire.Elements(sent, calls); call.Next(); {
			id, _ := wire.Get(sent, call.Value, "id")
			open[string(id.Of(sent))] = true
		}
	}
	if len(open) > 0 {
		t.Fatalf("calls %v are not answered: %s", open, sent)
	}
}

// agentInput is a Responses request of about size bytes, as an agent sends it
// in the middle of its work.
func agentInput(size int) []byte {
	var b bytes.Buffer
	b.WriteString(`{"model":"local/qwen","stream":true,"store":false,"include":["reasoning.encrypted_content"],"reasoning":{"effort":"high","summary":"auto"},"input":[{"type":"message","role":"developer","content":[{"type":"input_text","text":"be brief"}]},{"type":"message","role":"user","content":[{"type":"input_text","text":"go"}]}`)
	for i := 0; b.Len() < size-700; i++ {
		fmt.Fprintf(&b, `,{"type":"reasoning","id":"rs_%d","summary":[{"type":"summary_text","text":"so"}]},{"type":"function_call","id":"fc_%d","call_id":"call_%d","name":"exec_command","arguments":"{\"cmd\":\"cat file\\n\"}"},{"type":"function_call_output","call_id":"call_%d","output":"%s"}`,
			i, i, i, i, strings.Repeat(`line of a file\n`, min(100, (size-b.Len())/30+1)))
	}
	b.WriteString(`],"tools":[{"type":"function","name":"exec_command","description":"runs","strict":false,"parameters":{"type":"object","properties":{"cmd":{"type":"string"}}}},{"type":"namespace","name":"agents","description":"x","tools":[{"type":"function","name":"close","parameters":{"type":"object"}}]}],"tool_choice":"auto"}`)
	return b.Bytes()
}

func BenchmarkResponsesToChat(b *testing.B) {
	cases := []struct {
		name string
		st   itemStory
	}{
		{"splice", itemStory{Native: true}},
		{"chat", itemStory{Kind: catalog.KindVLLM}},
		{"openai", itemStory{story: story{BaseURL: "https://api.openai.com/v1"}}},
	}
	for _, c := range cases {
		s := c.st.shape(b)
		for _, size := range []int{1 << 10, 100 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("%s/%dKB", c.name, size>>10), func(b *testing.B) {
				body := agentInput(size)
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
