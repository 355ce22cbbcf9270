package shaping

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"nearside/catalog"
	"nearside/shaping/wire"
)

// sentMessage is a message as a test reads it.
type sentMessage struct {
	raw     json.RawMessage
	Role    string          `json:"role"`
	Content json.RawMessage `json:"content"`
	ID      string          `json:"tool_call_id"`
	Calls   []struct {
		ID string `json:"id"`
	} `json:"tool_calls"`
}

func messagesOf(t testing.TB, body []byte) (list []sentMessage) {
	t.Helper()
	var req struct {
		Messages []json.RawMessage `json:"messages"`
	}
	if err := json.Unmarshal(body, &req); err != nil {
		t.Fatalf("%v\n%s", err, body)
	}
	for _, raw := range req.Messages {
		m := sentMessage{raw: raw}
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatalf("%v\n%s", err, raw)
		}
		list = append(list, m)
	}
	return list
}

// randomHistory is a conversation as a client with little luck could send it:
// few ids, so that they meet, some missing, and members that nobody knows.
func randomHistory(r *rand.Rand) []byte {
	var b bytes.Buffer
	b.WriteString(`{"model":"m","messages":[`)
	id := func() string {
		return []string{`"a"`, `"b"`, `"c"`, `"\u0061"`, `""`, `null`, `"call_auto_0"`}[r.IntN(7)]
	}
	text := func() string {
		return []string{`"said"`, `"\ud83d\ude42 \/"`, `""`, `null`, `[]`, `[{"type":"text","text":"p"}]`, `[{"type":"text","text":""},{"type":"image_url","image_url":{"url":"data:,"}}]`, `"<think>\n t</think> x"`}[r.IntN(8)]
	}
	thought := func() string {
		return []string{`"reasoning":"why"`, `"reasoning_content":"so"`, `"reasoning_content":"","reasoning_text":"so"`, `"reasoning_details":[{"type":"reasoning.text","text":"d","signature":"s"}],"reasoning":"d"`, `"refusal":null`}[r.IntN(5)]
	}
	for i := range r.IntN(9) {
		if i > 0 {
			b.WriteString([]string{",", " ,\n ", ", "}[r.IntN(3)])
		}
		fmt.Fprintf(&b, `{ "x_%d" :1e400, "role":`, i)
		switch k := r.IntN(10); {
		case k < 1:
			fmt.Fprintf(&b, `"system","content":%s`, text())
		case k < 3:
			fmt.Fprintf(&b, `"user","content":%s`, text())
		case k < 5:
			fmt.Fprintf(&b, `"assistant","content":%s,%s`, text(), thought())
		case k < 7:
			fmt.Fprintf(&b, `"assistant",%s,"content":%s,"tool_calls":[`, thought(), text())
			for c := range 1 + r.IntN(2) {
				if c > 0 {
					b.WriteByte(',')
				}
				fmt.Fprintf(&b, `{"id":%s,"type":"function","function":{"name":"f%d","arguments":"{}"}}`, id(), c)
			}
			b.WriteByte(']')
		default:
			fmt.Fprintf(&b, `"tool","tool_call_id":%s,"content":%s`, id(), text())
		}
		b.WriteByte('}')
	}
	b.WriteString(`]}`)
	return b.Bytes()
}

// inPairs says what is wrong with the pairs of a conversation.
func inPairs(list []sentMessage) string {
	for i := 0; i < len(list); i++ {
		if list[i].Role == "tool" {
			return fmt.Sprintf("message %d answers nothing", i)
		}
		var open []string
		for _, c := range list[i].Calls {
			if c.ID == "" {
				return fmt.Sprintf("message %d has a call without an id", i)
			}
			open = append(open, c.ID)
		}
		for at := i; len(open) > 0; {
			if i++; i == len(list) || list[i].Role != "tool" {
				return fmt.Sprintf("calls %v of message %d are not answered", open, at)
			}
			k := slices.Index(open, list[i].ID)
			if k < 0 {
				return fmt.Sprintf("message %d answers none of %v", i, open)
			}
			open = slices.Delete(open, k, k+1)
		}
	}
	return ""
}

