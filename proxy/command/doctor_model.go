package command

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-json"

	"nearside/catalog"
	"nearside/shaping/wire"
	"nearside/upstream"
)

const (
	rungTime   = 60 * time.Second // for one completion
	rungTokens = 512              // a model that thinks first needs some
)

// model climbs the ladder of one model. It stops at the first rung that breaks.
func (d *doctor) model(ctx context.Context, m *catalog.Model, e *upstream.Examination) {
	say := func(check, level, text, fix string) string {
		return d.say(finding{Area: "model", Of: m.Ref(), Check: check, Level: level, Text: text, Fix: fix})
	}
	if m.Unavailable != "" {
		say("usable", levelFail, m.Unavailable, "")
		return
	}
	found := e.Found.Model(m.ID)
	if !d.known(say, m, e, found) {
		return
	}
	d.window(say, m, e)
	d.warnings(say, m)
	named := len(d.cmd.Refs) > 0
	switch {
	case !m.Near() && !d.cmd.Far:
		say("completion", levelSkip, fmt.Sprintf("it is far: asking it takes about %d tokens (--far)", 60), "")
		return
	case found != nil && !found.Loaded && !named && slowToLoad(e.Found.Kind):
		say("completion", levelSkip, "it is not loaded, and asking it would load it; to have that done:", "nearside doctor "+shell(m.Ref()))
		return
	}
	r := &rungs{d: d, m: m, ctx: ctx, say: say}
	if !r.completion() || !r.stream() {
		return
	}
	r.content()
	if m.Near() { // hosted models do these, and they cost tokens
		r.tools()
	}
}

// slowToLoad says whether a server tells of its models which are loaded.
func slowToLoad(k catalog.Kind) bool {
	return k == catalog.KindLMStudio || k == catalog.KindOllama || k == catalog.KindLlamaCPP
}

// known says whether the server has the model.
func (d *doctor) known(say func(check, level, text, fix string) string, m *catalog.Model, e *upstream.Examination, found *upstream.FoundModel) bool {
	switch {
	case found != nil:
		text := "the server has it"
		if found.Loaded {
			text += ", loaded"
		}
		say("exists", levelPass, text, "")
		return true
	case len(e.Found.Models) == 0 || e.Found.Kind == catalog.KindMLX: // which lists what is in its cache, and loads what it is asked for
		say("exists", levelNote, "the server's list does not tell", "")
		return true
	}
	var ids []string
	for i, f := range e.Found.Models {
		if i == 5 {
			ids = append(ids, "…")
			break
		}
		ids = append(ids, f.ID)
	}
	fix := ""
	if len(e.Found.Models) > 0 && m.Provider.Source == catalog.FromConfig {
		for i, o := range m.Provider.Models {
			if o.ID == m.ID {
				fix = setProvider(m.Provider.ID, fmt.Sprintf("models[%d].id", i), ids[0])
			}
		}
	}
	say("exists", levelFail, fmt.Sprintf("the server has no model %q; it has %s", m.ID, strings.Join(ids, ", ")), fix)
	return false
}

// agentWindow is the least that an agent's prompt and tools need.
const agentWindow = 16384

// window holds the configured window against the server's, which truncates or
// refuses what is beyond its own.
func (d *doctor) window(say func(check, level, text, fix string) string, m *catalog.Model, e *upstream.Examination) {
	w := m.Window()
	set := func(value string) string {
		i := slices.IndexFunc(m.Provider.Models, func(o *catalog.Model) bool { return o.ID == m.ID })
		if m.Provider.Source != catalog.FromConfig || i < 0 {
			return ""
		}
		return setProvider(m.Provider.ID, fmt.Sprintf("models[%d].contextWindow", i), value)
	}
	fix := ""
	if w.Detected > 0 && w.Declared > w.Detected {
		fix = set(decimal(w.Detected))
	}
	warn, refuse := w.Verdict()
	switch {
	case refuse != "":
		say("context window", levelFail, refuse, fix)
	case warn != "":
		text := warn
		if e.Found.Kind == catalog.KindOllama {
			text += "; Ollama cuts what is beyond it off without a word"
		}
		say("context window", levelWarn, text, fix)
	case w.Effective == 0:
		say("context window", levelWarn, "neither the configuration nor the server says how long it is: nothing is held back, and what is too long is cut or refused there", set("<what it was started with>"))
	case w.Effective < agentWindow && m.Near():
		say("context window", levelWarn, fmt.Sprintf("%s tokens (%s): an agent's prompt and tools alone can fill it, and what is cut off first are its instructions; load the model with a longer one", tokens(w.Effective), w.Source), fix)
	default:
		say("context window", levelPass, fmt.Sprintf("%s tokens (%s)", tokens(w.Effective), w.Source), "")
	}
}

