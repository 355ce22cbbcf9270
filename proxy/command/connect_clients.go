package command

import (
	"fmt"
	"path/filepath"
	"strings"

	"nearside/catalog"
	"nearside/proxy/config/json5"
	"nearside/shaping/wire"
)

// connectClient is one client that connect knows.
type connectClient struct {
	name, what string
	settings   func(to *connection) (string, error)
	// file returns the client's own file. dir returns a folder of the user: what a
	// variable says, else a place below home.
	file   func(dir func(variable, otherwise string) string) string
	merges bool   // its file is JSON, which settings can be added to
	stores bool   // what it does with the key is in its settings
	reads  string // the one variable that it reads its key from
	caEnv  string
	then   func(to *connection) string
}

// connectClients lists them, agents first.
var connectClients = []connectClient{
	{name: "codex", what: "Codex CLI (~/.codex/config.toml)", settings: codexSettings, caEnv: "SSL_CERT_FILE",
		file: func(dir func(string, string) string) string {
			return filepath.Join(dir("CODEX_HOME", ".codex"), "config.toml")
		},
		then: func(*connection) string { return "codex" }},
	{name: "claude", what: "Claude Code (~/.claude/settings.json)", settings: claudeSettings, merges: true,
		file: func(dir func(string, string) string) string {
			return filepath.Join(dir("CLAUDE_CONFIG_DIR", ".claude"), "settings.json")
		},
		then: func(*connection) string { return "claude" }},
	{name: "opencode", what: "opencode (~/.config/opencode/opencode.json)", settings: opencodeSettings, merges: true, caEnv: "NODE_EXTRA_CA_CERTS",
		file: func(dir func(string, string) string) string {
			return filepath.Join(dir("XDG_CONFIG_HOME", ".config"), "opencode", "opencode.json")
		},
		then: func(*connection) string { return "opencode" }},
	{name: "openclaw", what: "OpenClaw (~/.openclaw/openclaw.json)", settings: openclawSettings, merges: true, caEnv: "NODE_EXTRA_CA_CERTS",
		file: func(dir func(string, string) string) string {
			return filepath.Join(dir("OPENCLAW_STATE_DIR", ".openclaw"), "openclaw.json")
		},
		then: func(to *connection) string { return "openclaw agent --local --agent main --message 'Say hello'" }},
	{name: "continue", what: "Continue (~/.continue/config.yaml)", settings: continueSettings,
		file: func(dir func(string, string) string) string {
			return filepath.Join(dir("CONTINUE_GLOBAL_DIR", ".continue"), "config.yaml")
		},
		then: func(*connection) string { return "reload the editor's window" }},
	{name: "cline", what: "Cline (its own command)", settings: clineSettings, stores: true, caEnv: "NODE_EXTRA_CA_CERTS",
		then: func(*connection) string { return "cline \"Say hello\"" }},
	{name: "aider", what: "aider (.aider.conf.yml)", settings: aiderSettings, stores: true, caEnv: "SSL_CERT_FILE",
		file: func(dir func(string, string) string) string {
			return filepath.Join(dir("", ""), ".aider.conf.yml")
		},
		then: func(*connection) string { return "aider" }},
	{name: "zed", what: "Zed (~/.config/zed/settings.json)", settings: zedSettings, merges: true, reads: defaultKeyEnv, caEnv: "SSL_CERT_FILE",
		file: func(dir func(string, string) string) string {
			return filepath.Join(dir("XDG_CONFIG_HOME", ".config"), "zed", "settings.json")
		},
		then: func(*connection) string { return "choose a model of Nearside in the agent panel" }},
	{name: "pi", what: "pi (~/.pi/agent/models.json)", settings: piSettings, merges: true, caEnv: "NODE_EXTRA_CA_CERTS",
		file: func(dir func(string, string) string) string {
			return filepath.Join(dir("PI_CODING_AGENT_DIR", ".pi/agent"), "models.json")
		},
		then: func(to *connection) string { return "pi --provider nearside --model " + quoted(to.model.name) }},
	{name: "qwen", what: "Qwen Code (variables)", settings: qwenSettings, stores: true, caEnv: "NODE_EXTRA_CA_CERTS",
		then: func(*connection) string { return "qwen --auth-type openai" }},
	{name: "open-webui", what: "Open WebUI (variables of its container)", settings: openWebUISettings, stores: true,
		then: func(*connection) string { return "open http://127.0.0.1:3000" }},
	{name: "sdk-node", what: "OpenAI SDK for Node", settings: sdkNode, caEnv: "NODE_EXTRA_CA_CERTS",
		then: func(*connection) string { return "npm install openai && node hello.mjs" }},
	{name: "sdk-python", what: "OpenAI SDK for Python", settings: sdkPython, caEnv: "SSL_CERT_FILE",
		then: func(*connection) string { return "pip install openai && python hello.py" }},
	{name: "sdk-go", what: "OpenAI SDK for Go", settings: sdkGo, caEnv: "SSL_CERT_FILE",
		then: func(*connection) string { return "go get github.com/openai/openai-go/v3 && go run hello.go" }},
	{name: "sdk-anthropic", what: "Anthropic SDK for Node", settings: sdkAnthropic, caEnv: "NODE_EXTRA_CA_CERTS",
		then: func(*connection) string { return "npm install @anthropic-ai/sdk && node hello.mjs" }},
	{name: "ai-sdk", what: "Vercel AI SDK", settings: aiSDK, caEnv: "NODE_EXTRA_CA_CERTS",
		then: func(*connection) string { return "npm install ai @ai-sdk/openai-compatible && node hello.mjs" }},
	{name: "langchain", what: "LangChain for Node", settings: langchain, caEnv: "NODE_EXTRA_CA_CERTS",
		then: func(*connection) string { return "npm install @langchain/openai && node hello.mjs" }},
	{name: "curl", what: "curl, as a first request", settings: curlSettings, stores: true},
	{name: "env", what: "variables that most other clients read", settings: envSettings, stores: true},
}

