package sim

import (
	"fmt"
	"strings"
	"time"
)

// Profile names the server that is imitated.
type Profile string

// The profiles. LlamaCPP, Ollama and MLX follow recordings of the real servers;
// LMStudio, VLLM, SGLang and Anthropic their sources and documentation.
const (
	Generic   Profile = "generic"
	LMStudio  Profile = "lmstudio"
	Ollama    Profile = "ollama"
	MLX       Profile = "mlx"
	VLLM      Profile = "vllm"
	SGLang    Profile = "sglang"
	LlamaCPP  Profile = "llamacpp"
	Anthropic Profile = "anthropic" // the hosted API: Messages and nothing of OpenAI's
)

// Profiles returns all profiles.
func Profiles() []Profile {
	return []Profile{Generic, LMStudio, Ollama, MLX, VLLM, SGLang, LlamaCPP, Anthropic}
}

// ParseProfile returns the profile of a name.
func ParseProfile(name string) (Profile, error) {
	names := make([]string, 0, 8)
	for _, p := range Profiles() {
		if string(p) == name {
			return p, nil
		}
		names = append(names, string(p))
	}
	return "", fmt.Errorf("no profile called %q (there are %s)", name, strings.Join(names, ", "))
}

// Summary returns one line about the profile.
func (p Profile) Summary() string {
	switch p {
	case LMStudio:
		return "LM Studio: 200 with an error on unknown paths, errors as strings, string tool_choice only, no created in the list"
	case Ollama:
		return "Ollama: ignores max_completion_tokens and tool_choice, whole tool calls in one delta, reasoning, names with tags"
	case MLX:
		return "mlx_lm.server: HTTP/1.0, 411 without a length, closes without an answer on null or wrong types, 404 for every failure"
	case VLLM:
		return "vLLM: strict about tools, tool_choice and stream_options, role chunk before the first token, stop_reason"
	case SGLang:
		return "SGLang: flat errors, nulls refused, all fields in every chunk, matched_stop"
	case LlamaCPP:
		return "llama.cpp server: 500 for bad JSON and images, numeric codes, timings, bare Responses events"
	case Anthropic:
		return "Anthropic's API: Messages only, asks for a key and a version, strict about order, signatures and fields, counts its cache"
	}
	return "OpenAI's own shapes, fast, with everything on"
}

// Source says how the profile is known.
func (p Profile) Source() string {
	switch p {
	case LlamaCPP, Ollama, MLX:
		return "recorded"
	case Generic:
		return "OpenAI's documentation"
	}
	return "from source and documentation"
}

// Port returns the port that the real server listens on unless told otherwise.
func (p Profile) Port() int {
	switch p {
	case LMStudio:
		return 1234
	case Ollama:
		return 11434
	case VLLM:
		return 8000
	case SGLang:
		return 30000
	}
	return 8080
}

// Timing returns a speed that such a server plausibly has with an 8B model of four bits
// at home (a Mac for LM Studio, MLX, Ollama and llama.cpp, one large GPU for vLLM and
// SGLang), or far away. It is invented, not measured. A batch costs a GPU of a data
// centre next to nothing, since weights are read once for all of it; at home the
// arithmetic is soon what limits.
func (p Profile) Timing() Timing {
	switch p {
	case LMStudio:
		return Timing{Load: 6 * time.Second, Prefill: 1500 * time.Millisecond, FirstToken: 120 * time.Millisecond, PerToken: 22 * time.Millisecond, Batch: 0.35}
	case Ollama:
		return Timing{Load: 4 * time.Second, Prefill: 900 * time.Millisecond, FirstToken: 150 * time.Millisecond, PerToken: 20 * time.Millisecond, Batch: 0.35}
	case MLX:
		return Timing{Load: 3 * time.Second, Prefill: 1800 * time.Millisecond, FirstToken: 60 * time.Millisecond, PerToken: 18 * time.Millisecond, Batch: 0.25}
	case VLLM:
		return Timing{Prefill: 120 * time.Millisecond, FirstToken: 40 * time.Millisecond, PerToken: 11 * time.Millisecond, Batch: 0.02}
	case SGLang:
		return Timing{Prefill: 110 * time.Millisecond, FirstToken: 35 * time.Millisecond, PerToken: 10 * time.Millisecond, Batch: 0.02}
	case LlamaCPP:
		return Timing{Prefill: 1200 * time.Millisecond, FirstToken: 80 * time.Millisecond, PerToken: 20 * time.Millisecond, Batch: 0.4}
	case Anthropic:
		return Timing{Prefill: 60 * time.Millisecond, FirstToken: 500 * time.Millisecond, PerToken: 12 * time.Millisecond}
	}
	return Timing{Prefill: 200 * time.Millisecond, FirstToken: 50 * time.Millisecond, PerToken: 15 * time.Millisecond}
}

