package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func scanned(t *testing.T, body string) *Envelope {
	t.Helper()
	var e Envelope
	if err := Scan([]byte(body), ScanLimits{}, &e); err != nil {
		t.Fatalf("Scan(%s): %v", body, err)
	}
	return &e
}

// What the proxy decides by comes from here: each member must be found whatever
// the white space, the order and the escapes.
func TestScanFillsEnvelope(t *testing.T) {
	body := `{ "mod\u0065l" : "a\/b\u00e9\ud83d\ude00" , "stream":true,
 "stream_options":{"include_usage":true},"messages":[{"role":"user","content":[
  {"type":"text","text":"hi\nyou"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}],
 "tools":[{"type":"function"},{"type":"function"}, {"a":[1,2]}],"tool_choice":"auto","max_tokens":5,"max_completion_tokens":7.9,"x":null}`
	e := scanned(t, body)
	if e.ModelName != "a/bé😀" {
		t.Errorf("model: got %q", e.ModelName)
	}
	of := func(s Span) string { return string(s.Of([]byte(body))) }
	for _, c := range []struct{ name, got, want string }{
		{"model", of(e.Model), `"a\/b\u00e9\ud83d\ude00"`},
		{"stream", of(e.StreamAt), "true"},
		{"stream_options", of(e.StreamOpts), `{"include_usage":true}`},
		{"tool_choice", of(e.ToolChoice), `"auto"`},
		{"flags", fmt.Sprint(e.Stream, e.IncludeUsage, e.Images, e.Audio, e.ToolCount, e.MaxTokens, len(e.Fields), e.Size == len(body)), "true true true false 3 7 9 true"},
		{"messages starts", of(e.Messages)[:3], `[{"`},
		{"media", fmt.Sprint(e.MediaBytes), "26"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, c.got, c.want)
		}
	}
	if v, ok := e.Field([]byte(body), "x"); !ok || of(v) != "null" {
		t.Errorf("Field(x): got %v %v", v, ok)
	}
	if _, ok := e.Field([]byte(body), "X"); ok {
		t.Error("Field(X) was found, keys are case-sensitive")
	}
}