func clientNamed(name string) *connectClient {
	for i := range connectClients {
		if connectClients[i].name == name {
			return &connectClients[i]
		}
	}
	return nil
}

// js, which is also TOML, YAML, Go and Python, writes a text in double quotes.
func js(text string) string { return string(wire.AppendString(nil, text)) }

// or is the key in a client's own words for a variable, or the text that stands
// for none.
func (to *connection) or(variable string) string {
	if to.keyEnv == "" {
		return noKey
	}
	return fmt.Sprintf(variable, to.keyEnv)
}

// jsonOf writes what looks like JSON as JSON that people read.
func jsonOf(text string) (string, error) {
	v, errs := json5.Parse("", []byte(text), json5.Limits{})
	if len(errs) > 0 {
		return "", fmt.Errorf("BUG: connect: %w", errs[0])
	}
	return json5.FormatJSON(v) + "\n", nil
}

func codexSettings(to *connection) (string, error) {
	var b strings.Builder
	b.WriteString("# Codex by Nearside.\n")
	fmt.Fprintf(&b, "model = %s\nmodel_provider = \"nearside\"\n", js(to.model.name))
	if to.model.window > 0 {
		fmt.Fprintf(&b, "model_context_window = %d\n", to.model.window)
	}
	fmt.Fprintf(&b, "\n[model_providers.nearside]\nname = \"Nearside\"\nbase_url = %s\nwire_api = \"responses\"\n", js(to.base+"/v1"))
	b.WriteString("supports_websockets = true\n")
	fmt.Fprintf(&b, "model_catalog_url = %s # what each model can do, so that Codex does not guess\n", js(to.base+"/v1/models"))
	if to.keyEnv != "" {
		fmt.Fprintf(&b, "env_key = %s\n", js(to.keyEnv))
	} else {
		fmt.Fprintf(&b, "experimental_bearer_token = %s # nobody is asked for a key, but without one Codex asks for no list\n", js(noKey))
	}
	return b.String(), nil
}

func claudeSettings(to *connection) (string, error) {
	// default means something else to Claude Code: the first model of the chain,
	// by its ref, is asked for in its place and has the same chain behind it.
	model := to.model.name
	if model == "default" {
		model = to.model.ref
	}
	env := fmt.Sprintf(`ANTHROPIC_BASE_URL: %s, ANTHROPIC_MODEL: %s, ANTHROPIC_DEFAULT_HAIKU_MODEL: %[2]s`, js(to.base), js(model))
	helper := ""
	if to.keyEnv == "" {
		env += `, ANTHROPIC_AUTH_TOKEN: "` + noKey + `"`
	} else {
		helper = fmt.Sprintf(`, apiKeyHelper: %s`, js("printenv "+to.keyEnv))
	}
	if to.ca != "" {
		env += `, NODE_EXTRA_CA_CERTS: ` + js(to.ca)
	}
	return jsonOf("{ env: { " + env + " }" + helper + " }")
}