// Slots returns how many requests such a server works at at a time, unless it is told
// otherwise; further ones wait. 0 is as many as come. Ollama's is its documented
// default of one, the others are plausible rather than known.
func (p Profile) Slots() int {
	switch p {
	case LMStudio, LlamaCPP:
		return 4
	case Ollama:
		return 1
	case MLX:
		return 32
	case VLLM, SGLang:
		return 256
	}
	return 0
}

// kit is how a profile writes things. In templates $I is the id, $T the time, $M
// the model, $N the choice's index, $D the delta or message, $F the finish
// reason and what stands beside it, $U the usage.
type kit struct {
	profile   Profile
	quirks    quirks
	refusing  []Quirk // those of quirks that refuse requests
	old       bool    // HTTP/1.0
	headers   []string
	keepAlive []string // header lines of answers after which the connection stays
	ctypeName string
	jsonType  string
	sse       []string // header lines of streams
	failClose bool     // closes after an error
	newline   string   // after a JSON body

	chunk, usageChunk, whole, choice       string
	textChunk, textUsage, text, textChoice string

	role       string // delta of an event before the first token; none when empty
	roleFirst  string // members put first in the first delta
	roleAll    string // members put first in every delta
	beside     string // members put first in deltas without text
	full       bool   // all members are in every delta
	reasoning  string // member for thinking, or a value of reasoning-field
	endDelta   string
	callsWhole bool // a tool call comes in one delta
	sp         string
	headEarly  bool // sends the head before the first token
	model      string
}

// kitOf returns the kit of a profile with some quirks.
func kitOf(p Profile, has quirks) *kit {
	k := kitWithout(p)
	k.quirks = has
	for _, q := range Quirks() {
		value, ok := has[q.Name]
		if ok && q.apply != nil {
			q.apply(k, value)
		}
		if ok && q.refuse != nil {
			k.refusing = append(k.refusing, q)
		}
	}
	return k
}

