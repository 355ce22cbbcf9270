package sim

import (
	"strconv"
	"strings"
	"time"
)

// now is the time as answers give it.
func (s *Server) now() int64 { return time.Now().Unix() }

// random returns n letters and digits that follow from a counter.
func (s *Server) random(n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	x := s.ids.Add(1)
	b := make([]byte, n)
	for i := range b {
		// splitmix64: spread enough that ids differ in every place.
		x += 0x9e3779b97f4a7c15
		z := (x ^ x>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		b[i] = letters[(z^z>>31)%36]
	}
	return string(b)
}

// id returns the id of an answer.
func (s *Server) id(prefix string) string {
	switch s.kit.profile {
	case LlamaCPP:
		if prefix == "cmpl-" {
			prefix = "chatcmpl-"
		}
		return prefix + s.random(32)
	case Ollama:
		return prefix + strconv.FormatUint(s.ids.Add(1)%1000, 10)
	case MLX:
		return prefix + s.uuid()
	case VLLM, SGLang, LMStudio:
		return prefix + s.random(24)
	}
	return prefix + s.opt.ID + "-" + strconv.FormatUint(s.ids.Add(1), 10)
}

func (s *Server) uuid() string {
	const hex = "0123456789abcdef"
	r := []byte(s.random(36))
	for i := range r {
		r[i] = hex[r[i]%16]
	}
	r[8], r[13], r[18], r[23] = '-', '-', '-', '-'
	return string(r)
}

// fill puts values into a template, where $X stands for vals["X"].
func fill(template string, vals *[128]string) []byte {
	out := make([]byte, 0, len(template)+256)
	for {
		i := strings.IndexByte(template, '$')
		if i < 0 {
			return append(out, template...)
		}
		out = append(append(out, template[:i]...), vals[template[i+1]&127]...)
		template = template[i+2:]
	}
}

// vals returns what is the same in the whole answer.
func (r *reply) vals() *[128]string {
	var v [128]string
	v['I'], v['T'], v['M'] = r.id, strconv.FormatInt(r.created, 10), js(r.model)
	return &v
}

func sse(data []byte) []byte {
	return append(append([]byte("data: "), data...), "\n\n"...)
}

// usage returns the usage as the profile counts it.
func (k *kit) usage(r *reply) string {
	u := object{"prompt_tokens": r.prompt, "completion_tokens": r.tokens, "total_tokens": r.prompt + r.tokens}
	switch k.profile {
	case LlamaCPP, MLX:
		u["prompt_tokens_details"] = object{"cached_tokens": 0}
	case VLLM:
		u["prompt_tokens_details"] = nil
	case SGLang:
		u["prompt_tokens_details"] = nil
	case Generic, LMStudio:
		u["completion_tokens_details"] = object{"reasoning_tokens": len(r.reasoning)}
		if k.profile == Generic {
			u["prompt_tokens_details"] = object{"cached_tokens": 0, "audio_tokens": 0}
		}
	}
	if k.has("usage-reasoning-tokens") {
		u["reasoning_tokens"] = len(r.reasoning)
	}
	return js(u)
}

// timed returns llama.cpp's timings as a further member of an object, where they
// are given.
func (k *kit) timed(r *reply) string {
	if !k.has("timings") {
		return ""
	}
	return "," + k.sp + k.member("timings", js(r.timingsObject()))
}

// timingsObject gives the speed that is pretended (without Timing.Batch), and one that
// is made up where no time is.
func (r *reply) timingsObject() object {
	if r.reads > 0 || r.writes > 0 {
		ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
		each := func(f float64, n int) float64 { return f / float64(max(n, 1)) }
		rate := func(f float64, n int) float64 { return 1000 * float64(n) / max(f, 0.001) }
		p, w := ms(r.reads), ms(r.writes)
		return object{"cache_n": r.cached.read, "prompt_n": r.prompt - r.cached.read, "prompt_ms": p, "prompt_per_token_ms": each(p, r.prompt), "prompt_per_second": rate(p, r.prompt),
			"predicted_n": r.tokens, "predicted_ms": w, "predicted_per_token_ms": each(w, r.tokens), "predicted_per_second": rate(w, r.tokens)}
	}
	return object{"cache_n": 0, "prompt_n": r.prompt, "prompt_ms": 7.5, "prompt_per_token_ms": 0.05, "prompt_per_second": 20000.5,
		"predicted_n": r.tokens, "predicted_ms": 12.5, "predicted_per_token_ms": 0.5, "predicted_per_second": 2000.5}
}

// delta joins the members of a delta.
func (k *kit) delta(members ...string) string {
	var b strings.Builder
	b.WriteByte('{')
	for _, m := range members {
		if m == "" {
			continue
		}
		if b.Len() > 1 {
			b.WriteString("," + k.sp)
		}
		b.WriteString(strings.TrimSuffix(m, ","))
	}
	b.WriteByte('}')
	return b.String()
}

func (k *kit) member(name, value string) string { return `"` + name + `":` + k.sp + value }

// argPieces cuts arguments as a stream brings them.
func argPieces(args string) []string {
	if len(args) < 4 {
		return []string{args}
	}
	var all []string
	for i := 0; i < len(args); {
		n := min(12, len(args)-i)
		for i+n < len(args) && args[i+n]&0xc0 == 0x80 {
			n++ // inside of a character
		}
		all = append(all, args[i:i+n])
		i += n
	}
	return all
}

// progress returns the comments that mlx_lm writes while it reads a prompt.
func (k *kit) progress(r *reply) []event {
	if !k.has("keepalive-comments") {
		return nil
	}
	n := strconv.Itoa(r.prompt)
	return []event{{kindComment, []byte(": keepalive " + strconv.Itoa(r.prompt/2) + "/" + n + "\n\n")}, {kindComment, []byte(": keepalive " + n + "/" + n + "\n\n")}}
}

// last puts further members, with their commas, at the end of an object.
func last(p []byte, members string) []byte {
	if members == "" {
		return p
	}
	return append(append(p[:len(p)-1], members...), '}')
}

// deltaOf returns a delta; content, thought and calls are members, or "".
func (k *kit) deltaOf(first bool, content, thought, calls string) string {
	if k.full {
		or := func(member, name string) string {
			if member == "" {
				return k.member(name, "null")
			}
			return member
		}
		role := k.roleAll
		if first && role == "" {
			role = k.roleFirst
		}
		return k.delta(or(role, "role"), or(content, "content"), or(thought, "reasoning_content"), or(calls, "tool_calls"))
	}
	role, beside := "", ""
	if first {
		role = k.roleFirst
	}
	if k.roleAll != "" {
		role = k.roleAll
	}
	if content == "" {
		beside = k.beside
	}
	return k.delta(role, beside, thought, content, calls)
}

// chatEvents returns the stream of a chat answer.
func (s *Server) chatEvents(a *ask, r *reply, choices int) []event {
	k, v := s.kit, r.vals()
	all := k.progress(r)
	more := "" // members of every chunk
	switch {
	case k.full, k.profile == Generic && a.usage:
		more = `,"usage":null`
	}
	if k.has("usage-in-every-chunk") || k.profile == VLLM && a.usage && a.sub("stream_options").truth("continuous_usage_stats") {
		more = "," + k.sp + k.member("usage", k.usage(r))
	}
	beside := "" // of finish_reason
	if k.has("matched-stop") {
		beside = "," + k.sp + k.member("matched_stop", "null")
	}
	add := func(kind eventKind, delta, finish, members string) {
		v['D'], v['F'] = delta, finish+beside
		all = append(all, event{kind, sse(last(fill(k.chunk, v), members))})
	}
	for n := range choices {
		v['N'] = strconv.Itoa(n)
		switch {
		case k.role != "" && k.full:
			add(kindRole, k.delta(k.member("role", `"assistant"`), k.member("content", `""`), k.member("reasoning_content", "null"), k.member("tool_calls", "null")), "null", more)
		case k.role != "":
			add(kindRole, k.role, "null", more)
		}
		first := true
		say := func(kind eventKind, content, thought, calls string) {
			add(kind, k.deltaOf(first, content, thought, calls), "null", more)
			first = false
		}
		for _, w := range r.reasoning {
			say(kindReasoning, "", k.thoughtMembers(w), "")
		}
		empty := ""
		if k.quirks["empty-tool-calls"] == "all" {
			empty = k.member("tool_calls", "[]")
		}
		for _, w := range r.words {
			say(kindContent, k.member("content", js(w)), "", empty)
		}
		for i, p := range k.allPieces(r.calls) {
			content := ""
			if i == 0 && k.has("calls-and-content-in-one-delta") {
				content = k.member("content", js(beforeCalls))
			}
			say(kindContent, content, "", k.member("tool_calls", "["+k.pieceJSON(p, true)+"]"))
		}
		if len(r.calls) > 0 && k.has("no-finish") {
			continue
		}
		finish, members := js(r.finish), more
		if k.has("stop-reason") {
			finish += "," + k.sp + k.member("stop_reason", "null")
		}
		if k.has("timings") && !a.usage && n == choices-1 {
			members += k.timed(r)
		}
		end := k.endDelta
		if k.full {
			end = k.deltaOf(false, "", "", "")
		}
		add(kindFinish, end, finish, members)
	}
	if a.usage && !k.has("no-usage") {
		v['U'] = k.usage(r)
		all = append(all, event{kindUsage, sse(last(fill(k.usageChunk, v), k.timed(r)))})
	}
	if k.has("done-needs-include-usage") && a.has("stream_options") && a.sub("stream_options")["include_usage"] == nil {
		return all // a KeyError ends it before its [DONE]
	}
	return append(all, event{kindDone, []byte("data: [DONE]\n\n")})
}

// beforeCalls is what is said beside a call.
const beforeCalls = "Let me look."

// chatWhole returns a whole chat answer.
func (s *Server) chatWhole(r *reply, choices int) []byte {
	k, v := s.kit, r.vals()
	var list []string
	for n := range choices {
		content := js(r.text())
		if len(r.calls) > 0 {
			content = `""`
			if k.profile == MLX || k.profile == VLLM || k.profile == Generic || k.profile == SGLang {
				content = "null"
			}
			if k.has("calls-and-content-in-one-delta") {
				content = js(beforeCalls)
			}
		}
		members := []string{k.member("role", `"assistant"`), k.member("content", content)}
		var calls []string
		for i, c := range r.calls {
			p := k.wholeCall(c)
			if k.has("whole-calls-index") {
				p.index = strconv.Itoa(i)
			}
			calls = append(calls, k.pieceJSON(p, false))
		}
		toolCalls, thought := "", ""
		if len(calls) > 0 {
			toolCalls = k.member("tool_calls", "["+strings.Join(calls, ","+k.sp)+"]")
		}
		if len(r.reasoning) > 0 {
			thought = k.thoughtMembers(r.thought())
		}
		if len(r.calls) == 0 && k.has("empty-tool-calls") {
			toolCalls = k.member("tool_calls", "[]")
		}
		switch k.profile {
		case Generic:
			members = append(members, `"refusal":null,"annotations":[]`)
		case VLLM:
			members = append(members, `"refusal":null,"annotations":null,"audio":null,"function_call":null`)
			if thought == "" {
				thought = `"reasoning":null`
			}
		case SGLang:
			if thought == "" {
				thought = `"reasoning_content":null`
			}
			if toolCalls == "" {
				toolCalls = `"tool_calls":null`
			}
		}
		finish := js(r.finish)
		if k.has("stop-reason") {
			finish += "," + k.sp + k.member("stop_reason", "null")
		}
		if k.has("matched-stop") {
			finish += "," + k.sp + k.member("matched_stop", "null")
		}
		v['N'], v['D'], v['F'] = strconv.Itoa(n), k.delta(append(members, thought, toolCalls)...), finish
		list = append(list, string(fill(k.choice, v)))
	}
	v['D'], v['U'] = strings.Join(list, ","+k.sp), k.usage(r)
	return append(last(fill(k.whole, v), k.timed(r)), k.newline...)
}

// textEvents returns the stream of a legacy completion.
func (s *Server) textEvents(a *ask, r *reply) []event {
	k, v := s.kit, r.vals()
	v['N'] = "0"
	all := k.progress(r)
	add := func(kind eventKind, text, finish, members string) {
		v['D'], v['F'] = js(text), finish
		all = append(all, event{kind, sse(last(fill(k.textChunk, v), members))})
	}
	for _, w := range r.words {
		add(kindContent, w, "null", "")
	}
	members := k.timed(r)
	if k.profile == LlamaCPP {
		members = `,"usage":` + k.usage(r) + members
	}
	add(kindFinish, "", js(r.finish), members)
	if a.usage && k.textUsage != "" {
		v['U'] = k.usage(r)
		all = append(all, event{kindUsage, sse(fill(k.textUsage, v))})
	}
	return append(all, event{kindDone, []byte("data: [DONE]\n\n")})
}

func (s *Server) textWhole(r *reply) []byte {
	k, v := s.kit, r.vals()
	v['N'], v['D'], v['F'] = "0", js(r.text()), js(r.finish)
	v['D'] = string(fill(k.textChoice, v))
	v['U'] = k.usage(r)
	return append(last(fill(k.text, v), k.timed(r)), k.newline...)
}
