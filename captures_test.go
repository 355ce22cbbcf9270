package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Prompt caches live on stable bytes, and clients know fields that nobody here
// ever heard of. Bodies that real clients sent (testdata/captures, long texts
// replaced by filler of the same length) go through the proxy, and what
// arrives is what was sent, byte for byte, but for these:
//
//   - model is the backend's own id;
//   - a chat stream is asked for its usage, by a member at the end or inside
//     the stream_options that are there;
//   - the reasoning effort, prompt_cache_key and store do not leave for a
//     backend that is not said to take them, and what the developer says is
//     said by the system there. No other field of these bodies is touched.
func TestCapturedRequestsArriveAsTheyWereSent(t *testing.T) {
	files, err := filepath.Glob("testdata/captures/*.json")
	if err != nil || len(files) < 41 {
		t.Fatalf("%d captures, %v", len(files), err)
	}
	profiles := []struct {
		name    string
		model   string // of the provider
		dropped []string
		role    string // of what the developer says
	}{
		{"an unknown backend", `{id: "m", contextWindow: 1000000}`, []string{"reasoning.effort", "prompt_cache_key", "store"}, "system"},
		{"a backend that takes more", `{id: "m", contextWindow: 1000000, compat: {supportsPromptCacheKey: true, supportsReasoningEffort: true, supportsDeveloperRole: true}}`, []string{"store"}, "developer"},
	}
	variants := []struct {
		name string
		make func([]byte) []byte
	}{
		{"as captured", func(b []byte) []byte { return b }},
		{"with odd whitespace and unknown fields", odd},
	}
	for _, p := range profiles {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			backends := map[string]*backend{"messages": newBackend(t, chatScene), "input": newBackend(t, responsesScene)}
			proxies := map[string]*running{}
			for field, api := range map[string]string{"messages": "openai-completions", "input": "openai-responses"} {
				proxies[field] = start(t, configOf("", fmt.Sprintf(`near: {baseUrl: %q, api: %q, models: [%s]}`, backends[field].url, api, p.model)))
			}
			for _, file := range files {
				for _, v := range variants {
					t.Run(filepath.Base(file)+" "+v.name, func(t *testing.T) {
						body, err := os.ReadFile(file)
						if err != nil {
							t.Fatal(err)
						}
						field, path, query := "messages", "/v1/chat/completions", ""
						if _, ok := memberOf(rawMembers(t, body), field); !ok {
							field, path = "input", "/v1/responses"
						}
						switch name := filepath.Base(file); {
						case name == "openai-parse.003.json":
							path = "/v1/embeddings"
						case strings.HasPrefix(name, "codex-effort."):
							query = "?api-version=1" // ours to understand, not the backend's
						}
						if _, ok := memberOf(rawMembers(t, body), "previous_response_id"); ok {
							return // what it continues is not ours to know: see the tests of continuations
						}
						sent := v.make(withValue(t, body, "model", `"def\u0061ult"`))
						got := proxies[field].post(path+query, string(sent))
						if got.status != 200 {
							t.Fatalf("%d %s", got.status, got.body)
						}
						asked := backends[field].next()
						if want := "POST " + path; asked.line != want {
							t.Errorf("the backend was asked %s, want %s", asked.line, want)
						}
						arrived := asked.body
						want, dropped := expected(t, sent, p.dropped)
						if field == "messages" {
							want = developer.ReplaceAll(want, []byte(`"role"${1}"`+p.role+`"`))
						}
						if !bytes.Equal(arrived, want) {
							differ(t, arrived, want)
						}
						if got, want := got.header.Get("X-Nearside-Dropped"), strings.Join(dropped, ", "); got != want {
							t.Errorf("x-nearside-dropped %q, want %q", got, want)
						}
					})
				}
			}
		})
	}
}

var developer = regexp.MustCompile(`"role"(\s*:\s*)"developer"`)

