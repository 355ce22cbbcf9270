package shaping

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"nearside/shaping/wire"
)

// hubStory is the model of a testdata/translate/responses-messages-*.txtar file.
type hubStory struct {
	translated
	Keyless bool `json:"keyless"`
}

func (st hubStory) tell(t testing.TB, body []byte) translatedStory {
	t.Helper()
	m := st.model()
	m.MaxTokens, m.Provider.Near, m.Provider.Kind = st.MaxTokens, st.Near, st.Kind
	opt := Options{}
	if !st.Keyless {
		opt.Sealer = testSealer(t)
	}
	s, err := New(m, wire.Responses, opt)
	if err != nil {
		t.Fatal(err)
	}
	return toldBy(t, s, body)
}

// One story a file: a Responses request on its way through chat to a Messages
// backend, and what is refused on either step, at the client's own path.
func TestResponsesToMessagesStories(t *testing.T) {
	files, err := filepath.Glob("testdata/translate/responses-messages-*.txtar")
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
			st := hubStory{translated: translated{story: story{Client: "responses", API: "anthropic-messages", ID: "claude-opus-4-6", BaseURL: "https://api.anthropic.com/v1", Reasoning: true}, MaxTokens: 32000}}
			dec := json.NewDecoder(strings.NewReader(parts["model"]))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&st); err != nil {
				t.Fatalf("model: %v", err)
			}
			body := []byte(sealMarks(t, parts["request"]))
			got := st.tell(t, body)
			got.explain = envelope.ReplaceAllString(got.explain, "ns1.…")
			if again := st.tell(t, body); again.sent != got.sent {
				t.Errorf("the same request becomes another one:\n%s", cmp.Diff(got.sent, again.sent))
			}
			if *update {
				got.write(t, file, ar)
				return
			}
			want := translatedStory{parts["sent"], parts["dropped"], parts["explain"], parts["turn"], parts["error"]}
			if want.explain == "" && got.explain == "nothing changes" {
				want.explain = got.explain
			}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(translatedStory{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Every body that a real Responses client sent can be said to Anthropic, and
// again a turn later: nothing of ours is in it, and every call is answered right
// behind.
func TestCapturedResponsesAreSaidToMessages(t *testing.T) {
	s := shapesOfWays(t, "responses")["adaptive"]
	for name, body := range capturedBodies(t, "responses") {
		if strings.Contains(string(body), `"previous_response_id":"`) {
			continue // its first turns are in the store
		}
		t.Run(name, func(t *testing.T) {
			sent, _, failure := translatedBody(t, s, body)
			if failure != nil {
				t.Fatal(describe(failure))
			}
			var doc struct {
				Messages []struct {
					Role    string
					Content []struct {
						Type, ID, Text string
						ToolUseID      string `json:"tool_use_id"`
					}
				}
			}
			if err := json.Unmarshal(sent, &doc); err != nil {
				t.Fatalf("%v\n%s", err, sent)
			}
			var open []string
			role := ""
			for i, m := range doc.Messages {
				if m.Role == role || i == 0 && m.Role != "user" || len(m.Content) == 0 {
					t.Errorf("message %d is the %s's, after the %s's, with %d blocks", i, m.Role, role, len(m.Content))
				}
				role = m.Role
				answered := 0
				for _, b := range m.Content {
					if b.Type == "tool_result" {
						if answered >= len(open) {
							t.Fatalf("message %d answers %s, which is not open", i, b.ToolUseID)
						}
						answered++
					}
					if b.Type == "text" && strings.TrimSpace(b.Text) == "" {
						t.Errorf("message %d has an empty text", i)
					}
				}
				if answered != len(open) {
					t.Errorf("message %d answers %d of %v", i, answered, open)
				}
				open = nil
				for _, b := range m.Content {
					if b.Type == "tool_use" {
						open = append(open, b.ID)
					}
				}
			}
		})
	}
}

// Whatever a Responses client sends, two translations panic never, are JSON, are
// the same every time, and name in their errors something that the client wrote.
func FuzzResponsesToMessages(f *testing.F) {
	seedResponses(f)
	files, _ := filepath.Glob("testdata/translate/responses-messages-*.txtar")
	for _, file := range files {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(sealMarks(f, string(ar.Files[0].Data))))
	}
	var shapes []*Shape
	for _, name := range []string{"adaptive", "budget", "plain"} {
		shapes = append(shapes, shapesOfWays(f, "responses")[name])
	}
	m := shapes[0].model
	sealing, err := New(m, wire.Responses, Options{Sealer: testSealer(f)})
	if err != nil {
		f.Fatal(err)
	}
	shapes = append(shapes, sealing)
	f.Fuzz(func(t *testing.T, body []byte) {
		var env, after wire.Envelope
		if wire.Scan(body, wire.ScanLimits{}, &env) != nil {
			return
		}
		for _, s := range shapes {
			var r, again Request
			err := s.Request(body, &env, &r)
			if errAgain := s.Request(body, &env, &again); (err == nil) != (errAgain == nil) {
				t.Fatalf("told twice it differs: %v, %v", err, errAgain)
			}
			if err != nil {
				if e := asError(t, err); e.Status != 400 || e.Message == "" || strings.HasPrefix(e.Param, "messages") {
					t.Fatalf("error %s of %q", describe(e), body)
				}
				continue
			}
			sent := wire.Splice(nil, r.Body, r.Edits)
			if err := wire.Scan(sent, wire.ScanLimits{Depth: translatedDepth, Fields: 1 << 10}, &after); err != nil || !json.Valid(sent) {
				t.Fatalf("what is sent is no JSON: %v\nbody %q\nsent %q", err, body, sent)
			}
			if !bytes.Equal(sent, wire.Splice(nil, again.Body, again.Edits)) {
				t.Fatalf("told twice it differs: %q", body)
			}
			for _, p := range r.Dropped {
				if strings.HasPrefix(p, "messages[") {
					t.Fatalf("dropped %s of %q", p, body)
				}
			}
		}
	})
}
