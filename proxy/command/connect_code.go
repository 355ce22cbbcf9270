package command

import (
	"fmt"
	"strings"
)

// First programs with the SDKs, and what a shell needs.

// nodeKey is the key in a program for Node.
func (to *connection) nodeKey() string {
	if to.keyEnv == "" {
		return `"` + noKey + `", // nobody is asked for one`
	}
	return "process.env." + to.keyEnv + ","
}

func (to *connection) window() string {
	if to.model.window == 0 {
		return ""
	}
	return fmt.Sprintf(" // takes %d tokens, the answer included", to.model.window)
}

func sdkNode(to *connection) (string, error) {
	return fmt.Sprintf(`import OpenAI from "openai";

const client = new OpenAI({
  baseURL: %s,
  apiKey: %s
});
const stream = await client.chat.completions.create({
  model: %s,%s
  messages: [{ role: "user", content: "Say hello" }],
  stream: true,
});
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
process.stdout.write("\n");
`, js(to.base+"/v1"), to.nodeKey(), js(to.model.name), to.window()), nil
}

func sdkPython(to *connection) (string, error) {
	key, read := `"`+noKey+`",  # nobody is asked for one`, ""
	if to.keyEnv != "" {
		key, read = `os.environ[`+js(to.keyEnv)+`],`, "import os\n\n"
	}
	window := ""
	if to.model.window > 0 {
		window = fmt.Sprintf("  # takes %d tokens, the answer included", to.model.window)
	}
	return fmt.Sprintf(`%sfrom openai import OpenAI

client = OpenAI(
    base_url=%s,
    api_key=%s
)
stream = client.chat.completions.create(
    model=%s,%s
    messages=[{"role": "user", "content": "Say hello"}],
    stream=True,
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
`, read, js(to.base+"/v1"), key, js(to.model.name), window), nil
}

func sdkGo(to *connection) (string, error) {
	key, read := `"`+noKey+`"`, ""
	if to.keyEnv != "" {
		key, read = `os.Getenv(`+js(to.keyEnv)+`)`, "\t\"os\"\n"
	}
	return fmt.Sprintf(`package main

import (
	"context"
	"fmt"
	"log"
%s
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

func main() {
	client := openai.NewClient(option.WithBaseURL(%s), option.WithAPIKey(%s))
	stream := client.Chat.Completions.NewStreaming(context.Background(), openai.ChatCompletionNewParams{
		Model:    %s,%s
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Say hello")},
	})
	for stream.Next() {
		if chunk := stream.Current(); len(chunk.Choices) > 0 {
			fmt.Print(chunk.Choices[0].Delta.Content)
		}
	}
	fmt.Println()
	if err := stream.Err(); err != nil {
		log.Fatal(err)
	}
}
`, read, js(to.base+"/v1/"), key, js(to.model.name), to.window()), nil
}

func sdkAnthropic(to *connection) (string, error) {
	return fmt.Sprintf(`import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({
  baseURL: %s,
  apiKey: %s
});
const stream = client.messages.stream({
  model: %s,%s
  max_tokens: %d,
  messages: [{ role: "user", content: "Say hello" }],
});
stream.on("text", (text) => process.stdout.write(text));
await stream.finalMessage();
process.stdout.write("\n");
`, js(to.base), to.nodeKey(), js(to.model.name), to.window(), to.answer()), nil
}

// answer is how many tokens a first answer may have.
func (to *connection) answer() int {
	if to.model.window > 0 {
		return min(1024, to.model.output())
	}
	return 1024
}

func aiSDK(to *connection) (string, error) {
	return fmt.Sprintf(`import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { streamText } from "ai";

const nearside = createOpenAICompatible({
  name: "nearside",
  baseURL: %s,
  apiKey: %s
  includeUsage: true,
});
const { textStream } = streamText({
  model: nearside(%s),%s
  prompt: "Say hello",
});
for await (const text of textStream) process.stdout.write(text);
process.stdout.write("\n");
`, js(to.base+"/v1"), to.nodeKey(), js(to.model.name), to.window()), nil
}

func langchain(to *connection) (string, error) {
	return fmt.Sprintf(`import { ChatOpenAI } from "@langchain/openai";

const model = new ChatOpenAI({
  model: %s,%s
  apiKey: %s
  configuration: { baseURL: %s },
});
for await (const chunk of await model.stream("Say hello")) process.stdout.write(String(chunk.content));
process.stdout.write("\n");
`, js(to.model.name), to.window(), to.nodeKey(), js(to.base+"/v1")), nil
}

func curlSettings(to *connection) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "curl -sS %s \\\n", quoted(to.base+"/v1/chat/completions"))
	if to.ca != "" {
		fmt.Fprintf(&b, "  --cacert %s \\\n", quoted(to.ca))
	}
	if to.keyEnv != "" {
		fmt.Fprintf(&b, "  -H \"authorization: Bearer $%s\" \\\n", to.keyEnv)
	}
	fmt.Fprintf(&b, "  -H 'content-type: application/json' \\\n  -d %s\n", quoted(`{"model":`+js(to.model.name)+`,"messages":[{"role":"user","content":"Say hello"}]}`))
	return b.String(), nil
}

func envSettings(to *connection) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "export OPENAI_BASE_URL=%s\nexport OPENAI_API_BASE=%[1]s\nexport OPENAI_API_KEY=%s\n", quoted(to.base+"/v1"), to.shellKey())
	fmt.Fprintf(&b, "export ANTHROPIC_BASE_URL=%s\nexport ANTHROPIC_API_KEY=%s\n", quoted(to.base), to.shellKey())
	if to.ca != "" {
		fmt.Fprintf(&b, "export NODE_EXTRA_CA_CERTS=%s\nexport SSL_CERT_FILE=%[1]s\n", quoted(to.ca))
	}
	if to.model.window > 0 {
		fmt.Fprintf(&b, "# %s takes %d tokens.\n", to.model.name, to.model.window)
	}
	return b.String(), nil
}
