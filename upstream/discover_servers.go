package upstream

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/goccy/go-json"

	"nearside/catalog"
)

const (
	foundModelsMax  = 2000 // models kept of one server
	foundShowsMax   = 32   // Ollama models asked about one by one
	foundShowsAside = 4    // at once
)

// modelList is the common part of every server's GET /v1/models.
type modelList struct {
	Data []listedModel `json:"data"`
}

type listedModel struct {
	ID            string          `json:"id"`
	OwnedBy       json.RawMessage `json:"owned_by"`
	MaxModelLen   tokens          `json:"max_model_len"`      // vLLM, SGLang
	ContextLength tokens          `json:"context_length"`     // OpenRouter, Together and others
	ContextWindow tokens          `json:"context_window"`     // Groq
	ContextMax    tokens          `json:"max_context_length"` // Mistral
	Meta          json.RawMessage `json:"meta"`               // llama.cpp
	Status        json.RawMessage `json:"status"`             // llama.cpp with several models
	Architecture  json.RawMessage `json:"architecture"`       // OpenRouter
}

// readList reads an answer as a model list and says whether it is one. Some
// send the array alone.
func readList(r reply) (modelList, bool) {
	var l modelList
	if r.into(&l) && l.Data != nil {
		return l, true
	}
	var bare []listedModel
	if body := bytes.TrimSpace(r.body); bytes.HasPrefix(body, []byte("[")) && r.into(&bare) && len(bare) > 0 && bare[0].ID != "" {
		return modelList{bare}, true
	}
	return modelList{}, false
}

func (l modelList) owned(by string) bool {
	return slices.ContainsFunc(l.Data, func(m listedModel) bool { return string(m.OwnedBy) == `"`+by+`"` })
}

// found turns the list into models with what it says of them.
func (l modelList) found() []FoundModel {
	var out []FoundModel
	for _, m := range l.Data[:min(len(l.Data), foundModelsMax)] {
		if m.ID == "" {
			continue
		}
		f := FoundModel{ID: m.ID, ContextWindow: int(max(m.MaxModelLen, m.ContextLength, m.ContextWindow, m.ContextMax)), Reasoning: reasons(m.ID)}
		f.Loaded = m.MaxModelLen > 0 // those servers hold what they list
		var meta struct {
			Now   tokens `json:"n_ctx"`
			Train tokens `json:"n_ctx_train"`
		}
		if json.Unmarshal(m.Meta, &meta) == nil && meta.Train > 0 {
			f.ContextMax = int(meta.Train)
			f.ContextWindow = int(meta.Now)
			if f.ContextWindow == 0 {
				f.ContextWindow = f.ContextMax
			}
		}
		var status struct {
			Value string `json:"value"`
		}
		if json.Unmarshal(m.Status, &status) == nil && status.Value != "" {
			f.Loaded = status.Value == "loaded"
		}
		var arch struct {
			Input []string `json:"input_modalities"`
		}
		if json.Unmarshal(m.Architecture, &arch) == nil && len(arch.Input) > 0 {
			f.Input = arch.Input
		}
		out = append(out, f)
	}
	return out
}

// reasons guesses from a model's id, for servers that do not say.
func reasons(id string) bool {
	id = strings.ToLower(id)
	for _, word := range []string{"think", "reason", "-r1", "qwq", "gpt-oss", "magistral"} {
		if strings.Contains(id, word) {
			return true
		}
	}
	return false
}

