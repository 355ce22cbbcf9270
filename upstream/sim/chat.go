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

func (s *Server) callID() string {
	switch s.kit.profile {
	case LlamaCPP:
		return s.random(32)
	case MLX:
		return s.uuid()
	case Ollama:
		return "call_" + s.random(8)
	case VLLM:
		return "chatcmpl-tool-" + s.random(16)
	}
	return "call_" + s.random(12)
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
		u["prompt_tokens_details"], u["reasoning_tokens"] = nil, len(r.reasoning)
	case Generic, LMStudio:
		u["completion_tokens_details"] = object{"reasoning_tokens": len(r.reasoning)}
		if k.profile == Generic {
			u["prompt_tokens_details"] = object{"cached_tokens": 0, "audio_tokens": 0}
		}
	}
	return js(u)
}

// timings are llama.cpp's, as the last member of an object.
func (r *reply) timings() string { return `,"timings":` + js(r.timingsObject()) }

// timingsObject gives a speed that is made up.
func (r *reply) timingsObject() object {
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

// callJSON returns a tool call; args may be a part of the arguments, and first
// says whether it is the one with the names.
func (k *kit) callJSON(c call, index int, args string, first, streamed bool) string {
	id, fn, at := k.member("id", js(c.id)), k.member("function", k.delta(k.member("name", js(c.name)), k.member("arguments", js(args)))), k.member("index", strconv.Itoa(index))
	typ := k.member("type", `"function"`)
	if !first {
		return k.delta(at, k.member("function", k.delta(k.member("arguments", js(args)))))
	}
	switch {
	case k.profile == Ollama:
		return k.delta(id, at, typ, fn)
	case k.profile == MLX && streamed:
		return k.delta(fn, typ, id, at)
	case k.profile == MLX || k.profile == LlamaCPP && !streamed:
		return k.delta(fn, typ, id)
	case streamed:
		return k.delta(at, id, typ, fn)
	}
	return k.delta(id, typ, fn)
}

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
	if k.profile != MLX {
		return nil
	}
	n := strconv.Itoa(r.prompt)
	return []event{{kindComment, []byte(": keepalive " + strconv.Itoa(r.prompt/2) + "/" + n + "\n\n")}, {kindComment, []byte(": keepalive " + n + "/" + n + "\n\n")}}
}

// chatEvents returns the stream of a chat answer.
func (s *Server) chatEvents(a *ask, r *reply, choices int) []event {
	k, v := s.kit, r.vals()
	all := k.progress(r)
	add := func(kind eventKind, delta, finish string) {
		v['D'], v['F'] = delta, finish
		all = append(all, event{kind, sse(fill(k.chunk, v))})
	}
	if k.profile == Generic && a.usage {
		v['E'] = `,"usage":null`
	}
	for n := range choices {
		v['N'] = strconv.Itoa(n)
		if k.role != "" {
			add(kindRole, k.role, "null")
		}
		first := k.roleFirst
		take := func() string {
			f := first
			first = ""
			return f
		}
		for _, w := range r.reasoning {
			extra := ""
			if k.profile == SGLang {
				add(kindReasoning, k.delta(k.roleAll, `"content":null`, k.member(k.reasoning, js(w)), `"tool_calls":null`), "null")
				continue
			}
			add(kindReasoning, k.delta(take(), k.roleAll, k.beside, k.member(k.reasoning, js(w)), extra), "null")
		}
		for _, w := range r.words {
			if k.profile == SGLang {
				add(kindContent, k.delta(k.roleAll, k.member("content", js(w)), `"reasoning_content":null,"tool_calls":null`), "null")
				continue
			}
			add(kindContent, k.delta(take(), k.roleAll, k.member("content", js(w))), "null")
		}
		for i, c := range r.calls {
			if k.callsWhole {
				add(kindContent, k.delta(take(), k.roleAll, k.beside, k.member("tool_calls", "["+k.callJSON(c, i, c.args, true, true)+"]")), "null")
				continue
			}
			start := ""
			pieces := argPieces(c.args)
			if k.profile == LlamaCPP {
				start, pieces = pieces[0], pieces[1:]
			}
			add(kindContent, k.delta(take(), k.roleAll, k.member("tool_calls", "["+k.callJSON(c, i, start, true, true)+"]")), "null")
			for _, p := range pieces {
				add(kindContent, k.delta(k.roleAll, k.member("tool_calls", "["+k.callJSON(c, i, p, false, true)+"]")), "null")
			}
		}
		was := v['E']
		switch {
		case k.profile == VLLM:
			v['E'] = `,"stop_reason":null`
		case k.profile == LlamaCPP && !a.usage && n == choices-1:
			v['E'] = r.timings()
		}
		add(kindFinish, k.endDelta, js(r.finish))
		v['E'] = was
	}
	if a.usage {
		v['U'] = k.usage(r)
		if k.profile == LlamaCPP {
			v['E'] = r.timings()
		}
		all = append(all, event{kindUsage, sse(fill(k.usageChunk, v))})
	}
	if k.profile == MLX && a.has("stream_options") && a.sub("stream_options")["include_usage"] == nil {
		return all // a KeyError ends it before its [DONE]
	}
	return append(all, event{kindDone, []byte("data: [DONE]\n\n")})
}

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
		}
		members := []string{k.member("role", `"assistant"`), k.member("content", content)}
		var calls []string
		for i, c := range r.calls {
			calls = append(calls, k.callJSON(c, i, c.args, true, false))
		}
		toolCalls, thought := "", ""
		if len(calls) > 0 {
			toolCalls = k.member("tool_calls", "["+strings.Join(calls, ","+k.sp)+"]")
		}
		if len(r.reasoning) > 0 {
			thought = k.member(k.reasoning, js(r.thought()))
		}
		switch k.profile {
		case Generic:
			members = append(members, `"refusal":null,"annotations":[]`)
		case VLLM:
			members = append(members, `"refusal":null,"annotations":null,"audio":null,"function_call":null`)
			if thought == "" {
				thought = `"reasoning":null`
			}
			if toolCalls == "" {
				toolCalls = `"tool_calls":[]`
			}
		case SGLang:
			if thought == "" {
				thought = `"reasoning_content":null`
			}
			if toolCalls == "" {
				toolCalls = `"tool_calls":null`
			}
		case LMStudio:
			if toolCalls == "" {
				toolCalls = `"tool_calls":[]`
			}
		}
		v['N'], v['D'], v['F'] = strconv.Itoa(n), k.delta(append(members, thought, toolCalls)...), js(r.finish)
		list = append(list, string(fill(k.choice, v)))
	}
	v['D'], v['U'] = strings.Join(list, ","+k.sp), k.usage(r)
	if k.profile == LlamaCPP {
		v['E'] = r.timings()
	}
	return append(fill(k.whole, v), k.newline...)
}

// textEvents returns the stream of a legacy completion.
func (s *Server) textEvents(a *ask, r *reply) []event {
	k, v := s.kit, r.vals()
	v['N'] = "0"
	all := k.progress(r)
	add := func(kind eventKind, text, finish string) {
		v['D'], v['F'] = js(text), finish
		all = append(all, event{kind, sse(fill(k.textChunk, v))})
	}
	for _, w := range r.words {
		add(kindContent, w, "null")
	}
	if k.profile == LlamaCPP {
		v['E'] = `,"usage":` + k.usage(r) + r.timings()
	}
	add(kindFinish, "", js(r.finish))
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
	if k.profile == LlamaCPP {
		v['E'] = r.timings()
	}
	return append(fill(k.text, v), k.newline...)
}
