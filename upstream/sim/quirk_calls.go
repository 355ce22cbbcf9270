package sim

import (
	"strconv"
	"strings"

	"github.com/goccy/go-json"
)

// quirksOfCalls are those of the calls that answers make.
func quirksOfCalls() []Quirk {
	return []Quirk{
		{Name: "tool-text", Summary: "Writes calls into the content, as servers do without a parser for their model.", Source: ofHosted,
			Takes: "bracketed ([name] … [END_TOOL_REQUEST], LM Studio's), hermes (<tool_call>), xml (<function=name>), json or react", Value: "bracketed", choices: []string{"bracketed", "hermes", "xml", "json", "react"}},
		{Name: "call-ids", Summary: "Has ids of its own for calls, which do not begin with call_.", Source: recorded, Profiles: in(LlamaCPP, MLX, VLLM),
			Takes: "random (32 letters and digits), uuid, chatcmpl-tool, or kimi (functions.name:0)", Value: "kimi", choices: []string{"random", "uuid", "chatcmpl-tool", "kimi"},
			own: map[Profile]string{LlamaCPP: "random", MLX: "uuid", VLLM: "chatcmpl-tool"}},
		{Name: "tool-calls-whole", Summary: "Streams each call in one delta.", Source: recorded, Profiles: in(Ollama, MLX), apply: func(k *kit, _ string) { k.callsWhole = true }},
		{Name: "whole-calls-index", Summary: "Has the index in the calls of whole answers too.", Source: recorded, Profiles: in(Ollama)},
		{Name: "tool-calls-no-index", Summary: "Leaves the index of calls out of deltas.", Source: ofHosted},
		{Name: "tool-calls-index-zero", Summary: "Gives every call the index 0; there are two at least.", Source: "older Ollama"},
		{Name: "tool-calls-interleaved", Summary: "Streams the pieces of calls in turn; there are two at least.", Source: ofHosted},
		{Name: "tool-calls-no-id", Summary: "Gives calls no id.", Source: ofHosted},
		{Name: "tool-calls-same-id", Summary: "Gives all calls of an answer one id; there are two at least.", Source: ofHosted},
		{Name: "tool-calls-id-repeated", Summary: "Repeats the id in every delta of a call.", Source: ofHosted},
		{Name: "tool-calls-long-id", Summary: "Gives calls ids of more than 64 characters.", Source: ofHosted},
		{Name: "tool-calls-name-prefix", Summary: "Writes functions. before names.", Source: ofHosted},
		{Name: "tool-calls-split-name", Summary: "Streams a name in two deltas.", Source: ofHosted},
		{Name: "tool-calls-late-name", Summary: "Streams the name after the first piece of the arguments.", Source: ofHosted},
		{Name: "tool-calls-name-repeated", Summary: "Repeats the name in every delta of a call.", Source: ofHosted},
		{Name: "arguments-object", Summary: "Writes arguments as an object in place of a string.", Source: ofHosted},
		{Name: "arguments-null", Summary: "Writes arguments as null.", Source: ofHosted},
		{Name: "arguments-junk", Summary: "Writes other characters before and after the arguments.", Source: ofHosted},
		{Name: "html-entities", Summary: "Writes HTML entities into the strings of arguments.", Source: "xAI's API"},
		{Name: "finish-stop-with-calls", Summary: `Ends calls with finish_reason "stop".`, Source: ofHosted},
		{Name: "finish-stop-when-forced", Summary: `Ends calls that tool_choice demanded with finish_reason "stop".`, Source: ofVLLM, Profiles: in(VLLM)},
		{Name: "finish-calls-without-calls", Summary: `Ends text with finish_reason "tool_calls", though nothing is called.`, Source: ofHosted},
		{Name: "empty-tool-calls", Summary: "Has an empty list of calls beside text.", Source: ofVLLM, Profiles: in(VLLM, LMStudio),
			Takes: "whole (in whole answers alone) or all", Value: "all", choices: []string{"whole", "all"}, own: map[Profile]string{VLLM: "whole", LMStudio: "whole"}},
		{Name: "calls-and-content-in-one-delta", Summary: "Says something in the very delta that brings a call.", Source: ofHosted},
	}
}

// callsAtLeast is how many calls there are to be for a quirk to show.
func (k *kit) callsAtLeast() int {
	if k.has("tool-calls-index-zero") || k.has("tool-calls-interleaved") || k.has("tool-calls-same-id") {
		return 2
	}
	return 1
}

// callID returns the id of the nth call of an answer.
func (s *Server) callID(name string, nth int) string {
	switch s.kit.quirks["call-ids"] {
	case "random":
		return s.random(32)
	case "uuid":
		return s.uuid()
	case "chatcmpl-tool":
		return "chatcmpl-tool-" + s.random(16)
	case "kimi":
		return "functions." + name + ":" + strconv.Itoa(nth)
	}
	if s.kit.profile == Ollama {
		return "call_" + s.random(8)
	}
	return "call_" + s.random(12)
}