// identify tells the software from its answers, asking as little as it can.
func (a *asker) identify(ctx context.Context, models reply, list modelList, listed bool) catalog.Kind {
	server := models.header.Get("Server")
	switch {
	case models.litellm(): // whatever stands behind it
		return catalog.KindLiteLLM
	case strings.HasPrefix(server, "llama.cpp") || list.owned("llamacpp"):
		return catalog.KindLlamaCPP
	case list.owned("vllm"):
		return catalog.KindVLLM
	case list.owned("sglang"):
		return catalog.KindSGLang
	case list.owned("organization_owner") || models.unexpected():
		return catalog.KindLMStudio
	case strings.HasPrefix(server, "BaseHTTP/"):
		var health struct {
			Status json.RawMessage `json:"status"`
		}
		if r, err := a.own(ctx, "/health"); err == nil && r.into(&health) && string(health.Status) == `"ok"` {
			return catalog.KindMLX
		}
	}
	root, err := a.own(ctx, "/")
	if err != nil {
		return catalog.KindUnknown
	}
	switch {
	case root.status == http.StatusOK && root.says("ollama is running"):
		return catalog.KindOllama
	case root.unexpected():
		return catalog.KindLMStudio
	case strings.HasPrefix(root.header.Get("Server"), "llama.cpp"):
		return catalog.KindLlamaCPP
	case root.litellm() || root.says("litellm") || a.readiness(ctx):
		return catalog.KindLiteLLM
	}
	// Those two guard their lists with a key, or hide behind another owner.
	serves := slices.ContainsFunc(list.Data, func(m listedModel) bool { return m.MaxModelLen > 0 })
	if listed && !serves || !listed && models.status != http.StatusUnauthorized {
		return catalog.KindUnknown
	}
	var info struct {
		Path json.RawMessage `json:"model_path"`
	}
	if r, err := a.own(ctx, "/get_model_info"); err == nil && r.into(&info) && len(info.Path) > 0 {
		return catalog.KindSGLang
	}
	if a.version(ctx, "/version") != "" {
		return catalog.KindVLLM
	}
	return catalog.KindUnknown
}

// litellm says whether an answer has the headers of LiteLLM's proxy.
func (r reply) litellm() bool {
	for name := range r.header {
		if strings.HasPrefix(name, "X-Litellm-") {
			return true
		}
	}
	return false
}

// readiness says whether LiteLLM's own health page is there, which names its
// version to everybody.
func (a *asker) readiness(ctx context.Context) bool {
	var health struct {
		Version json.RawMessage `json:"litellm_version"`
	}
	r, err := a.own(ctx, "/health/readiness")
	return err == nil && (r.litellm() || r.into(&health) && len(health.Version) > 0)
}

// version reads {"version": "…"}; empty when that is not there.
func (a *asker) version(ctx context.Context, path string) string {
	var v struct {
		Version string `json:"version"`
	}
	if r, err := a.own(ctx, path); err != nil || !r.into(&v) {
		return ""
	}
	return v.Version
}

// lmStudio reads its own model list, of 0.4 or of the versions before it.
func (a *asker) lmStudio(ctx context.Context, f *Found) {
	var v1 struct {
		Models []struct {
			Key       string `json:"key"`
			Type      string `json:"type"`
			Max       tokens `json:"max_context_length"`
			Instances []struct {
				ID     string `json:"id"`
				Config struct {
					Context  tokens `json:"context_length"`
					Parallel tokens `json:"parallel"`
				} `json:"config"`
			} `json:"loaded_instances"`
			Capabilities *struct {
				Vision    bool            `json:"vision"`
				Tools     *bool           `json:"trained_for_tool_use"`
				Reasoning json.RawMessage `json:"reasoning"`
			} `json:"capabilities"`
		} `json:"models"`
	}
	if r, err := a.own(ctx, "/api/v1/models"); err == nil && r.into(&v1) && v1.Models != nil {
		f.Models = nil
		for _, m := range v1.Models[:min(len(v1.Models), foundModelsMax)] {
			fm := FoundModel{ID: m.Key, ContextWindow: int(m.Max), ContextMax: int(m.Max), Loaded: len(m.Instances) > 0, Type: modelType(m.Type)}
			for i, in := range m.Instances {
				// Requests name the model, and any of its instances may serve
				// them: the smallest is what can be relied on.
				if n := int(in.Config.Context); n > 0 && (i == 0 || n < fm.ContextWindow) {
					fm.ContextWindow = n
				}
				f.Slots += int(in.Config.Parallel) // each has its own: two models do not wait for each other
			}
			if c := m.Capabilities; c != nil {
				fm.Input, fm.Tools = inputs(c.Vision, false), c.Tools
				fm.Reasoning = len(c.Reasoning) > 0 && string(c.Reasoning) != "null" && string(c.Reasoning) != "false"
				fm.Efforts = allowedEfforts(c.Reasoning)
			}
			f.Models = append(f.Models, fm)
		}
		asleepUnlessLoaded(f)
		return
	}
	var v0 struct {
		Data []struct {
			ID           string          `json:"id"`
			Type         string          `json:"type"`
			State        string          `json:"state"`
			Max          tokens          `json:"max_context_length"`
			Now          tokens          `json:"loaded_context_length"`
			Capabilities json.RawMessage `json:"capabilities"`
		} `json:"data"`
	}
	if r, err := a.own(ctx, "/api/v0/models"); err != nil || !r.into(&v0) || v0.Data == nil {
		return
	}
	f.Models = nil
	for _, m := range v0.Data[:min(len(v0.Data), foundModelsMax)] {
		fm := FoundModel{ID: m.ID, ContextWindow: int(m.Max), ContextMax: int(m.Max), Loaded: m.State == "loaded", Type: modelType(m.Type),
			Input: inputs(m.Type == "vlm", false), Reasoning: reasons(m.ID)}
		if fm.Loaded && m.Now > 0 {
			fm.ContextWindow = int(m.Now)
		}
		var can []string
		if json.Unmarshal(m.Capabilities, &can) == nil && can != nil {
			tools := slices.Contains(can, "tool_use")
			fm.Tools = &tools
		}
		f.Models = append(f.Models, fm)
	}
	asleepUnlessLoaded(f)
}