var (
	fewBits = regexp.MustCompile(`(?i)(^|[^a-z0-9])(i?q[1-4](_[a-z0-9_]+)?|[1-4]-?bit|int4|w4a16|awq|gptq|nf4|mxfp4|nvfp4)([^a-z0-9]|$)`)
	few     = regexp.MustCompile(`(?i)(^|[^a-z0-9.])((?:0\.)?[0-9](?:\.[0-9])?)b([^a-z0-9]|$)`)
)

// warnings are what its name tells of a model.
func (d *doctor) warnings(say func(check, level, text, fix string) string, m *catalog.Model) {
	if !m.Near() {
		return
	}
	if q := fewBits.FindStringSubmatch(m.ID); q != nil {
		say("quantisation", levelNote, q[2]+": of few bits. Such models follow instructions that stand in what they read (prompt injection) more easily and spell tool calls worse: run the largest variant that fits, and give this one no tools that can do harm", "")
	}
	if s := few.FindStringSubmatch(m.ID); s != nil {
		say("size", levelNote, s[2]+"B parameters: a small model. It takes in text that it reads as if its user had said it, and loses the thread of long tool lists", "")
	}
}

// rungs asks one model, ever more.
type rungs struct {
	d   *doctor
	m   *catalog.Model
	ctx context.Context
	say func(check, level, text, fix string) string
}

// ask makes one request.
func (r *rungs) ask(p Probe) (*answered, error) {
	ctx, cancel := context.WithTimeout(r.ctx, rungTime)
	defer cancel()
	p.Ref = r.m.Ref()
	if p.MaxTokens == 0 {
		p.MaxTokens = rungTokens
	}
	a := &answered{asked: time.Now()}
	err := p.ask(ctx, r.d.env, r.d.snap, r.m, a)
	a.total = time.Since(a.asked)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("no answer within %v", rungTime)
	}
	r.d.mu.Lock()
	r.d.in, r.d.out = r.d.in+a.usage.Input, r.d.out+a.usage.Output
	r.d.mu.Unlock()
	return a, err
}

// taught is the line that sets what a refusal pointed to; empty for none.
func (r *rungs) taught(a *answered) string {
	flag, value, ok := strings.Cut(a.taught, " ")
	if !ok {
		return ""
	}
	return setModel(r.m, flag, value)
}

// completion asks for a word.
func (r *rungs) completion() bool {
	limit := rungTokens
	if !r.m.Near() {
		limit = 16
	}
	a, err := r.ask(Probe{Prompt: "Reply with exactly: pong", MaxTokens: limit})
	switch {
	case err != nil:
		fix := r.taught(a)
		r.say("completion", levelFail, err.Error(), fix)
		r.say("stream, tools", levelSkip, "a completion comes first", "")
		return false
	case strings.TrimSpace(a.text) == "" && a.thought:
		r.say("completion", levelWarn, fmt.Sprintf("it only thought, for %d tokens: requests need a larger max_tokens, or less thinking", limit), "")
	case strings.TrimSpace(a.text) == "":
		r.say("completion", levelFail, "it answers without text", "")
		return false
	default:
		r.say("completion", levelPass, fmt.Sprintf("it answers after %s", took(a.total)), "")
	}
	return true
}

// stream asks for the same as a stream.
func (r *rungs) stream() bool {
	if !r.m.Near() {
		return true
	}
	a, err := r.ask(Probe{Prompt: "Reply with exactly: pong", Stream: true})
	if err != nil {
		r.say("stream", levelFail, err.Error()+": whole answers come and streams do not; see the server's log and what stands between (a proxy that buffers)", r.taught(a))
		return false
	}
	r.say("stream", levelPass, fmt.Sprintf("first content after %s", took(a.first)), "")
	return true
}

