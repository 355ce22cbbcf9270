package card

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goccy/go-json"

	"nearside/bench/measure"
)

// fake is a server of Chat Completions that answers every question of the card rightly,
// but for what breaks names.
type fake struct {
	breaks map[string]bool
	busy   atomic.Int64
	told   atomic.Int64
	slot   sync.Mutex // with breaks["one-slot"], an answer holds it
	done   chan struct{}
}

const fakeWindow = 4096

// serve starts a fake with some things broken.
func serve(t *testing.T, breaks ...string) *measure.Target {
	t.Helper()
	f := &fake{breaks: map[string]bool{}, done: make(chan struct{})}
	for _, b := range breaks {
		f.breaks[b] = true
	}
	s := httptest.NewServer(f)
	t.Cleanup(func() {
		close(f.done)
		s.Close()
	})
	return &measure.Target{Name: "fake", BaseURL: s.URL + "/v1", Model: "m", Dialect: measure.Chat}
}

func look(t *testing.T, target *measure.Target, opt Options) *Card {
	t.Helper()
	c := measure.New(measure.Options{Timeout: 30 * time.Second})
	t.Cleanup(c.Close)
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	return Run(ctx, c, target, opt)
}

type fakeAsk struct {
	Model    string          `json:"model"`
	Messages json.RawMessage `json:"messages"`
	Stream   bool            `json:"stream"`
	Most     int             `json:"max_tokens"`
	Seed     *int            `json:"seed"`
	Stop     []string        `json:"stop"`
	Tools    []any           `json:"tools"`
	Format   any             `json:"response_format"`
	all      []struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
}