// asleepUnlessLoaded sets the state of a server that loads models on demand.
func asleepUnlessLoaded(f *Found) {
	switch {
	case f.State != StateReady:
	case len(f.Models) == 0:
		f.State, f.Detail = StateMisconfigured, "it has no models: download one there"
	case !slices.ContainsFunc(f.Models, func(m FoundModel) bool { return m.Loaded }):
		f.State, f.Detail = StateAsleep, "no model is loaded: the first request waits for it"
	}
}

func modelType(t string) string {
	switch t {
	case "embedding", "embeddings":
		return "embeddings"
	case "llm", "vlm":
		return "llm"
	}
	return ""
}

func inputs(image, audio bool) []string {
	in := []string{"text"}
	if image {
		in = append(in, "image")
	}
	if audio {
		in = append(in, "audio")
	}
	return in
}

// ollama reads the tags, what is loaded, and what a model says of itself.
func (a *asker) ollama(ctx context.Context, f *Found) {
	f.Version = a.version(ctx, "/api/version")
	var tags struct {
		Models []struct {
			Name    string `json:"name"`
			Details struct {
				Context tokens `json:"context_length"`
			} `json:"details"`
			Capabilities []string `json:"capabilities"`
		} `json:"models"`
	}
	if r, err := a.own(ctx, "/api/tags"); err != nil || !r.into(&tags) || tags.Models == nil {
		return
	}
	var ps struct {
		Models []struct {
			Name    string `json:"name"`
			Context tokens `json:"context_length"`
		} `json:"models"`
	}
	if r, err := a.own(ctx, "/api/ps"); err == nil {
		r.into(&ps)
	}
	f.Models = make([]FoundModel, min(len(tags.Models), foundModelsMax))
	aside := make(chan struct{}, foundShowsAside)
	var wg sync.WaitGroup
	for i := range f.Models {
		t, m := tags.Models[i], &f.Models[i]
		*m = FoundModel{ID: t.Name, ContextMax: int(t.Details.Context), Reasoning: reasons(t.Name)}
		m.able(t.Capabilities)
		if i >= foundShowsMax {
			continue
		}
		wg.Go(func() {
			aside <- struct{}{}
			defer func() { <-aside }()
			a.show(ctx, m)
		})
	}
	wg.Wait()
	for i := range f.Models {
		m := &f.Models[i]
		for _, p := range ps.Models {
			if p.Name == m.ID {
				m.Loaded = true
				if p.Context > 0 {
					m.ContextWindow = int(p.Context)
				}
			}
		}
		if m.ContextWindow == 0 {
			m.ContextWindow = m.ContextMax
		}
	}
	asleepUnlessLoaded(f)
}

// able sets what Ollama's list of capabilities says.
func (m *FoundModel) able(can []string) {
	if len(can) == 0 {
		return
	}
	tools := slices.Contains(can, "tools")
	m.Tools = &tools
	m.Reasoning = slices.Contains(can, "thinking")
	m.Input = inputs(slices.Contains(can, "vision"), slices.Contains(can, "audio"))
	m.Type = "llm"
	if slices.Contains(can, "embedding") && !slices.Contains(can, "completion") {
		m.Type = "embeddings"
	}
}