func TestScanRefuses(t *testing.T) {
	deep := strings.Repeat("[", 300)
	var many strings.Builder
	many.WriteString("{")
	for i := range 600 {
		fmt.Fprintf(&many, `"k%d":0,`, i)
	}
	f := func(body, code, param, part string) {
		t.Helper()
		var env Envelope
		err := Scan([]byte(body), ScanLimits{}, &env)
		var e *Error
		if !errors.As(err, &e) {
			t.Fatalf("Scan(%.60q): got %v, want an error with %q", body, err, part)
		}
		if e.Status != 400 || e.Type != invalidRequest || e.Code != code || e.Param != param || !strings.Contains(e.Message, part) {
			t.Fatalf("Scan(%.60q)\n got %+v\nwant code %q param %q message with %q", body, *e, code, param, part)
		}
	}
	f("", "", "", "empty")
	f(" \n", "", "", "empty")
	f("null", "", "", "not a JSON object")
	f("[]", "", "", "not a JSON object")
	f("12", "", "", "not a JSON object")
	f("\xef\xbb\xbf{}", "", "", "not a JSON object")
	f("{", "", "", "ends early, after 1 bytes")
	f(`{"a`, "", "", "ends early")
	f(`{"a\`, "", "", "ends early")
	f(`{"a\u00`, "", "", "ends early")
	f(`{"a":tr`, "", "", "ends early")
	f(`{"a":-`, "", "", "ends early")
	f(`{"a":1.`, "", "", "ends early")
	f(`{"a":1,`, "", "", "ends early")
	f(`{"a":[1`, "", "", "ends early")
	f("{}x", "", "", "byte 2")
	f("{}{}", "", "", "something follows")
	f("{\n \"a\": x}", "", "", "byte 8 (line 2, column 7): expected a value")
	f("{/* no */}", "", "", "no comments")
	f("{\"a\":1 // x\n}", "", "", "no comments")
	f(`{"a":1,}`, "", "", "expected a key")
	f(`{"a":[1,]}`, "", "", "expected a value")
	f(`{"a":[1}`, "", "", "closing bracket")
	f(`{"a":{"b":1]}`, "", "", "closing brace")
	f(`{"a" 1}`, "", "", "colon")
	f(`{"a":1 "b":2}`, "", "", "comma")
	f(`{a:1}`, "", "", "key in quotes")
	f(`{"a":01}`, "", "", "comma")
	f(`{"a":1.e5}`, "", "", "number")
	f(`{"a":+1}`, "", "", "value")
	f(`{"a":NaN}`, "", "", "value")
	f(`{"a":trux}`, "", "", "value")
	f("{\"a\":\"b\nc\"}", "", "", "control character")
	f("{\"a\":\"12345678\x00\"}", "", "", "byte 14")
	f(`{"a":"\x"}`, "", "", "escape")
	f(`{"a":"\u12g4"}`, "", "", "escape")
	f(`{"a":`+deep, "", "", "deeper than 256")
	f(many.String(), "", "", "more than 512 members")
	f(`{"`+strings.Repeat("k", 300)+`":1}`, "", "", "longer than")
	f(`{"model":"a","model":"b"}`, "duplicate_key", "model", "twice")
	f(`{"model":"a","mod\u0065l":"b"}`, "duplicate_key", "model", "twice")
	f(`{"mod\u0065l":"a","model":"b"}`, "duplicate_key", "model", "twice")
	f(`{"x":1,"y":2,"x":3}`, "duplicate_key", "x", "byte 13")
	f(`{"model":7}`, "invalid_type", "model", "string")
	f(`{"model":null}`, "invalid_type", "model", "string")
	f(`{"stream":"true"}`, "invalid_type", "stream", "boolean")
	f(`{"stream":1}`, "invalid_type", "stream", "boolean")
	f(`{"stream_options":[]}`, "invalid_type", "stream_options", "object")
}

func TestScanKeepsOddButValidBodies(t *testing.T) {
	f := func(body string, check func(e *Envelope) bool) {
		t.Helper()
		if e := scanned(t, body); check != nil && !check(e) {
			t.Fatalf("Scan(%s): got %+v", body, *e)
		}
	}
	f("{}", func(e *Envelope) bool { return len(e.Fields) == 0 && !e.Model.Present() })
	f(`{"Model":"a","MODEL":"b","STREAM":true}`, func(e *Envelope) bool { return !e.Model.Present() && !e.Stream && len(e.Fields) == 3 })
	f(`{"stream":null,"stream_options":null}`, func(e *Envelope) bool { return !e.Stream })
	f(`{"a":1e400,"b":-0,"c":12345678901234567890,"d":1.0E+2}`, nil)
	f(`{"model":"","a":"\ud800","b":"`+"\xff\xe2\x80\xa8"+`","c":"\u0000"}`, func(e *Envelope) bool { return e.ModelName == "" && e.Model.Present() })
	f(`{"messages":[{"a":1,"a":2}]}`, nil) // nested repetition is the backend's business
	f(`{"tools":[]}`, func(e *Envelope) bool { return e.ToolCount == 0 && e.Tools.Present() })
	f(`{"tools":[[1,2,3]],"x":[1,2]}`, func(e *Envelope) bool { return e.ToolCount == 1 })
	f(`{"x":[1,2],"tools":{}}`, func(e *Envelope) bool { return e.ToolCount == 0 })
	f(`{"max_tokens":-1}`, func(e *Envelope) bool { return e.MaxTokens == 0 })
	f(`{"max_tokens":1e400}`, func(e *Envelope) bool { return e.MaxTokens == 1<<62 })
	f(`{"input":"hi"}`, func(e *Envelope) bool { return e.Messages.Present() && e.TextBytes == 7 })
	f(`{"input":[{"type":"input_audio"}]}`, func(e *Envelope) bool { return e.Audio && !e.Images })
	f(`{"messages":[{"content":[{"type":"video_url"}]}]}`, func(e *Envelope) bool { return e.Video && !e.Images && !e.Audio })
	f(`{"tools":[{"type":"image"}]}`, func(e *Envelope) bool { return !e.Images })
	f(`{"x":"data: {\"a\":1}, more"}`, func(e *Envelope) bool { return e.MediaBytes == 0 })
	f(`{"x":`+strings.Repeat("[", 255)+strings.Repeat("]", 255)+`}`, nil)
	f("\n{\"a\":[ ] , \"b\" : { } }\r\n", func(e *Envelope) bool { return len(e.Fields) == 2 })
}

// A reused Envelope must not carry anything of the last body over.
func TestScanResetsEnvelope(t *testing.T) {
	var e Envelope
	full := []byte(`{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[{"type":"image"}],"tools":[1],"max_tokens":3}`)
	if err := Scan(full, ScanLimits{}, &e); err != nil {
		t.Fatal(err)
	}
	if err := Scan([]byte(`{}`), ScanLimits{}, &e); err != nil {
		t.Fatal(err)
	}
	want := Envelope{Fields: []Field{}, Size: 2}
	e.modelSeen = ""
	if d := cmp.Diff(want, e, cmp.AllowUnexported(Envelope{})); d != "" {
		t.Fatal(d)
	}
}

func FuzzScanAgreesWithEncodingJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1,{"b":"\u00e9\n"}],"model":"x"}`, `{"a":1,"\u0061":2}`, `{"a":01}`, "{}", `{"stream":false,"x":1e5}`, `{"a":"` + "\x01" + `"}`, `{"":{}} `, `{"a":-0.0e-1}`, `{"messages":[{"type":"image","data":"` + strings.Repeat("A", 80) + `"}]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var env Envelope
		err := Scan(body, ScanLimits{Depth: 1000}, &env)
		var members map[string]json.RawMessage
		wantErr := json.Unmarshal(body, &members)
		if err == nil && wantErr != nil {
			t.Fatalf("Scan took what encoding/json refuses: %v", wantErr)
		}
		if err != nil {
			e := err.(*Error)
			if wantErr == nil && members != nil && e.Code == "" && !strings.Contains(e.Message, "longer than") && !strings.Contains(e.Message, "members") {
				t.Fatalf("Scan refused what encoding/json takes: %v", err)
			}
			return
		}
		if len(members) > len(env.Fields) {
			t.Fatalf("got %d fields, want %d", len(env.Fields), len(members))
		}
		for _, fd := range env.Fields {
			var key string
			if err := json.Unmarshal(body[fd.Key.Start-1:fd.Key.End+1], &key); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(members[key], fd.Value.Of(body)) {
				t.Fatalf("member %q: got %q, want %q", key, fd.Value.Of(body), members[key])
			}
		}
	})
}

