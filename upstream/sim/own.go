package sim

import (
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-json"
)

// ownGet answers GET: the model lists and what each server says of itself.
func (s *Server) ownGet(path string) *plan {
	k := s.kit
	ok := func(v any) *plan { return s.json(200, []byte(js(v)+k.newline)) }
	if path == "/v1/models" {
		return s.json(200, []byte(s.list(s.models())+k.newline))
	}
	if id, one := strings.CutPrefix(path, "/v1/models/"); one {
		if p := s.oneModel(id); p != nil {
			return p
		}
		return s.nothing(&head{method: "GET", path: path})
	}
	switch k.profile {
	case Generic:
		if path == "/health" {
			if s.has("health-generates") {
				return s.generatedHealth()
			}
			return ok(object{"status": "ok"})
		}
	case MLX:
		if path == "/health" {
			return s.json(200, []byte(`{"status": "ok"}`))
		}
	case LMStudio:
		switch path {
		case "/api/v0/models":
			return ok(object{"object": "list", "data": s.each(func(id string) any {
				state := "not-loaded"
				m := object{"id": id, "object": "model", "type": modelType(id), "publisher": publisher(id), "arch": "qwen3", "compatibility_type": "gguf", "quantization": "4bit",
					"max_context_length": 4 * s.opt.Context, "capabilities": []string{"tool_use"}}
				if s.isLoaded(id) {
					state = "loaded"
					m["loaded_context_length"] = s.opt.Context
				}
				m["state"] = state
				return m
			})})
		case "/api/v1/models":
			return ok(object{"models": s.each(func(id string) any {
				instances := []any{}
				if s.isLoaded(id) {
					instances = append(instances, object{"id": id, "config": object{"context_length": s.opt.Context, "parallel": s.opt.Slots}})
				}
				return object{"type": strings.TrimSuffix(modelType(id), "s"), "publisher": publisher(id), "key": id, "display_name": id, "architecture": "qwen3", "quantization": object{"name": "4bit", "bits_per_weight": 4},
					"size_bytes": 4622338437, "params_string": "8B", "loaded_instances": instances, "max_context_length": 4 * s.opt.Context, "format": "gguf",
					"capabilities": object{"vision": s.opt.Images, "trained_for_tool_use": true}}
			})})
		}
	case Ollama:
		switch path {
		case "/":
			return s.typed(200, "text/plain; charset=utf-8", "Ollama is running")
		case "/api/version":
			return s.json(200, []byte(`{"version":"0.33.0"}`)).charset()
		case "/api/tags":
			return s.json(200, []byte(js(object{"models": s.each(func(id string) any {
				return object{"name": id, "model": id, "modified_at": "2026-11-22T05:38:38.472334496Z", "size": 36352178, "digest": digest(id), "details": s.ollamaDetails(), "capabilities": s.can()}
			})}))).charset()
		case "/api/ps":
			loaded := []any{}
			for _, id := range s.models() {
				if s.isLoaded(id) {
					loaded = append(loaded, object{"name": id, "model": id, "size": 36352178, "digest": digest(id), "details": s.ollamaDetails(), "expires_at": "2036-11-22T05:43:38Z", "size_vram": 0, "context_length": s.opt.Context})
				}
			}
			return s.json(200, []byte(js(object{"models": loaded}))).charset()
		}
	case VLLM:
		switch path {
		case "/health", "/ping":
			p := s.typed(200, "", "")
			return p
		case "/version":
			return ok(object{"version": "0.11.2"})
		case "/metrics":
			return s.typed(200, "text/plain; version=0.0.4; charset=utf-8", "# HELP vllm:num_requests_running Number of requests in model execution batches.\n# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running "+s.runningText()+"\n"+
				"# HELP vllm:num_requests_waiting Number of requests waiting to be processed.\n# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting{engine=\"0\",model_name=\""+s.models()[0]+"\"} "+s.waiting()+"\n"+s.queueTimes())
		}
	case SGLang:
		switch path {
		case "/health", "/health_generate":
			if path == "/health" && !s.has("health-generates") {
				return s.typed(200, "", "")
			}
			return s.generatedHealth()
		case "/get_model_info", "/model_info":
			return ok(object{"model_path": s.models()[0], "tokenizer_path": s.models()[0], "is_generation": true, "preferred_sampling_params": nil})
		case "/get_server_info", "/server_info":
			return ok(object{"version": "0.5.6", "model_path": s.models()[0], "max_running_requests": s.opt.Slots, "context_length": s.opt.Context})
		}
	case LlamaCPP:
		switch path {
		case "/models":
			return s.json(200, []byte(s.list(s.models())))
		case "/health", "/v1/health":
			return ok(object{"status": "ok"})
		case "/slots":
			slots := make([]any, s.opt.Slots)
			busy, _ := s.lane.counts()
			for i := range slots {
				slots[i] = object{"id": i, "n_ctx": s.opt.Context, "speculative": false, "is_processing": i < busy || s.condition() == IsFull}
			}
			return ok(slots)
		case "/props":
			return ok(object{"default_generation_settings": object{"params": object{"temperature": 0.8, "max_tokens": -1}, "n_ctx": s.opt.Context}, "total_slots": s.opt.Slots,
				"model_alias": s.models()[0], "model_ftype": "F16", "model_path": "tiny.gguf", "modalities": object{"vision": s.opt.Images, "video": false, "audio": false}, "media_marker": "<__media__>",
				"endpoint_slots": true, "endpoint_props": true, "endpoint_metrics": true, "ui": true, "ui_settings": object{}, "chat_template": "{%- if enable_thinking is defined %}{%- endif %}",
				"chat_template_caps": object{"supports_object_arguments": true, "supports_parallel_tool_calls": true, "supports_preserve_reasoning": false, "supports_string_content": true,
					"supports_system_role": true, "supports_tool_calls": true, "supports_tools": true, "supports_typed_content": false},
				"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "build_info": "b0-unknown", "is_sleeping": false, "cors_proxy_enabled": false})
		case "/metrics":
			var b strings.Builder
			for _, m := range llamaMetrics {
				b.WriteString("# HELP llamacpp:" + m[0] + " " + m[2] + "\n# TYPE llamacpp:" + m[0] + " " + m[1] + "\nllamacpp:" + m[0] + " " + s.gauge(m[0]) + "\n")
			}
			p := s.typed(200, "text/plain; version=0.0.4", b.String())
			p.headers = append(p.headers, "Process-Start-Time-Unix: 2681665545")
			return p
		}
	}
	return s.nothing(&head{method: "GET", path: path})
}

// llamaMetrics are the names, types and helps of llama.cpp's metrics.
var llamaMetrics = [...][3]string{
	{"prompt_tokens_total", "counter", "Number of prompt tokens processed."},
	{"prompt_seconds_total", "counter", "Prompt process time"},
	{"tokens_predicted_total", "counter", "Number of generation tokens processed."},
	{"tokens_predicted_seconds_total", "counter", "Predict process time"},
	{"n_decode_total", "counter", "Total number of llama_decode() calls"},
	{"n_tokens_max", "counter", "Largest observed n_tokens."},
	{"spec_decode_num_draft_tokens_total", "counter", "Total draft tokens generated"},
	{"spec_decode_num_accepted_tokens_total", "counter", "Total draft tokens accepted by the target model"},
	{"spec_decode_num_drafts_total", "counter", "Total speculative decoding verification steps"},
	{"prompt_tokens_seconds", "gauge", "Average prompt throughput in tokens/s."},
	{"predicted_tokens_seconds", "gauge", "Average generation throughput in tokens/s."},
	{"requests_processing", "gauge", "Number of requests processing."},
	{"requests_deferred", "gauge", "Number of requests deferred."},
	{"n_busy_slots_per_decode", "gauge", "Average number of busy slots per llama_decode() call"},
}

// generatedHealth is what a server says of itself by generating a token.
func (s *Server) generatedHealth() *plan {
	if !s.isLoaded(s.models()[0]) {
		return s.typed(503, "", "")
	}
	p := s.typed(200, "", "")
	p.wait = s.opt.Timing.FirstToken + s.opt.Timing.PerToken
	return p
}

// ownPost answers POST to what only one server has; nil when there is no such.
func (s *Server) ownPost(path string, body []byte) *plan {
	if p := s.loads(path, body); p != nil {
		return p
	}
	switch {
	case s.kit.profile == Ollama && path == "/api/show":
		var r raws
		_ = json.Unmarshal(body, &r) // without a name it is not found
		id := r.text("model")
		if !s.knows(id) {
			return s.json(404, []byte(js(object{"error": "model '" + id + "' not found"}))).charset()
		}
		return s.json(200, []byte(js(object{"parameters": "stop                           \"<|im_end|>\"\nnum_ctx                        " + strconv.Itoa(s.opt.Context), "details": s.ollamaDetails(),
			"model_info": object{"general.architecture": "gpt2", "gpt2.context_length": 4 * s.opt.Context, "gpt2.embedding_length": 128}, "capabilities": s.can()}))).charset()
	case s.kit.profile == LlamaCPP && path == "/tokenize":
		var r raws
		_ = json.Unmarshal(body, &r) // nothing is no tokens
		tokens := make([]int, len(words(r.text("content"))))
		for i := range tokens {
			tokens[i] = 1000 + i
		}
		return s.json(200, []byte(js(object{"tokens": tokens})))
	}
	return nil
}

func (s *Server) each(f func(id string) any) []any {
	all := []any{}
	for _, id := range s.models() {
		all = append(all, f(id))
	}
	return all
}

// list returns the body of GET /v1/models.
func (s *Server) list(ids []string) string {
	k := s.kit
	data := []any{}
	for _, id := range ids {
		data = append(data, s.listed(id))
	}
	v := object{"object": "list", "data": data}
	if k.profile == LlamaCPP {
		v["models"] = s.each(func(id string) any {
			return object{"name": id, "model": id, "modified_at": "", "size": "", "digest": "", "type": "model", "description": "", "tags": []string{""}, "capabilities": []string{"completion"}, "parameters": "",
				"details": object{"parent_model": "", "format": "gguf", "family": "", "families": []string{""}, "parameter_size": "", "quantization_level": ""}}
		})
	}
	return js(v)
}

func (s *Server) listed(id string) object {
	m := object{"id": id, "object": "model"}
	if !s.has("no-created") {
		m["created"] = int64(1795325435)
	}
	switch s.kit.profile {
	case LMStudio:
		m["owned_by"] = "organization_owner"
	case Ollama:
		m["owned_by"] = "library"
	case VLLM:
		m["owned_by"], m["root"], m["parent"], m["max_model_len"] = "vllm", id, nil, s.opt.Context
		m["permission"] = []any{object{"id": "modelperm-" + s.random(8), "object": "model_permission", "allow_sampling": true}}
	case SGLang:
		m["owned_by"], m["root"], m["parent"], m["max_model_len"] = "sglang", id, nil, s.opt.Context
	case LlamaCPP:
		m["owned_by"], m["aliases"], m["tags"] = "llamacpp", []string{id}, []string{}
		m["meta"] = object{"vocab_type": 2, "n_vocab": 50360, "n_ctx": s.opt.Context, "n_ctx_train": 4 * s.opt.Context, "n_embd": 128, "n_params": 17284992, "size": 34573824, "ftype": "F16"}
	default:
		if !s.has("no-owned-by") {
			m["owned_by"] = "simulated"
		}
	}
	return m
}

// oneModel answers GET /v1/models/{id}; nil when that path is not there.
func (s *Server) oneModel(id string) *plan {
	switch s.kit.profile {
	case LlamaCPP:
		return nil
	case MLX:
		if slices.Contains(s.models(), id) {
			return s.json(200, []byte(s.list([]string{id})))
		}
		return s.json(200, []byte(`{"object": "list", "data": []}`))
	}
	if !s.knows(id) {
		if s.kit.profile == Generic {
			return s.json(404, []byte(js(object{"error": object{"message": "The model '" + id + "' does not exist", "type": "invalid_request_error", "param": "model", "code": "model_not_found"}})))
		}
		return s.failure(404, "", "model '"+id+"' not found")
	}
	return s.json(200, []byte(js(s.listed(id))+s.kit.newline))
}

func (s *Server) can() []string {
	can := []string{"completion", "tools", "thinking"}
	if s.opt.Images {
		can = append(can, "vision")
	}
	return can
}

func (s *Server) ollamaDetails() object {
	return object{"parent_model": "", "format": "gguf", "family": "gpt2", "families": []string{"gpt2"}, "parameter_size": "17.29M", "quantization_level": "F16",
		"context_length": 4 * s.opt.Context, "embedding_length": 128}
}

func modelType(id string) string {
	if strings.Contains(id, "embed") {
		return "embeddings"
	}
	return "llm"
}

func publisher(id string) string {
	p, _, _ := strings.Cut(id, "/")
	return p
}

// digest returns 64 hexadecimal digits that follow from a name.
func digest(id string) string {
	const hex = "0123456789abcdef"
	b := make([]byte, 64)
	for i, f := range vector(id, 64) {
		b[i] = hex[int(f*1000)&15]
	}
	return string(b)
}