func opencodeSettings(to *connection) (string, error) {
	var models []string
	for _, m := range to.models {
		limit := ""
		if m.window > 0 {
			limit = fmt.Sprintf(", limit: { context: %d, output: %d }", m.window, m.output())
		}
		input := `"text"`
		if m.image {
			input += `, "image"`
		}
		models = append(models, fmt.Sprintf("%s: { name: %s, attachment: %v, reasoning: %v, tool_call: true, modalities: { input: [%s], output: [\"text\"] }%s }", js(m.name), js(m.title), m.image, m.reasoning, input, limit))
	}
	return jsonOf(fmt.Sprintf(`{
		$schema: "https://opencode.ai/config.json",
		model: %s,
		small_model: %[1]s,
		provider: { nearside: { npm: "@ai-sdk/openai-compatible", name: "Nearside", options: { baseURL: %s, apiKey: %s }, models: { %s } } },
	}`, js("nearside/"+to.model.name), js(to.base+"/v1"), js(to.or("{env:%s}")), strings.Join(models, ",\n")))
}

// output is how long an answer a client is told to expect at most.
func (m *connectModel) output() int {
	n := m.maxTokens
	if n == 0 {
		n = 8192
	}
	return max(1, min(n, m.window/2))
}

func openclawSettings(to *connection) (string, error) {
	var models []string
	for _, m := range to.models {
		input := `"text"`
		if m.image {
			input += `, "image"`
		}
		window := ""
		if m.window > 0 {
			window = fmt.Sprintf(", contextWindow: %d, maxTokens: %d", m.window, m.output())
		}
		models = append(models, fmt.Sprintf("{ id: %s, name: %s, reasoning: %v, input: [%s], cost: { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 }%s }", js(m.name), js(m.title), m.reasoning, input, window))
	}
	private := ""
	if catalog.PlaceOf(to.base) == catalog.PlacePrivate {
		private = ", request: { allowPrivateNetwork: true }"
	}
	return jsonOf(fmt.Sprintf(`{
		agents: { defaults: { model: { primary: %s } } },
		models: { mode: "merge", providers: { nearside: { baseUrl: %s, apiKey: %s, api: "openai-completions"%s, models: [ %s ] } } },
	}`, js("nearside/"+to.model.name), js(to.base+"/v1"), js(to.or("${%s}")), private, strings.Join(models, ",\n")))
}

func continueSettings(to *connection) (string, error) {
	var b strings.Builder
	b.WriteString("name: Nearside\nversion: 1.0.0\nschema: v1\nmodels:\n")
	for _, m := range to.models {
		fmt.Fprintf(&b, "  - name: %s\n    provider: openai\n    model: %s\n    apiBase: %s\n    apiKey: %s\n    roles: [chat, edit, apply]\n",
			js("Nearside "+m.name), js(m.name), js(to.base+"/v1"), js(to.or("${{ secrets.%s }}")))
		caps := `"tool_use"`
		if m.image {
			caps += `, "image_input"`
		}
		fmt.Fprintf(&b, "    capabilities: [%s]\n", caps)
		if m.window > 0 {
			fmt.Fprintf(&b, "    defaultCompletionOptions:\n      contextLength: %d\n", m.window)
		}
		if to.ca != "" {
			fmt.Fprintf(&b, "    requestOptions:\n      caBundlePath: %s\n", js(to.ca))
		}
	}
	return b.String(), nil
}

func clineSettings(to *connection) (string, error) {
	key := noKey
	if to.keyEnv != "" {
		key = `"$` + to.keyEnv + `"`
	}
	text := fmt.Sprintf("cline auth -p openai-compatible -b %s -k %s -m %s\n", quoted(to.base+"/v1"), key, quoted(to.model.name))
	if to.model.window > 0 {
		text += fmt.Sprintf("# In the editor: API Provider OpenAI Compatible, the same three, and Context Window Size %d.\n", to.model.window)
	}
	return text, nil
}