func (f *fake) refuse(w http.ResponseWriter, status int, text string) {
	if f.breaks["errors"] {
		http.Error(w, "<h1>oops</h1>", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":{"message":%q,"type":"invalid_request_error"}}`, text)
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/v1/models":
		fmt.Fprintf(w, `{"data":[{"id":"m","owned_by":"fake","max_model_len":%d}]}`, fakeWindow)
		return
	case "/metrics":
		if !f.breaks["one-slot"] && !f.breaks["no-state"] {
			fmt.Fprintf(w, "# HELP x\nvllm:num_requests_running{engine=\"0\"} %d.0\nvllm:num_requests_waiting 0\n", f.busy.Load())
			return
		}
	case "/v1/chat/completions":
		p, _ := io.ReadAll(r.Body)
		f.chat(w, r, p)
		return
	}
	http.NotFound(w, r)
}

func (f *fake) chat(w http.ResponseWriter, r *http.Request, p []byte) {
	var a fakeAsk
	switch {
	case json.Unmarshal(p, &a) != nil:
		f.refuse(w, 400, "not JSON")
		return
	case json.Unmarshal(a.Messages, &a.all) != nil || len(a.all) == 0:
		f.refuse(w, 400, "messages: a list is wanted")
		return
	case a.Model != "m":
		f.refuse(w, 404, "no such model")
		return
	}
	if f.breaks["one-slot"] {
		f.slot.Lock()
		defer f.slot.Unlock()
	}
	f.busy.Add(1)
	defer f.busy.Add(-1)
	tokens := 0
	for _, m := range a.all {
		tokens += 4 + len(strings.Fields(m.Content))
	}
	last := a.all[len(a.all)-1].Content
	if tokens > fakeWindow {
		if !f.breaks["cuts"] {
			f.refuse(w, 400, "the context is too long")
			return
		}
		all := strings.Fields(last)
		last, tokens = strings.Join(all[len(all)-fakeWindow:], " "), fakeWindow
	}
	if f.breaks["cuts-early"] && tokens > fakeWindow/2 { // as a server whose window is another than it says
		all := strings.Fields(last)
		last, tokens = strings.Join(all[len(all)-fakeWindow/2:], " "), fakeWindow/2
	}
	text, calls := f.answer(&a, last)
	f.stream(w, r, &a, text, calls, tokens)
}

var passWord = regexp.MustCompile(`The pass word is (\S+)\. Remember`)

// answer is what the card wants to hear, or what is broken.
func (f *fake) answer(a *fakeAsk, last string) (string, []measure.Call) {
	first := ""
	for _, m := range a.all {
		if m.Role == "user" {
			first = m.Content
			break
		}
	}
	if len(a.Tools) > 0 {
		for i := range toolCases {
			c := &toolCases[i]
			if c.messages[0].Text != first {
				continue
			}
			if len(c.want) == 0 {
				if f.breaks["calls-always"] {
					return "", []measure.Call{{Name: "get_weather", Arguments: `{"city":"Rome"}`}}
				}
				return "The answer is 5, with hail; there is no such file.", nil
			}
			return f.calls(rightCalls[c.name])
		}
		return f.calls([]measure.Call{{Name: "get_weather", Arguments: `{"city":"Oslo"}`}})
	}
	if a.Format != nil && !f.breaks["schema"] {
		for _, c := range schemaCases {
			if c.question == first {
				return rightAnswers[c.name], nil
			}
		}
	}
	switch m := passWord.FindStringSubmatch(last); {
	case m != nil:
		return m[1], nil
	case strings.Contains(last, "amber beryl"):
		return "amber beryl coral diamond emerald", nil
	case strings.Contains(last, "1 to 200"):
		return strings.Repeat("7 ", 200), nil
	case strings.Contains(last, "one to one thousand"):
		return strings.Repeat("one ", 100_000), nil
	case a.Seed != nil && f.breaks["seed"]:
		return fmt.Sprintf("boat %d", f.told.Add(1)), nil
	case a.Seed != nil:
		return fmt.Sprintf("boat %d", *a.Seed), nil
	}
	return "I do not know.", nil
}

// calls are those that are right, or broken as servers break them.
func (f *fake) calls(all []measure.Call) (string, []measure.Call) {
	all = append([]measure.Call(nil), all...)
	switch {
	case f.breaks["calls-as-text"]:
		return "<tool_call>" + all[0].Name + all[0].Arguments + "</tool_call>", nil
	case f.breaks["calls-one"]:
		return "", all[:1]
	}
	for i := range all {
		all[i].ID = fmt.Sprintf("call%05d", f.told.Add(1))
		switch {
		case f.breaks["calls-misnamed"]:
			all[i].Name = "functions." + all[i].Name
		case f.breaks["calls-stringly"]:
			all[i].Arguments = regexp.MustCompile(`:(-?[0-9.]+|true|false)`).ReplaceAllString(all[i].Arguments, `:"$1"`)
		case f.breaks["calls-cut"]:
			all[i].Arguments = all[i].Arguments[:len(all[i].Arguments)-1]
		}
	}
	return "", all
}

func (f *fake) stream(w http.ResponseWriter, r *http.Request, a *fakeAsk, text string, calls []measure.Call, tokens int) {
	words := strings.SplitAfter(text, " ")
	finish := "stop"
	for _, s := range a.Stop {
		if i := strings.Index(text, s); i >= 0 && !f.breaks["stop"] {
			words = strings.SplitAfter(text[:i], " ")
		}
	}
	if a.Most > 0 && len(words) > a.Most && !f.breaks["max_tokens"] {
		words, finish = words[:a.Most], "length"
	}
	said := len(words)
	for _, c := range calls {
		finish, said = "tool_calls", said+len(c.Arguments)/4
	}
	usage := fmt.Sprintf(`{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}`, tokens, said, tokens+said)
	if !a.Stream {
		fmt.Fprintf(w, `{"id":"1","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":%s},"finish_reason":"stop"}],"usage":%s}`, quoted(text), usage)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	n := 0
	send := func(delta, finish string) {
		n++
		id := "1"
		if f.breaks["ids"] {
			id = fmt.Sprint(n)
		}
		fmt.Fprintf(w, "data: {\"id\":%q,\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":%s,\"finish_reason\":%s}]}\n\n", id, delta, finish)
	}
	if !f.breaks["role"] {
		send(`{"role":"assistant","content":""}`, "null")
	}
	slow := strings.HasPrefix(text, "one one")
	for i, word := range words {
		if word == "" {
			continue
		}
		if slow {
			_ = http.NewResponseController(w).Flush()
			gone := r.Context().Done()
			if f.breaks["cancel"] {
				if gone = nil; i > 3000 { // about three seconds' work
					return
				}
			}
			select {
			case <-time.After(time.Millisecond):
			case <-gone:
				return
			case <-f.done:
				return
			}
		}
		send(`{"content":`+quoted(word)+`}`, "null")
	}
	for i, c := range calls {
		send(fmt.Sprintf(`{"tool_calls":[{"index":%d,"id":%q,"type":"function","function":{"name":%q,"arguments":""}}]}`, i, c.ID, c.Name), "null")
		half := len(c.Arguments) / 2
		for !strings.HasPrefix(quoted(c.Arguments[half:]), `"`) || c.Arguments[half]&0xC0 == 0x80 {
			half++ // not within a letter
		}
		for _, part := range []string{c.Arguments[:half], c.Arguments[half:]} {
			send(fmt.Sprintf(`{"tool_calls":[{"index":%d,"function":{"arguments":%s}}]}`, i, quoted(part)), "null")
		}
	}
	if f.breaks["finish-stop"] && len(calls) > 0 {
		finish = "stop"
	}
	send(`{}`, quoted(finish))
	if f.breaks["finishes"] {
		send(`{}`, quoted(finish))
	}
	if !f.breaks["usage"] {
		fmt.Fprintf(w, "data: {\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[],\"usage\":%s}\n\n", usage)
	}
	if !f.breaks["done"] {
		fmt.Fprint(w, "data: [DONE]\n\n")
	}
	if f.breaks["behind"] {
		send(`{"content":"more"}`, "null")
	}
}

func quoted(s string) string {
	p, err := json.MarshalWithOption(s, json.DisableHTMLEscape())
	if err != nil {
		panic(err)
	}
	return string(p)
}

// rightCalls are the right calls of the cases that want some.
var rightCalls = map[string][]measure.Call{
	"a city and a unit":             {{Name: "get_weather", Arguments: `{"city":"Paris, France","unit":"celsius"}`}},
	"the like tool beside it":       {{Name: "get_forecast", Arguments: `{"city":"Lisbon","days":5}`}},
	"an integer":                    {{Name: "set_timer", Arguments: `{"minutes":12}`}},
	"values of enums":               {{Name: "set_light", Arguments: `{"room":"hallway","colour":"blue","brightness":40}`}},
	"a negative number":             {{Name: "set_temperature", Arguments: `{"device":"freezer","celsius":-18}`}},
	"a truth value":                 {{Name: "set_notifications", Arguments: `{"enabled":false}`}},
	"four arguments":                {{Name: "search_flights", Arguments: `{"from":"Oslo","to":"Rome","date":"2027-05-03","passengers":2}`}},
	"book, not search":              {{Name: "book_flight", Arguments: `{"flight":"SK4711","passenger":"Ada Lovelace"}`}},
	"objects and lists":             {{Name: "create_event", Arguments: `{"title":"Budget review","start":{"date":"2027-03-09","time":"14:30"},"attendees":["Mia","Jonas"]}`}},
	"codes of currencies":           {{Name: "convert_currency", Arguments: `{"amount":250,"from":"USD","to":"EUR"}`}},
	"letters beyond ASCII":          {{Name: "read_file", Arguments: `{"path":"docs/Über uns.md"}`}},
	"quotes in a command":           {{Name: "run_command", Arguments: `{"command":"grep -n \"a b\" src/main.go"}`}},
	"lines in a text":               {{Name: "write_file", Arguments: `{"path":"notes.txt","content":"alpha\nbeta\n"}`}},
	"quotes and a backslash":        {{Name: "send_message", Arguments: `{"to":"Kim","text":"She said \"yes\" \\o/ & left"}`}},
	"numbers in a list":             {{Name: "statistics", Arguments: `{"numbers":[3,5.5,10],"figure":"mean"}`}},
	"an optional argument left out": {{Name: "search_wiki", Arguments: `{"query":"pump maintenance"}`}},
	"tool_choice required":          {{Name: "get_weather", Arguments: `{"city":"Bergen"}`}},
	"tool_choice of a tool":         {{Name: "get_forecast", Arguments: `{"city":"Bergen","days":3}`}},
	"two cities at once":            {{Name: "get_weather", Arguments: `{"city":"Lima"}`}, {Name: "get_weather", Arguments: `{"city":"Oslo"}`}},
	"two tools at once":             {{Name: "get_weather", Arguments: `{"city":"Madrid"}`}, {Name: "convert_currency", Arguments: `{"amount":100,"from":"GBP","to":"JPY"}`}},
	"three lamps at once":           {{Name: "set_light", Arguments: `{"room":"kitchen","brightness":10}`}, {Name: "set_light", Arguments: `{"room":"bedroom","brightness":10}`}, {Name: "set_light", Arguments: `{"room":"study","brightness":10}`}},
	"a result leads to a call":      {{Name: "book_flight", Arguments: `{"flight":"EW88","passenger":"Alan Turing"}`}},
}

var rightAnswers = map[string]string{
	"texts, numbers, truth": `{"city":"Vienna","population":2000000,"area_km2":414.8,"capital":true}`,
	"enums":                 `{"feeling":"mixed","sure":"high"}`,
	"lists of objects":      `{"rivers":[{"name":"Rhine","length_km":1230},{"name":"Elbe","length_km":1094},{"name":"Oder","length_km":840}]}`,
	"definitions":           `{"first":{"place":"Ghent","nights":1},"second":{"place":"Lille","nights":2}}`,
	"null or a value":       `{"title":"Beowulf","author":null,"lines":3182}`,
	"a pattern":             `{"part":"cog","number":"COG-0042"}`,
}