// flag is what the configuration says of a flag; nil for nothing.
func (r *rungs) flag(of func(*catalog.Compat) *bool) *bool {
	for _, c := range []*catalog.Compat{&r.m.OwnCompat, &r.m.Compat, &r.m.Provider.Compat} {
		if said := of(c); said != nil {
			return said
		}
	}
	return nil
}

// content asks with contents as lists of parts, as most clients send them.
func (r *rungs) content() {
	if r.m.Dialect() != wire.Chat || !r.m.Near() {
		return
	}
	if said := r.flag(func(c *catalog.Compat) *bool { return c.RequiresStringContent }); said != nil && *said {
		r.say("string content", levelPass, "contents are sent as texts (compat.requiresStringContent)", "")
		return
	}
	a, err := r.ask(Probe{Prompt: "Reply with exactly: pong", parts: true})
	if err != nil {
		fix := r.taught(a)
		if fix == "" {
			fix = setModel(r.m, "requiresStringContent", "true")
		}
		r.say("string content", levelWarn, err.Error()+": it takes contents as texts only, not as lists of parts. The proxy learns that from each refusal; the setting saves the detour", fix)
		return
	}
	r.say("string content", levelPass, "it takes contents as lists of parts", "")
}

// tools asks for one call, and then for one with an agent's list of tools.
func (r *rungs) tools() {
	off := setModel(r.m, "supportsTools", "false")
	if said := r.flag(func(c *catalog.Compat) *bool { return c.SupportsTools }); said != nil && !*said {
		r.say("tools", levelNote, "they are left out of its requests (compat.supportsTools: false)", "")
		return
	}
	a, err := r.ask(Probe{Prompt: "What is the weather in Paris? Call the tool get_weather.", more: toolsOf(toolSmall[:1])})
	name, sound := called(a.whole)
	switch {
	case err != nil:
		fix := r.taught(a)
		if fix == "" {
			fix = off
		}
		r.say("tools", levelFail, err.Error()+": it answers without tools and fails with one", fix)
	case name == "get_weather" && sound:
		r.say("tools", levelPass, "it calls a tool", "")
		r.lean()
		return
	case name != "":
		r.say("tools", levelFail, fmt.Sprintf("its call is not sound: %.120s", a.whole), off)
	case strings.Contains(a.text, "get_weather") && strings.ContainsAny(a.text, "{<["):
		r.say("tools", levelWarn, "it writes its call as text: its server has no parser or chat template for tool calls (llama.cpp --jinja, vLLM --enable-auto-tool-choice --tool-call-parser). The proxy turns what it can into calls. Where the parser works only when a call is forced, and every turn is to call a tool:",
			"nearside config set agents.defaults.models "+shell(fmt.Sprintf(`{%q:{"params":{"extra_body":{"tool_choice":"required"}}}}`, r.m.Ref()))+" --strict-json --merge")
	default:
		r.say("tools", levelWarn, "it answers in words and calls nothing: a model, or a chat template, that does not know tools. Agents are better off without them:", off)
	}
	r.say("lean mode", levelSkip, "one tool comes first", "")
}

// lean asks for a call with the tools that an agent brings along. It also tells
// whether the prompt arrived whole.
func (r *rungs) lean() {
	more := toolsOf(append(toolSmall[:1:1], toolsHeavy()...))
	a, err := r.ask(Probe{Prompt: "What is the weather in Paris? Call the tool get_weather.", more: more})
	if err == nil {
		if sent := catalog.EstimateTokens(int64(len(more(wire.Chat))), 0); a.hasUsage && a.usage.Input > 0 && a.usage.Input < int64(sent/4) {
			r.say("whole prompts", levelWarn, fmt.Sprintf("of about %d tokens the server counted %d: it cuts prompts off; load the model with a longer context", sent, a.usage.Input), "")
		}
	}
	if name, sound := called(a.whole); err == nil && name == "get_weather" && sound {
		r.say("lean mode", levelPass, fmt.Sprintf("it finds the right one of %d tools", 1+len(toolsHeavy())), "")
		return
	}
	text := "with an agent's list of tools it does not make the call that it makes with one"
	if err != nil {
		text += ": " + err.Error()
	}
	if r.d.file.Proxy.Lean {
		r.say("lean mode", levelWarn, text+", though lean mode is on. The last resort is no tools:", setModel(r.m, "supportsTools", "false"))
		return
	}
	r.say("lean mode", levelWarn, text+". Lean mode leaves the heaviest out; the last resort is compat.supportsTools: false. Past that it is the server's: window, memory, cache", "nearside config set agents.defaults.experimental.localModelLean true")
}