// spellCalls does to the calls of a reply what the server's quirks do, whatever
// the form of the answer.
func (k *kit) spellCalls(calls []call) {
	for i := range calls {
		c := &calls[i]
		switch {
		case k.has("tool-calls-no-id"):
			c.id = ""
		case k.has("tool-calls-same-id"):
			c.id = calls[0].id
		case k.has("tool-calls-long-id"):
			c.id += strings.Repeat("x", 70)
		}
		if k.has("tool-calls-name-prefix") {
			c.name = "functions." + c.name
		}
		switch {
		case k.has("arguments-junk"):
			c.args = "function " + c.args + "``"
		case k.has("html-entities"):
			c.args = strings.Replace(c.args, `"Oslo"`, `"Oslo &amp; &quot;Bergen&quot;"`, 1)
		}
	}
}

// piece is a part of a call in a delta or message: the JSON of its members, ""
// for those that are not there.
type piece struct{ index, id, typ, name, args string }

// pieces returns what a stream brings of a call, one delta each.
func (k *kit) pieces(c call, nth int) []piece {
	index := strconv.Itoa(nth)
	switch {
	case k.has("tool-calls-no-index"):
		index = ""
	case k.has("tool-calls-index-zero"):
		index = "0"
	}
	first := k.wholeCall(c)
	first.index = index
	if k.callsWhole || k.has("arguments-object") || k.has("arguments-null") {
		return []piece{first}
	}
	parts := argPieces(c.args)
	first.args = `""`
	if k.profile == LlamaCPP {
		first.args, parts = js(parts[0]), parts[1:]
	}
	all := []piece{first}
	for _, p := range parts {
		all = append(all, piece{index: index, args: js(p)})
	}
	if k.has("tool-calls-split-name") {
		half := len(c.name) / 2
		all[0].name = js(c.name[:half])
		all = append(all[:1], append([]piece{{index: index, name: js(c.name[half:])}}, all[1:]...)...)
	}
	if k.has("tool-calls-late-name") && len(all) > 1 {
		all[0].name, all[1].name = "", first.name
	}
	for i := range all {
		if k.has("tool-calls-id-repeated") {
			all[i].id = first.id
		}
		if k.has("tool-calls-name-repeated") {
			all[i].name = first.name
		}
	}
	return all
}

// wholeCall returns a whole call.
func (k *kit) wholeCall(c call) piece {
	p := piece{id: js(c.id), typ: `"function"`, name: js(c.name), args: js(c.args)}
	if c.id == "" {
		p.id = ""
	}
	switch {
	case k.has("arguments-object"):
		p.args = c.args
	case k.has("arguments-null"):
		p.args = "null"
	}
	return p
}

// allPieces returns the pieces of all calls in the order of a stream.
func (k *kit) allPieces(calls []call) []piece {
	var turns [][]piece
	longest := 0
	for i, c := range calls {
		turns = append(turns, k.pieces(c, i))
		longest = max(longest, len(turns[i]))
	}
	var all []piece
	if !k.has("tool-calls-interleaved") {
		for _, t := range turns {
			all = append(all, t...)
		}
		return all
	}
	for n := range longest {
		for _, t := range turns {
			if n < len(t) {
				all = append(all, t[n])
			}
		}
	}
	return all
}

// pieceJSON writes a piece with its members in the profile's order.
func (k *kit) pieceJSON(p piece, streamed bool) string {
	member := func(name, value string) string {
		if value == "" {
			return ""
		}
		return k.member(name, value)
	}
	fn := ""
	if p.name != "" || p.args != "" {
		fn = k.member("function", k.delta(member("name", p.name), member("arguments", p.args)))
	}
	id, typ, index := member("id", p.id), member("type", p.typ), member("index", p.index)
	switch {
	case k.profile == Ollama:
		return k.delta(id, index, typ, fn)
	case k.profile == MLX, k.profile == LlamaCPP && !streamed:
		return k.delta(fn, typ, id, index)
	case streamed:
		return k.delta(index, id, typ, fn)
	}
	return k.delta(id, index, typ, fn)
}

// textOf writes calls as text in one of the manners of tool-text.
func (k *kit) textOf(calls []call, manner string) string {
	var all []string
	for _, c := range calls {
		switch manner {
		case "hermes":
			all = append(all, "<tool_call>\n{\"name\": "+js(c.name)+", \"arguments\": "+c.args+"}\n</tool_call>")
		case "xml":
			var args raws
			_ = json.Unmarshal([]byte(c.args), &args) // they are ours
			text := "<tool_call>\n<function=" + c.name + ">\n"
			for _, name := range args.names() {
				text += "<parameter=" + name + ">\n" + strings.Trim(string(args[name]), `"`) + "\n</parameter>\n"
			}
			all = append(all, text+"</function>\n</tool_call>")
		case "json":
			all = append(all, "```json\n{\"name\": "+js(c.name)+", \"arguments\": "+c.args+"}\n```")
		case "react":
			all = append(all, "Thought: a tool can tell.\nAction: "+c.name+"\nAction Input: "+c.args)
		default:
			all = append(all, "["+c.name+"]\n"+c.args+"\n[END_TOOL_REQUEST]")
		}
	}
	return strings.Join(all, "\n")
}
