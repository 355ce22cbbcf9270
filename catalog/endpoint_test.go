package catalog

import "testing"

// The class decides which fields are stripped: a look-alike of OpenAI's host
// must not pass for it.
func TestEndpointClasses(t *testing.T) {
	f := func(baseURL string, want Endpoint, proxyLike bool) {
		t.Helper()
		if got := EndpointOf(baseURL); got != want || got.ProxyLike() != proxyLike {
			t.Errorf("EndpointOf(%q) = %q, proxy-like %v; want %q, %v", baseURL, got, got.ProxyLike(), want, proxyLike)
		}
	}
	f("", EndpointDefault, false)
	f("http://[", EndpointInvalid, true)
	f("https://API.openai.com/v1", EndpointOpenAI, false)
	f("api.openai.com", EndpointOpenAI, false)
	f("https://chatgpt.com/backend-api/codex", EndpointCodex, false)
	f("https://me.openai.azure.com/openai/v1", EndpointAzure, false)
	f("https://openai.azure.com", EndpointCustom, true)
	f("https://api.openai.com.evil.example", EndpointCustom, true)
	f("https://evil.example/api.openai.com", EndpointCustom, true)
	f("https://api.anthropic.com", EndpointAnthropic, true)
	f("https://openrouter.ai/api/v1", EndpointOpenRouter, true)
	f("https://eu.openrouter.ai/api/v1", EndpointOpenRouter, true)
	f("https://notopenrouter.ai", EndpointCustom, true)
	f("https://api.deepseek.com", EndpointDeepSeek, true)
	f("https://api.grok.x.ai", EndpointXAI, true)
	f("https://api.individual.githubcopilot.com", EndpointCopilot, true)
	f("https://europe-west1-aiplatform.googleapis.com", EndpointVertex, true)
	f("https://api.moonshot.ai/v1/", EndpointMoonshot, true)
	f("https://api.moonshot.ai/v2", EndpointCustom, true)
	f("https://dashscope.aliyuncs.com/compatible-mode/v1", EndpointModelStudio, true)
	f("https://dashscope.aliyuncs.com/v1", EndpointCustom, true)
	f("http://127.0.0.1:1234/v1", EndpointLocal, true)
	f("http://[::1]:1234/v1", EndpointLocal, true)
	f("http://box.local", EndpointLocal, true)
	f("http://192.168.1.20:11434/v1", EndpointCustom, true)
}