// kitWithout returns the kit of a profile without any quirk.
func kitWithout(p Profile) *kit {
	k := &kit{profile: p, ctypeName: "Content-Type", jsonType: "application/json", reasoning: "reasoning_content", endDelta: "{}", model: "sim",
		role:       `{"role":"assistant","content":""}`,
		choice:     `{"index":$N,"message":$D,"logprobs":null,"finish_reason":$F}`,
		textChoice: `{"text":$D,"index":$N,"logprobs":null,"finish_reason":$F}`,
		text:       `{"id":"$I","object":"text_completion","created":$T,"model":$M,"choices":[$D],"usage":$U}`,
		textChunk:  `{"id":"$I","object":"text_completion","created":$T,"model":$M,"choices":[{"text":$D,"index":$N,"logprobs":null,"finish_reason":$F}]}`,
		textUsage:  `{"id":"$I","object":"text_completion","created":$T,"model":$M,"choices":[],"usage":$U}`,
	}
	switch p {
	case LMStudio:
		k.headers = []string{"X-Powered-By: Express"}
		k.keepAlive = []string{"Connection: keep-alive", "Keep-Alive: timeout=5"}
		k.jsonType = "application/json; charset=utf-8"
		k.sse = []string{"Cache-Control: no-cache"}
		k.role, k.roleFirst = "", `"role":"assistant",`
		k.chunk = `{"id":"$I","object":"chat.completion.chunk","created":$T,"model":$M,"system_fingerprint":$M,"choices":[{"index":$N,"delta":$D,"logprobs":null,"finish_reason":$F}]}`
		k.usageChunk = `{"id":"$I","object":"chat.completion.chunk","created":$T,"model":$M,"system_fingerprint":$M,"choices":[],"usage":$U}`
		k.whole = `{"id":"$I","object":"chat.completion","created":$T,"model":$M,"choices":[$D],"usage":$U,"stats":{},"system_fingerprint":$M}`
		k.model = "qwen/qwen3-8b"
	case Ollama:
		k.newline = "\n"
		k.role, k.roleFirst = "", `"role":"assistant",`
		k.chunk = `{"id":"$I","object":"chat.completion.chunk","created":$T,"model":$M,"system_fingerprint":"fp_ollama","choices":[{"index":$N,"delta":$D,"finish_reason":$F}]}`
		k.usageChunk = `{"id":"$I","object":"chat.completion.chunk","created":$T,"model":$M,"system_fingerprint":"fp_ollama","choices":[],"usage":$U}`
		k.whole = `{"id":"$I","object":"chat.completion","created":$T,"model":$M,"system_fingerprint":"fp_ollama","choices":[$D],"usage":$U}`
		k.choice = `{"index":$N,"message":$D,"finish_reason":$F}`
		k.text = `{"id":"$I","object":"text_completion","created":$T,"model":$M,"system_fingerprint":"fp_ollama","choices":[$D],"usage":$U}`
		k.textChoice = `{"text":$D,"index":$N,"finish_reason":$F}`
		k.textChunk = `{"id":"$I","object":"text_completion","created":$T,"choices":[{"text":$D,"index":$N,"finish_reason":$F}],"model":$M,"system_fingerprint":"fp_ollama"}`
		k.textUsage = `{"id":"$I","object":"text_completion","created":$T,"choices":[],"model":$M,"system_fingerprint":"fp_ollama","usage":$U}`
		k.model = "tiny:latest"
	case MLX:
		const fp = `"system_fingerprint": "0.32.0-0.31.0-macOS-15.6-arm64-arm-64bit-applegpu_g16s"`
		k.sp, k.headEarly = " ", true
		k.ctypeName = "Content-type"
		k.headers = []string{"Server: BaseHTTP/0.6 Python/3.11.7"}
		k.sse = []string{"Cache-Control: no-cache"}
		k.role, k.roleFirst = "", `"role": "assistant",`
		k.chunk = `{"id": "$I", ` + fp + `, "object": "chat.completion.chunk", "model": $M, "created": $T, "choices": [{"index": $N, "finish_reason": $F, "delta": $D}]}`
		k.usageChunk = `{"id": "$I", ` + fp + `, "object": "chat.completion.chunk", "model": $M, "created": $T, "choices": [], "usage": $U}`
		k.whole = `{"id": "$I", ` + fp + `, "object": "chat.completion", "model": $M, "created": $T, "choices": [$D], "usage": $U}`
		k.choice = `{"index": $N, "finish_reason": $F, "message": $D}`
		k.text = `{"id": "$I", ` + fp + `, "object": "text_completion", "model": $M, "created": $T, "choices": [$D], "usage": $U}`
		k.textChoice = `{"index": $N, "finish_reason": $F, "text": $D}`
		k.textChunk = `{"id": "$I", ` + fp + `, "object": "text_completion", "model": $M, "created": $T, "choices": [{"index": $N, "finish_reason": $F, "text": $D}]}`
		k.textUsage = k.usageChunk
		k.model = "mlx-community/Qwen3-0.6B-4bit"
	case VLLM:
		k.headers = []string{"Server: uvicorn"}
		k.jsonType = "application/json"
		k.headEarly = true
		k.endDelta = `{"content":""}`
		k.chunk = `{"id":"$I","object":"chat.completion.chunk","created":$T,"model":$M,"choices":[{"index":$N,"delta":$D,"logprobs":null,"finish_reason":$F}]}`
		k.usageChunk = `{"id":"$I","object":"chat.completion.chunk","created":$T,"model":$M,"choices":[],"usage":$U}`
		k.whole = `{"id":"$I","object":"chat.completion","created":$T,"model":$M,"choices":[$D],"service_tier":null,"system_fingerprint":null,"usage":$U,"prompt_logprobs":null,"kv_transfer_params":null}`
		k.choice = `{"index":$N,"message":$D,"logprobs":null,"finish_reason":$F,"token_ids":null}`
		k.model = "Qwen/Qwen3-8B"
	case SGLang:
		k.headers = []string{"Server: uvicorn"}
		k.headEarly = true
		k.chunk = `{"id":"$I","object":"chat.completion.chunk","created":$T,"model":$M,"choices":[{"index":$N,"delta":$D,"logprobs":null,"finish_reason":$F}]}`
		k.usageChunk = `{"id":"$I","object":"chat.completion.chunk","created":$T,"model":$M,"choices":[],"usage":$U}`
		k.whole = `{"id":"$I","object":"chat.completion","created":$T,"model":$M,"choices":[$D],"usage":$U,"metadata":{"weight_version":"default"}}`
		k.choice = `{"index":$N,"message":$D,"logprobs":null,"finish_reason":$F}`
		k.model = "default"
	case LlamaCPP:
		k.headers = []string{"Server: llama.cpp", "Access-Control-Allow-Origin: "}
		k.keepAlive = []string{"Keep-Alive: timeout=5, max=100"}
		k.jsonType = "application/json; charset=utf-8"
		k.sse = []string{"X-Accel-Buffering: no"}
		k.chunk = `{"choices":[{"finish_reason":$F,"index":$N,"delta":$D}],"created":$T,"id":"$I","model":$M,"system_fingerprint":"b0-unknown","object":"chat.completion.chunk"}`
		k.usageChunk = `{"choices":[],"created":$T,"id":"$I","model":$M,"system_fingerprint":"b0-unknown","object":"chat.completion.chunk","usage":$U}`
		k.whole = `{"choices":[$D],"created":$T,"model":$M,"system_fingerprint":"b0-unknown","object":"chat.completion","usage":$U,"id":"$I"}`
		k.choice = `{"finish_reason":$F,"index":$N,"message":$D}`
		k.text = `{"choices":[$D],"created":$T,"model":$M,"system_fingerprint":"b0-unknown","object":"text_completion","usage":$U,"id":"$I"}`
		k.textChunk = `{"choices":[{"text":$D,"index":$N,"logprobs":null,"finish_reason":$F}],"created":$T,"model":$M,"system_fingerprint":"b0-unknown","object":"text_completion","id":"$I"}`
		k.textUsage = ""
		k.model = "tiny"
	case Anthropic:
		k.sse = []string{"Cache-Control: no-cache"}
		k.headEarly = true
		k.model = "claude-simulated"
	default:
		k.headEarly = true
		k.chunk = `{"id":"$I","object":"chat.completion.chunk","created":$T,"model":$M,"system_fingerprint":"fp_sim","choices":[{"index":$N,"delta":$D,"logprobs":null,"finish_reason":$F}]}`
		k.usageChunk = `{"id":"$I","object":"chat.completion.chunk","created":$T,"model":$M,"system_fingerprint":"fp_sim","choices":[],"usage":$U}`
		k.whole = `{"id":"$I","object":"chat.completion","created":$T,"model":$M,"choices":[$D],"usage":$U,"service_tier":"default","system_fingerprint":"fp_sim"}`
	}
	return k
}