// tool is a tool of a request.
type tool struct{ name, about, parameters string }

var toolSmall = []tool{{"get_weather", "The weather in a city.", `{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}`}}

// toolsHeavy are like those that agents bring along: OpenClaw's three heaviest and
// a few usual ones.
func toolsHeavy() (all []tool) {
	long := strings.Repeat("Use it when the user asks for it, and say what you did. ", 6)
	for _, t := range []struct{ name, args string }{{"browser", "action,url,selector,text,tab,timeout"}, {"cron", "action,schedule,job,message,zone,id"}, {"message", "action,channel,to,text,media,reply"},
		{"read", "path,offset,limit"}, {"write", "path,content"}, {"edit", "path,old,new"}, {"exec", "command,cwd,timeout"}, {"web_search", "query,count"}, {"web_fetch", "url,format"}, {"memory", "action,key,value"}} {
		var props []string
		for _, name := range strings.Split(t.args, ",") {
			props = append(props, fmt.Sprintf(`%q:{"type":"string","description":%q}`, name, "The "+name+" of the "+t.name+" call."))
		}
		all = append(all, tool{t.name, "The " + t.name + " tool. " + long, `{"type":"object","properties":{` + strings.Join(props, ",") + `}}`})
	}
	return all
}

// toolsOf writes the member of a request that has the tools.
func toolsOf(all []tool) func(wire.Dialect) string {
	return func(d wire.Dialect) string {
		var texts []string
		for _, t := range all {
			switch d {
			case wire.Responses:
				texts = append(texts, fmt.Sprintf(`{"type":"function","name":%q,"description":%q,"parameters":%s}`, t.name, t.about, t.parameters))
			case wire.Messages:
				texts = append(texts, fmt.Sprintf(`{"name":%q,"description":%q,"input_schema":%s}`, t.name, t.about, t.parameters))
			default:
				texts = append(texts, fmt.Sprintf(`{"type":"function","function":{"name":%q,"description":%q,"parameters":%s}}`, t.name, t.about, t.parameters))
			}
		}
		return `,"tools":[` + strings.Join(texts, ",") + `]`
	}
}

// called returns the first tool that an answer calls, and whether its arguments are
// an object.
func called(whole []byte) (name string, sound bool) {
	var a struct {
		Choices []struct {
			Message struct {
				Calls []struct {
					Function struct {
						Name      string          `json:"name"`
						Arguments json.RawMessage `json:"arguments"`
					} `json:"function"`
				} `json:"tool_calls"`
			} `json:"message"`
		} `json:"choices"`
		Output []struct {
			Type      string          `json:"type"`
			Name      string          `json:"name"`
			Arguments json.RawMessage `json:"arguments"`
		} `json:"output"`
		Content json.RawMessage `json:"content"`
	}
	if json.Unmarshal(whole, &a) != nil {
		return "", false
	}
	var args json.RawMessage
	for _, c := range a.Choices {
		for _, call := range c.Message.Calls {
			if name == "" {
				name, args = call.Function.Name, call.Function.Arguments
			}
		}
	}
	for _, o := range a.Output {
		if o.Type == "function_call" && name == "" {
			name, args = o.Name, o.Arguments
		}
	}
	var blocks []struct {
		Type  string          `json:"type"`
		Name  string          `json:"name"`
		Input json.RawMessage `json:"input"`
	}
	if json.Unmarshal(a.Content, &blocks) == nil {
		for _, b := range blocks {
			if b.Type == "tool_use" && name == "" {
				name, args = b.Name, b.Input
			}
		}
	}
	var text string
	if json.Unmarshal(args, &text) == nil { // the arguments are a text with JSON in it
		args = json.RawMessage(text)
	}
	var object map[string]json.RawMessage
	return name, json.Unmarshal(args, &object) == nil
}
