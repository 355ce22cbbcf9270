package catalog

import "testing"

// The names are those of OpenClaw's onboarding; what they do not tell must stay
// unknown, since a model that is wrongly taken for blind is of no use.
func TestImagesAreInferredFromIDs(t *testing.T) {
	const vision, text, unknown = "vision", "text", "unknown"
	for _, c := range []struct{ want, id string }{
		{vision, "gpt-4o"}, {vision, "gpt-4o-mini-2024-07-18"}, {vision, "openai/gpt-4.1-mini"}, {vision, "gpt-5"}, {vision, "gpt-5.5-codex"}, {vision, "gpt-9"},
		{vision, "o1"}, {vision, "o3-mini"}, {vision, "o4-mini"}, {vision, "azure/o3"},
		{vision, "claude-3-5-sonnet"}, {vision, "claude-4"}, {vision, "claude-sonnet-4-6"}, {vision, "anthropic/claude-opus-4-6"}, {vision, "claude-haiku-4-5"},
		{vision, "gemini-2.5-flash"}, {vision, "google/gemini-3-pro"},
		{vision, "qwen2.5-vl-7b"}, {vision, "Qwen/Qwen3-VL-30B-A3B-Instruct"}, {vision, "qwen2vl"}, {vision, "qwen/qwen-vl-max"},
		{vision, "llama-3.2-11b-vision"}, {vision, "llava:13b"}, {vision, "bakllava"}, {vision, "pixtral-12b"}, {vision, "InternVL3-8B"}, {vision, "mllama"},
		{vision, "minicpm-v:8b"}, {vision, "glm-4v-9b"}, {vision, "kimi-vl-a3b"}, {vision, "deepseek-ai/deepseek-vl-7b"}, {vision, "phi-3.5-vision-instruct"}, {vision, "org/vl/model"},
		{text, "llama3"}, {text, "llama-2-7b"}, {text, "meta-llama/Llama-3.3-70B-Instruct"}, {text, "deepseek-r1"}, {text, "mistral-nemo"}, {text, "mixtral:8x7b"},
		{text, "kimi-k2"}, {text, "moonshot-v1-8k"}, {text, "codestral"}, {text, "devstral-small"}, {text, "phi3"}, {text, "phi-4"}, {text, "qwq-32b"},
		{text, "codellama:7b"}, {text, "qwen3-coder-30b"}, {text, "Qwen/Qwen2.5-7B-Instruct"}, {unknown, "tinyllama"},
		{unknown, "gpt-oss-20b"}, {unknown, "gpt-4"}, {unknown, "gpt-3.5-turbo"}, {unknown, "gemma-3-27b"}, {unknown, "dolphin-mixtures"}, {unknown, "glm-4.5"}, {unknown, "my-local-model"},
		{unknown, "m"}, {unknown, ""}, {unknown, "turbo1"}, {unknown, "claude-2"}, {unknown, "nvl72"},
	} {
		got := unknown
		switch image, known := InfersImages(c.id); {
		case image && known:
			got = vision
		case known:
			got = text
		case image:
			got = "an image without being known"
		}
		if got != c.want {
			t.Errorf("InfersImages(%q) is %s, want %s", c.id, got, c.want)
		}
	}
}

// What is known stands above what a name suggests, and a name that suggests
// nothing keeps nobody from trying.
func TestModelsTakeWhatTheyAreKnownToTake(t *testing.T) {
	f := func(m Model, kind string, takes, known bool) {
		t.Helper()
		if gotTakes, gotKnown := m.Takes(kind); gotTakes != takes || gotKnown != known {
			t.Errorf("%q with %v (guessed: %t) takes %s: %t, known: %t; want %t, %t", m.ID, m.Input, m.InputGuessed, kind, gotTakes, gotKnown, takes, known)
		}
	}
	near, far := &Provider{Near: true}, &Provider{}
	text, image := []string{"text"}, []string{"text", "image"}
	f(Model{ID: "m", Provider: near, Input: image}, InputImage, true, true)
	f(Model{ID: "qwen3-vl", Provider: near, Input: text}, InputImage, false, true) // the configuration says so
	f(Model{ID: "qwen3-vl", Provider: near, Input: InferredInput("qwen3-vl"), InputGuessed: true}, InputImage, true, false)
	f(Model{ID: "llama3", Provider: near, Input: InferredInput("llama3"), InputGuessed: true}, InputImage, false, false)
	f(Model{ID: "m", Provider: far, Input: InferredInput("m"), InputGuessed: true}, InputImage, true, false)
	f(Model{ID: "m", Provider: near, Input: image}, InputAudio, false, true)
	f(Model{ID: "m", Provider: near, Input: text, InputGuessed: true}, InputAudio, true, false)
	f(Model{ID: "m", Provider: far, Input: image}, InputVideo, true, false)
	f(Model{ID: "m", Provider: far, Input: []string{"text", "audio"}}, InputAudio, true, true)
	f(Model{ID: "m", Input: text}, InputAudio, true, false)
}