// agentBody is a chat request as coding agents send it: tools with schemas, a
// system prompt, tool calls whose arguments and results are escaped code.
func agentBody(size int) []byte {
	var b bytes.Buffer
	b.WriteString(`{"model":"lmstudio/qwen3-coder-30b","messages":[{"role":"system","content":"You are a coding agent. Follow the user's instructions.\n\nRules:\n- be brief\n"}`)
	line := `func (s *Server) handle(w http.ResponseWriter, r *http.Request) {\n\tif r.Method != \"POST\" {\n\t\thttp.Error(w, \"method not allowed\", 405)\n\t\treturn\n\t}\n`
	text := `Please look at the file and explain why the test fails on the second run. I think that the cache is not reset between cases, but I am not sure about that at all. `
	tools := agentTools
	if size <= 4000 {
		tools = `,"tools":[]`
	}
	for i := 0; b.Len() < size-len(tools)-60; i++ {
		switch i % 3 {
		case 0:
			b.WriteString(`,{"role":"user","content":"` + strings.Repeat(text, 3) + `"}`)
		case 1:
			fmt.Fprintf(&b, `,{"role":"assistant","content":null,"tool_calls":[{"id":"call_%d","type":"function","function":{"name":"read_file","arguments":"{\"path\":\"src/main.go\",\"offset\":%d}"}}]}`, i, i*10)
		case 2:
			fmt.Fprintf(&b, `,{"role":"tool","tool_call_id":"call_%d","content":"%s"}`, i-1, strings.Repeat(line, 12))
		}
	}
	b.WriteString(`],"stream":true,"stream_options":{"include_usage":true},"temperature":0.2`)
	b.WriteString(tools + `}`)
	return b.Bytes()
}

var agentTools = func() string {
	var b strings.Builder
	b.WriteString(`,"tools":[`)
	for i := range 20 {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"type":"function","function":{"name":"tool_%d","description":"Reads a file from the workspace and returns its lines. Use it before editing.","parameters":{"type":"object","properties":{"path":{"type":"string","description":"The path, relative to the workspace root"},"offset":{"type":"integer","minimum":0},"limit":{"type":"integer","minimum":1,"maximum":2000},"mode":{"type":"string","enum":["text","binary"]}},"required":["path"],"additionalProperties":false}}}`, i)
	}
	return b.String() + "]"
}()

func TestScanDoesNotAllocate(t *testing.T) {
	body := agentBody(100 << 10)
	var e Envelope
	scan := func() {
		if err := Scan(body, ScanLimits{}, &e); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(20, scan); n != 0 {
		t.Fatalf("got %v allocations a scan, want 0", n)
	}
}

func BenchmarkScan(b *testing.B) {
	for _, size := range []int{1 << 10, 100 << 10, 1 << 20} {
		body := agentBody(size)
		if !json.Valid(body) {
			b.Fatal("the benchmark's body is not JSON")
		}
		b.Run(fmt.Sprintf("%dKB", size>>10), func(b *testing.B) {
			var e Envelope
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if err := Scan(body, ScanLimits{}, &e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkStructure is what finding the brackets alone costs, without kinds of
// brackets, commas, keys or an Envelope: the floor for BenchmarkScan.
func BenchmarkStructure(b *testing.B) {
	for _, size := range []int{1 << 10, 100 << 10, 1 << 20} {
		body := agentBody(size)
		b.Run(fmt.Sprintf("%dKB", size>>10), func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if skipValue(body, 0) != len(body) {
					b.Fatal("not the whole body")
				}
			}
		})
	}
}