// show asks Ollama about one model. The length that the Modelfile sets is what
// the server will use; beyond it prompts are cut without a word.
func (a *asker) show(ctx context.Context, m *FoundModel) {
	body, err := json.Marshal(map[string]string{"model": m.ID})
	if err != nil {
		return
	}
	r, err := a.ask(ctx, http.MethodPost, a.root+"/api/show", body)
	if err != nil {
		return
	}
	var s struct {
		Parameters   string                     `json:"parameters"`
		Info         map[string]json.RawMessage `json:"model_info"`
		Capabilities []string                   `json:"capabilities"`
	}
	if !r.into(&s) {
		return
	}
	m.able(s.Capabilities)
	for key, v := range s.Info {
		var n tokens
		if strings.HasSuffix(key, ".context_length") && n.UnmarshalJSON(v) == nil {
			m.ContextMax = max(m.ContextMax, int(n))
		}
	}
	for line := range strings.Lines(s.Parameters) {
		if fields := strings.Fields(line); len(fields) == 2 && fields[0] == "num_ctx" {
			var n tokens
			_ = n.UnmarshalJSON([]byte(fields[1])) // never fails
			m.ContextWindow = int(n)
		}
	}
}

// llamaCPP reads /props: what one slot holds, how many there are, what the
// template can do.
func (a *asker) llamaCPP(ctx context.Context, f *Found) {
	r, err := a.own(ctx, "/props")
	if err != nil {
		return
	}
	switch r.status {
	case http.StatusServiceUnavailable:
		f.State, f.Detail = StateLoading, "a model is being loaded"
		return
	case http.StatusUnauthorized, http.StatusForbidden:
		// Its model list is open to all, and says nothing about the key.
		f.State, f.Detail, f.Keyed = StateMisconfigured, "it asks for a key: set "+a.policy.setting("apiKey"), !a.keyed
		if a.keyed {
			f.Detail = "the key is refused: see " + a.policy.setting("apiKey")
		}
		return
	}
	var props struct {
		Defaults struct {
			Context tokens `json:"n_ctx"`
		} `json:"default_generation_settings"`
		Slots      tokens `json:"total_slots"`
		Modalities struct {
			Vision bool `json:"vision"`
			Audio  bool `json:"audio"`
		} `json:"modalities"`
		Template string `json:"chat_template"`
		Caps     *struct {
			Tools *bool `json:"supports_tools"`
		} `json:"chat_template_caps"`
		Build    string `json:"build_info"`
		Sleeping bool   `json:"is_sleeping"`
	}
	if !r.into(&props) {
		return
	}
	f.Version, f.Slots = props.Build, int(props.Slots)
	if props.Sleeping {
		f.State, f.Detail = StateAsleep, "it sleeps: the first request waits for the model"
	}
	if len(f.Models) != 1 {
		return // several models, each with its own settings
	}
	m := &f.Models[0]
	m.Loaded = !props.Sleeping
	m.Input = inputs(props.Modalities.Vision, props.Modalities.Audio)
	if props.Defaults.Context > 0 {
		m.ContextWindow = int(props.Defaults.Context)
	}
	if props.Caps != nil {
		m.Tools = props.Caps.Tools
	}
	m.Reasoning = m.Reasoning || strings.Contains(props.Template, "<think>") || strings.Contains(props.Template, "enable_thinking")
}

// sglang reads how many requests it runs at once, and its version.
func (a *asker) sglang(ctx context.Context, f *Found) {
	var info struct {
		Version string `json:"version"`
		Running tokens `json:"max_running_requests"`
	}
	if r, err := a.own(ctx, "/get_server_info"); err == nil && r.into(&info) {
		f.Version, f.Slots = info.Version, int(info.Running)
	}
}

// effortsMax bounds the reasoning efforts that a server may list.
const effortsMax = 16

// allowedEfforts reads what LM Studio says of a model's reasoning: an object with
// the options, of which some models know only on and off.
func allowedEfforts(reasoning json.RawMessage) []string {
	var said struct {
		Options []string `json:"allowed_options"`
	}
	if json.Unmarshal(reasoning, &said) != nil {
		return nil
	}
	return said.Options[:min(len(said.Options), effortsMax)]
}