// Whatever history comes, a server sees every call answered once and right
// behind it; the client's messages stay in their order and byte for byte, and
// those of its results that are not sent are named.
func TestHistoriesComeOutInPairs(t *testing.T) {
	on := true
	s, err := New(story{Compat: catalog.Compat{Own: catalog.Own{RequiresPairedToolResults: &on}}}.model(), wire.Chat, Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	right, wrong := 0, 0
	for range 2000 {
		body := randomHistory(r)
		came := messagesOf(t, body)
		sent := check(t, s, body)
		went := messagesOf(t, sent)
		if flaw := inPairs(went); flaw != "" {
			t.Fatalf("%s\nbody %s\nsent %s", flaw, body, sent)
		}
		if inPairs(came) == "" {
			if right++; !bytes.Equal(body, sent) {
				t.Fatalf("a history in order was changed\nbody %s\nsent %s", body, sent)
			}
			continue
		}
		wrong++
		others := func(list []sentMessage) (all []string) {
			for _, m := range list {
				if m.Role != "tool" && len(m.Calls) == 0 {
					all = append(all, string(m.raw))
				}
			}
			return all
		}
		if got, want := others(went), others(came); !slices.Equal(got, want) {
			t.Fatalf("messages\n got %q\nwant %q", got, want)
		}
		kept := 0
		for _, m := range came {
			if m.Role == "tool" && bytes.Contains(sent, m.raw[:bytes.IndexByte(m.raw, ':')]) { // its own member
				kept++
			}
		}
		var env wire.Envelope
		var req Request
		if err := wire.Scan(body, wire.ScanLimits{}, &env); err != nil {
			t.Fatal(err)
		}
		if err := s.Request(body, &env, &req); err != nil {
			t.Fatal(err)
		}
		results := len(slices.DeleteFunc(slices.Clone(came), func(m sentMessage) bool { return m.Role != "tool" }))
		if len(req.Dropped) != results-kept {
			t.Fatalf("dropped %v, but %d of %d results were sent\nbody %s\nsent %s", req.Dropped, kept, results, body, sent)
		}
	}
	if right < 100 || wrong < 500 {
		t.Fatalf("%d histories in order, %d not: the test says little", right, wrong)
	}
}

// With all that a template can ask for switched on: one system message, at the
// head, the user first, then turns that alternate and say something.
func TestHistoriesComeOutAsTemplatesWantThem(t *testing.T) {
	st := models()["history"]
	s, err := New(st.model(), wire.Chat, Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		body := randomHistory(r)
		sent := check(t, s, body)
		list := messagesOf(t, sent)
		if flaw := inPairs(list); flaw != "" {
			t.Fatalf("%s\nbody %s\nsent %s", flaw, body, sent)
		}
		lost := 0
		for i := range messagesOf(t, body) {
			if x := fmt.Sprintf(`"x_%d"`, i); !bytes.Contains(sent, []byte(x+" :1e400")) && !bytes.Contains(sent, []byte(x+":1e400")) {
				lost++
			}
		}
		if lost > 0 {
			dropped := strings.Split(shape(t, st, string(body)).dropped, "\n")
			if n := len(slices.DeleteFunc(dropped, func(p string) bool { return strings.Contains(p, "].") || p == "" })); n != lost {
				t.Fatalf("the members of %d messages are gone, %d messages are named as dropped: %q\nbody %s\nsent %s", lost, n, dropped, body, sent)
			}
		}
		for i, m := range list {
			prev := ""
			if i > 0 {
				prev = list[i-1].Role
			}
			switch {
			case m.Role == "system" && i > 0:
				t.Fatalf("message %d is the system's\nbody %s\nsent %s", i, body, sent)
			case m.Role == "assistant" && (prev == "" || prev == "system"):
				t.Fatalf("the assistant speaks first\nbody %s\nsent %s", body, sent)
			case m.Role == prev && m.Role != "tool":
				t.Fatalf("messages %d and %d are both the %s's\nbody %s\nsent %s", i-1, i, prev, body, sent)
			case m.Role == "user" && prev == "tool":
				t.Fatalf("the user speaks right behind a result\nbody %s\nsent %s", body, sent)
			case m.Role == "assistant" && !bytes.Contains(m.raw, []byte(`"reasoning_content":`)):
				t.Fatalf("message %d has no reasoning_content\nsent %s", i, sent)
			case string(m.Content) == "null" && len(m.Calls) == 0 || len(m.Content) == 0:
				t.Fatalf("message %d has no content\nbody %s\nsent %s", i, body, sent)
			}
		}
	}
}

// A second proxy behind this one changes nothing more, whatever is switched on.
func TestHistoriesAreMendedOnce(t *testing.T) {
	for name, st := range models() {
		t.Run(name, func(t *testing.T) {
			s, err := New(st.model(), wire.Chat, Options{SystemMessages: st.System})
			if err != nil {
				t.Fatal(err)
			}
			r := rand.New(rand.NewPCG(5, 6))
			for range 250 {
				check(t, s, randomHistory(r))
			}
		})
	}
}

// What is dropped beyond the changes that are told one by one is not lost to
// x-nearside-dropped.
func TestManyDroppedMessagesAreNamedTogether(t *testing.T) {
	const n = 3 * contentChanges
	msg := `{"role":"tool","tool_call_id":"x","content":"r"},`
	got := shape(t, story{Near: true}, `{"model":"m","messages":[`+strings.Repeat(msg, n)+`{"role":"user","content":"hi"}]}`)
	if want := `{"model":"m","messages":[{"role":"user","content":"hi"}]}`; got.sent != want {
		t.Fatalf("sent %.300s", got.sent)
	}
	if lines := strings.Count(got.dropped, "\n") + 1; lines != contentChanges+1 || !strings.HasSuffix(got.dropped, "\nmessages[*]") {
		t.Fatalf("%d lines are dropped: %.300s", lines, got.dropped)
	}
}

// Histories of very many calls and results, as nobody but an attacker sends
// them, must not cost their square.
func TestPairingIsLinear(t *testing.T) {
	const n = 5000
	var b strings.Builder
	b.WriteString(`{"model":"m","messages":[{"role":"assistant","content":"","tool_calls":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString([]string{`{}`, `{"id":"same"}`}[i%2])
	}
	b.WriteString(`]}`)
	for i := range n {
		b.WriteString([]string{`,{"role":"tool"}`, `,{"role":"tool","tool_call_id":"same"}`}[i%2])
	}
	b.WriteString(`]}`)
	got := shape(t, story{Near: true}, b.String())
	if flaw := inPairs(messagesOf(t, []byte(got.sent))); flaw != "" || got.dropped != "" {
		t.Fatalf("%s, dropped %.300s", flaw, got.dropped)
	}
}

// So it is with long runs of one side, with members that each message has
// alone, and with reasoning in very many pieces.
func TestMergingIsLinear(t *testing.T) {
	const n = 5000
	f := func(st story, message func(i int) string, want string) {
		t.Helper()
		var b strings.Builder
		b.WriteString(`{"model":"m","messages":[`)
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(message(i))
		}
		b.WriteString(`]}`)
		s, err := New(st.model(), wire.Chat, Options{})
		if err != nil {
			t.Fatal(err)
		}
		body := []byte(b.String())
		var env wire.Envelope
		var r Request
		if err := wire.Scan(body, wire.ScanLimits{}, &env); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := s.Request(body, &env, &r); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if made := int(after.TotalAlloc - before.TotalAlloc); made > 100*len(body) { // their square is 1000 times the body
			t.Fatalf("%d bytes were made of %d", made, len(body))
		}
		if sent := string(wire.Splice(nil, body, r.Edits)); !strings.HasPrefix(sent, want) || !json.Valid([]byte(sent)) {
			t.Fatalf("sent %.300s\nwant %.300s", sent, want)
		}
	}
	one := func(before, message, after string) func(i int) string {
		return func(i int) string {
			if i > 0 {
				return `{"role":"user","content":"u"}`
			}
			return before + strings.Repeat(message, n) + after
		}
	}
	all := models()["history"]
	f(all, func(i int) string { return fmt.Sprintf(`{"role":"user","content":"a","x%d":1}`, i) }, `{"model":"m","messages":[{"role":"user","content":"a\n\na\n\na`)
	f(all, func(int) string { return `{"role":"system","content":[{"type":"text","text":"a","z":1}]}` }, `{"model":"m","messages":[{"role":"system","content":[{"type":"text","text":"a","z":1},{"type"`)
	f(all, func(int) string { return `{"role":"assistant","content":"","reasoning":"r"}` }, `{"model":"m","messages":[{"role":"user","content":"(start of the conversation)"},{"role":"assistant","content":"","reasoning":"r\n\nr`)
	f(all, one(`{"role":"assistant","content":"`, `<think>t</think>`, `"}`), `{"model":"m","messages":[{"role":"user","content":"(start of the conversation)"},{"role":"assistant","content":"","reasoning":"t\n\nt`)
	f(all, one(`{"role":"assistant","content":"`, `<think>`, `"}`), `{"model":"m","messages":[{"role":"user","content":"(start of the conversation)"},{"role":"assistant","content":"<think><think>`)
	f(all, one(`{"role":"assistant","content":"","reasoning_details":[{"type":"x"}`, `,{"type":"reasoning.text","text":"t"}`, `]}`), `{"model":"m","messages":[{"role":"user","content":"(start of the conversation)"},{"role":"assistant","content":"","reasoning":"t\n\nt`)
	f(models()["mistral"], one(`{"role":"assistant","content":"","reasoning":"`, `<think>t</think>`, `"}`), `{"model":"m","messages":[{"role":"assistant","content":"t\n\nt`)
}

// Ids that are made must be the same in every turn of a conversation, since
// prompts are cached, and never the same for two calls.
func TestMadeIDsAreStableAndApart(t *testing.T) {
	on := true
	st := story{Compat: catalog.Compat{RequiresMistralToolIds: &on}}
	turn := func(i int, id string) string {
		return fmt.Sprintf(`{"role":"user","content":"q%d"},{"role":"assistant","content":"","tool_calls":[{"id":%q,"type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":%q,"content":"r"}`, i, id, id)
	}
	var turns []string
	for i := range 300 {
		turns = append(turns, turn(i, fmt.Sprintf("call_%d", i)))
	}
	short := shape(t, st, `{"model":"m","messages":[`+strings.Join(turns[:10], ",")+`]}`).sent
	long := shape(t, st, `{"model":"m","messages":[`+strings.Join(turns, ",")+`]}`).sent
	if !strings.HasPrefix(long, strings.TrimSuffix(short, "]}")) {
		t.Fatalf("the beginning changed\n got %.600s\nwant %.600s", long, short)
	}
	seen := map[string]bool{}
	for _, m := range messagesOf(t, []byte(long)) {
		for _, c := range m.Calls {
			if len(c.ID) != mistralIDBytes || seen[c.ID] {
				t.Fatalf("id %q: seen %t", c.ID, seen[c.ID])
			}
			seen[c.ID] = true
		}
	}
	if flaw := inPairs(messagesOf(t, []byte(long))); flaw != "" {
		t.Fatal(flaw)
	}

	// An id that is taken is not given away again.
	made := messagesOf(t, []byte(shape(t, st, `{"model":"m","messages":[`+turn(0, "call_0")+`]}`).sent))[1].Calls[0].ID
	both := messagesOf(t, []byte(shape(t, st, `{"model":"m","messages":[`+turn(0, "call_0")+","+turn(1, made)+`]}`).sent))
	if a, b := both[1].Calls[0].ID, both[4].Calls[0].ID; b != made || a == made || both[2].ID != a || both[5].ID != b {
		t.Fatalf("two calls are called %q and %q", a, b)
	}
}

func TestCutThought(t *testing.T) {
	f := func(raw, in, rest string) {
		t.Helper()
		gotIn, gotRest, ok := cutThought([]byte(raw))
		if string(gotIn) != in || string(gotRest) != rest || ok != (in+rest != "" || raw == "<think></think>") {
			t.Fatalf("cutThought(%q) = %q, %q, %t, want %q, %q", raw, gotIn, gotRest, ok, in, rest)
		}
	}
	f(`<think>a</think>b`, "a", "b")
	f(`\n <think>\n a \\n</think>\n\nb\n`, `a \\n`, "b")
	f(`< THINK >x</ think >y`, "x", "y")
	f(`<thinking id=1>x</thinking>`, "x", "")
	f(`<think>x</think>y`, "x", "y")
	f(`<think>a<think>b</think>c</think>d`, "a<think>b</think>c", "d")
	f(`<think></think>`, "", "")
	f(`<think>a</thinking>b`, "a", "b")
	f(`<think>never ends`, "", "")
	f(`</think>b`, "", "")
	f(`b<think>a</think>`, "", "")
	f(`<thoughts>a</thoughts>`, "", "")
	f(``, "", "")
	f(`<`, "", "")
}