// expected is what arrives of a body, and what of it was dropped.
func expected(t *testing.T, sent []byte, drop []string) (want []byte, dropped []string) {
	t.Helper()
	want = withValue(t, sent, "model", `"m"`)
	all := rawMembers(t, want)
	stream, _ := memberOf(all, "stream")
	if _, chat := memberOf(all, "messages"); chat && stream.value == "true" {
		options, ok := memberOf(all, "stream_options")
		switch {
		case !ok:
			end := bytes.LastIndexByte(want, '}')
			want = slices.Concat(want[:end], []byte(`,"stream_options":{"include_usage":true}`), want[end:])
		case !strings.Contains(options.value, "include_usage"):
			t.Fatalf("a capture with other stream_options: %s", options.value)
		}
	}
	for _, key := range drop {
		key, inner, nested := strings.Cut(key, ".")
		m, ok := memberOf(rawMembers(t, want), key)
		if !ok {
			continue
		}
		if !nested {
			want, dropped = without(want, m), append(dropped, key)
			continue
		}
		in, ok := memberOf(rawMembers(t, []byte(m.value)), inner)
		if !ok {
			continue
		}
		if rest := without([]byte(m.value), in); len(rawMembers(t, rest)) > 0 {
			want, dropped = withValue(t, want, key, string(rest)), append(dropped, key+"."+inner)
		} else { // nothing is left in it: the whole object is named
			want, dropped = without(want, m), append(dropped, key)
		}
	}
	return want, dropped
}

// without takes a member out, with the comma and the space behind it or, for
// the last one, the comma before it.
func without(body []byte, m member) []byte {
	end := m.end + len(body[m.end:]) - len(bytes.TrimLeft(body[m.end:], " \t\r\n"))
	if body[end] == ',' {
		return slices.Concat(body[:m.start], bytes.TrimLeft(body[end+1:], " \t\r\n"))
	}
	return slices.Concat(body[:max(bytes.LastIndexByte(body[:m.start], ','), 1)], body[end:])
}

// odd is the same request written by a strange hand.
func odd(body []byte) []byte {
	const unknown = ` "x_first" :{"deep":[1e400,-0,0.10,12345678901234567890,"\u00e9\/\ud83d\ude42 \" }{",{ },[ ] ],"":null, "model":"keep","stream":false,"stream_options":{}},` + "\r\n"
	var b bytes.Buffer
	if err := json.Indent(&b, body, "\t ", "\r\n  "); err != nil {
		panic(err)
	}
	indented := b.Bytes()
	end := bytes.LastIndexByte(indented, '}')
	return slices.Concat([]byte("\r\n\t {"), []byte(unknown), indented[1:end], []byte(`,"x_last":"東京 <&>"`), indented[end:], []byte(" \n"))
}

// member is one member of a body, with where it stands.
type member struct {
	key, value string // as written
	start, end int
	from       int // of the value
}

// rawMembers reads a body's top level.
func rawMembers(t *testing.T, body []byte) []member {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(body))
	if _, err := d.Token(); err != nil {
		t.Fatalf("%v\n%s", err, body)
	}
	var all []member
	for d.More() {
		key, err := d.Token()
		if err != nil {
			t.Fatalf("%v\n%s", err, body)
		}
		at := int(d.InputOffset())
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			t.Fatalf("%v\n%s", err, body)
		}
		end := int(d.InputOffset())
		all = append(all, member{key: fmt.Sprint(key), value: string(value), start: bytes.LastIndexByte(body[:at-1], '"'), end: end, from: end - len(value)})
	}
	if _, err := d.Token(); err != nil {
		t.Fatalf("%v\n%s", err, body)
	}
	return all
}

func memberOf(all []member, key string) (member, bool) {
	i := slices.IndexFunc(all, func(m member) bool { return m.key == key })
	if i < 0 {
		return member{}, false
	}
	return all[i], true
}

// withValue writes another value in the place of a member's.
func withValue(t *testing.T, body []byte, key, value string) []byte {
	t.Helper()
	m, ok := memberOf(rawMembers(t, body), key)
	if !ok {
		t.Fatalf("no %q in %s", key, body)
	}
	return slices.Concat(body[:m.from], []byte(value), body[m.end:])
}

// differ shows where two texts part.
func differ(t *testing.T, got, want []byte) {
	t.Helper()
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	near := func(b []byte) []byte { return b[max(0, i-60):min(len(b), i+120)] }
	t.Errorf("at byte %d of %d\n got %q\nwant %q", i, len(want), near(got), near(want))
}
