package catalog

import (
	"net/url"
	"strings"
)

// Endpoint is OpenClaw's class of a base URL, by its host: what decides which
// fields a backend can be expected to know. It says nothing of where the host
// is; that is its Place.
type Endpoint string

// The classes. Those with a vendor's name are that vendor's own API.
const (
	EndpointDefault     Endpoint = "default" // no base URL: OpenAI's
	EndpointInvalid     Endpoint = "invalid"
	EndpointOpenAI      Endpoint = "openai-public"
	EndpointCodex       Endpoint = "openai-codex"
	EndpointAzure       Endpoint = "azure-openai"
	EndpointAnthropic   Endpoint = "anthropic-public"
	EndpointOpenRouter  Endpoint = "openrouter"
	EndpointCerebras    Endpoint = "cerebras-native"
	EndpointChutes      Endpoint = "chutes-native"
	EndpointDeepSeek    Endpoint = "deepseek-native"
	EndpointGroq        Endpoint = "groq-native"
	EndpointMistral     Endpoint = "mistral-public"
	EndpointXAI         Endpoint = "xai-native"
	EndpointZAI         Endpoint = "zai-native"
	EndpointCopilot     Endpoint = "github-copilot-native"
	EndpointOpenCode    Endpoint = "opencode-native"
	EndpointGoogle      Endpoint = "google-generative-ai"
	EndpointVertex      Endpoint = "google-vertex"
	EndpointMoonshot    Endpoint = "moonshot-native"
	EndpointModelStudio Endpoint = "modelstudio-native"
	EndpointLocal       Endpoint = "local" // localhost and names of private networks; LAN addresses are custom
	EndpointCustom      Endpoint = "custom"
)

// EndpointOf classifies a base URL. One without a scheme is tolerated.
func EndpointOf(baseURL string) Endpoint {
	baseURL = strings.TrimSpace(baseURL)
	if baseURL == "" {
		return EndpointDefault
	}
	host := hostOf(baseURL)
	switch host {
	case "":
		return EndpointInvalid
	case "api.openai.com":
		return EndpointOpenAI
	case "chatgpt.com":
		return EndpointCodex
	case "api.anthropic.com":
		return EndpointAnthropic
	case "api.cerebras.ai":
		return EndpointCerebras
	case "llm.chutes.ai":
		return EndpointChutes
	case "api.deepseek.com":
		return EndpointDeepSeek
	case "api.groq.com":
		return EndpointGroq
	case "api.mistral.ai":
		return EndpointMistral
	case "api.x.ai", "api.grok.x.ai":
		return EndpointXAI
	case "api.z.ai":
		return EndpointZAI
	case "generativelanguage.googleapis.com":
		return EndpointGoogle
	case "localhost", "127.0.0.1", "::1":
		return EndpointLocal
	case "api.moonshot.ai", "api.moonshot.cn":
		if pathOf(baseURL) == "/v1" {
			return EndpointMoonshot
		}
	case "coding-intl.dashscope.aliyuncs.com", "coding.dashscope.aliyuncs.com":
		if pathOf(baseURL) == "/v1" {
			return EndpointModelStudio
		}
	case "dashscope-intl.aliyuncs.com", "dashscope.aliyuncs.com":
		if pathOf(baseURL) == "/compatible-mode/v1" {
			return EndpointModelStudio
		}
	}
	under := func(domain string) bool { return host == domain || strings.HasSuffix(host, "."+domain) }
	switch {
	case strings.HasSuffix(host, ".openai.azure.com"):
		return EndpointAzure
	case under("openrouter.ai"):
		return EndpointOpenRouter
	case under("opencode.ai"):
		return EndpointOpenCode
	case strings.HasSuffix(host, ".githubcopilot.com"):
		return EndpointCopilot
	case host == "aiplatform.googleapis.com" || strings.HasSuffix(host, "-aiplatform.googleapis.com"):
		return EndpointVertex
	case strings.HasSuffix(host, ".localhost") || strings.HasSuffix(host, ".local") || strings.HasSuffix(host, ".internal"):
		return EndpointLocal
	}
	return EndpointCustom
}

// KindOf tells the software behind a hosted API from its address; KindUnknown
// for an address that tells nothing. Model servers of one's own are told by
// asking them.
func KindOf(baseURL string) Kind {
	switch EndpointOf(baseURL) {
	case EndpointDefault, EndpointOpenAI, EndpointCodex:
		return KindOpenAI
	case EndpointAzure:
		return KindAzure
	case EndpointAnthropic:
		return KindAnthropic
	case EndpointOpenRouter:
		return KindOpenRouter
	case EndpointDeepSeek:
		return KindDeepSeek
	case EndpointMoonshot:
		return KindMoonshot
	case EndpointZAI:
		return KindZAI
	case EndpointModelStudio:
		return KindQwen
	case EndpointMistral:
		return KindMistral
	case EndpointGroq:
		return KindGroq
	case EndpointXAI:
		return KindXAI
	case EndpointGoogle:
		return KindGemini
	}
	switch host := hostOf(baseURL); host {
	case "api.kimi.com":
		return KindMoonshot
	case "api.minimax.io", "api.minimaxi.com":
		return KindMiniMax
	case "open.bigmodel.cn":
		return KindZAI
	}
	return KindUnknown
}

// ProxyLike says whether fields that only OpenAI knows must not be sent: every
// base URL that is not OpenAI's own or Azure's.
func (e Endpoint) ProxyLike() bool {
	switch e {
	case EndpointDefault, EndpointOpenAI, EndpointCodex, EndpointAzure:
		return false
	}
	return true
}

func pathOf(baseURL string) string {
	if !strings.Contains(baseURL, "://") {
		baseURL = "https://" + baseURL
	}
	u, err := url.Parse(baseURL)
	if err != nil {
		return ""
	}
	return strings.TrimRight(u.Path, "/")
}
