// The Vercel AI SDK: @ai-sdk/openai (responses, and chat),
// @ai-sdk/openai-compatible and @ai-sdk/anthropic.
import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateText, isStepCount, jsonSchema, streamText, tool } from 'ai';
import { called, prompt, weather } from './lib.mjs';

globalThis.AI_SDK_LOG_WARNINGS = false; // standard output is ours

function answered(result, seen) {
  seen.text = result.text;
  seen.finish = result.finishReason;
  seen.model = result.response.modelId;
  seen.attempts = result.response.headers?.['x-nearside-attempts'];
  seen.input = result.usage.inputTokens;
  seen.output = result.usage.outputTokens;
}

const plain = (model) => async (order, seen) => {
  answered(await generateText({ model: model(order), prompt: prompt(order) }), seen);
};

const stream = (model, more = () => ({})) => async (order, seen) => {
  const stop = new AbortController();
  const options = more(seen);
  const result = streamText({ model: model(order), prompt: prompt(order), abortSignal: stop.signal, onError() {}, ...options });
  let step = '';
  for await (const part of result.fullStream) {
    seen.events++;
    if (part.type === 'start-step') step = '';
    if (part.type === 'text-delta') {
      seen.text = step += part.text;
      if (order.scene === 'abort') stop.abort();
    }
    if (part.type === 'error') throw part.error;
    if (part.type === 'abort') seen.aborted = true;
  }
  if (seen.aborted) return;
  const [text, finishReason, usage, response] = await Promise.all([result.text, result.finishReason, result.usage, result.response]);
  answered({ text, finishReason, usage, response }, seen);
};

const tooled = (seen) => ({
  stopWhen: isStepCount(4),
  tools: {
    [weather.name]: tool({
      description: weather.description,
      inputSchema: jsonSchema(weather.parameters),
      execute: (args) => called(seen, args),
    }),
  },
});

const tools = (model) => stream(model, tooled);

const wholeTools = (model) => async (order, seen) => {
  answered(await generateText({ model: model(order), prompt: prompt(order), ...tooled(seen) }), seen);
};

// turns asks again after a tool turn, with what the SDK keeps of it: on
// responses with store left alone that is references to items.
const turns = (model) => async (order, seen) => {
  const messages = [{ role: 'user', content: prompt(order) }];
  const first = await generateText({ model: model(order), messages, ...tooled(seen) });
  messages.push(...first.responseMessages, { role: 'user', content: 'And tomorrow?' });
  answered(await generateText({ model: model(order), messages, ...tooled(seen) }), seen);
};

const scenes = (model) => ({ plain: plain(model), stream: stream(model), tools: tools(model), wholeTools: wholeTools(model), turns: turns(model), abort: stream(model) });

const openai = ({ baseURL, apiKey }) => createOpenAI({ baseURL, apiKey });

export const clients = {
  'aisdk-responses': scenes((order) => openai(order)(order.model)),
  'aisdk-chat': scenes((order) => openai(order).chat(order.model)),
  'aisdk-compatible': scenes((order) =>
    createOpenAICompatible({ name: 'nearside', baseURL: order.baseURL, apiKey: order.apiKey, includeUsage: true })(order.model),
  ),
  'aisdk-anthropic': scenes(({ baseURL, apiKey, model }) => createAnthropic({ baseURL, apiKey })(model)),
};