func aiderSettings(to *connection) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "model: %s\nopenai-api-base: %s\n", js("openai/"+to.model.name), js(to.base+"/v1"))
	if to.keyEnv == "" {
		fmt.Fprintf(&b, "openai-api-key: %s\n", noKey)
	} else {
		fmt.Fprintf(&b, "# The key: export OPENAI_API_KEY=\"$%s\"\n", to.keyEnv)
	}
	if to.model.window > 0 {
		fmt.Fprintf(&b, "# aider does not know the model; its context window goes into .aider.model.metadata.json:\n# { %s: { \"max_input_tokens\": %d, \"max_output_tokens\": %d, \"litellm_provider\": \"openai\", \"mode\": \"chat\" } }\n",
			js("openai/"+to.model.name), to.model.window, to.model.output())
	}
	return b.String(), nil
}

// zedWindow is what Zed is told where nobody says how long a context may be: it
// insists on a number.
const zedWindow = 32768

func zedSettings(to *connection) (string, error) {
	var models []string
	for _, m := range to.models {
		window := m.window
		if window == 0 {
			window = zedWindow
		}
		models = append(models, fmt.Sprintf("{ name: %s, display_name: %s, max_tokens: %d, capabilities: { tools: true, images: %v, parallel_tool_calls: true, prompt_cache_key: false } }", js(m.name), js(m.title), window, m.image))
	}
	return jsonOf(fmt.Sprintf(`{ language_models: { openai_compatible: { Nearside: { api_url: %s, available_models: [ %s ] } } },
		agent: { default_model: { provider: "Nearside", model: %s } } }`, js(to.base+"/v1"), strings.Join(models, ",\n"), js(to.model.name)))
}

func piSettings(to *connection) (string, error) {
	var models []string
	for _, m := range to.models {
		window := ""
		if m.window > 0 {
			window = fmt.Sprintf(", contextWindow: %d, maxTokens: %d", m.window, m.output())
		}
		input := `"text"`
		if m.image {
			input += `, "image"`
		}
		models = append(models, fmt.Sprintf("{ id: %s, name: %s, reasoning: %v, input: [%s]%s }", js(m.name), js(m.title), m.reasoning, input, window))
	}
	return jsonOf(fmt.Sprintf(`{ providers: { nearside: { baseUrl: %s, api: "openai-completions", apiKey: %s, models: [ %s ] } } }`,
		js(to.base+"/v1"), js(to.or("%s")), strings.Join(models, ",\n")))
}

// shellKey is the key as a shell writes it.
func (to *connection) shellKey() string {
	if to.keyEnv == "" {
		return noKey
	}
	return `"$` + to.keyEnv + `"`
}

func qwenSettings(to *connection) (string, error) {
	return fmt.Sprintf("export OPENAI_BASE_URL=%s\nexport OPENAI_API_KEY=%s\nexport OPENAI_MODEL=%s\n", quoted(to.base+"/v1"), to.shellKey(), quoted(to.model.name)), nil
}

func openWebUISettings(to *connection) (string, error) {
	var b strings.Builder
	base := to.base
	host := "--add-host=host.docker.internal:host-gateway "
	if catalog.PlaceOf(base) == catalog.PlaceLoopback {
		b.WriteString("# Inside a container 127.0.0.1 is the container itself; with its network of the host it is this machine.\n")
		host = "--network=host -e PORT=3000 "
	}
	ca := ""
	if to.ca != "" {
		ca = fmt.Sprintf("-v %s:/ca.pem:ro -e SSL_CERT_FILE=/ca.pem -e AIOHTTP_CLIENT_SESSION_SSL=true ", quoted(to.ca))
	}
	fmt.Fprintf(&b, "docker run -d --name open-webui %s%s-e OPENAI_API_BASE_URL=%s -e OPENAI_API_KEY=%s -e ENABLE_OLLAMA_API=false -v open-webui:/app/backend/data", host, ca, quoted(base+"/v1"), to.shellKey())
	if catalog.PlaceOf(base) != catalog.PlaceLoopback {
		b.WriteString(" -p 127.0.0.1:3000:8080")
	}
	b.WriteString(" ghcr.io/open-webui/open-webui:main\n")
	return b.String(), nil
}
