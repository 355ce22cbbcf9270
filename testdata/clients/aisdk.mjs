// The Vercel AI SDK: @ai-sdk/openai (responses, and chat) and
// @ai-sdk/openai-compatible.
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

const plain = (model, more = () => ({})) => async (order, seen) => {
  answered(await generateText({ model: model(order), prompt: prompt(order), ...more(seen) }), seen);
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

const tools = (seen) => ({
  stopWhen: isStepCount(4),
  tools: {
    [weather.name]: tool({
      description: weather.description,
      inputSchema: jsonSchema(weather.parameters),
      execute: (args) => called(seen, args),
    }),
  },
});

const scenes = (model) => ({
  plain: plain(model),
  stream: stream(model),
  tools: stream(model, tools),
  wholetools: plain(model, tools),
  abort: stream(model),
});

const openai = ({ baseURL, apiKey }) => createOpenAI({ baseURL, apiKey });

export const clients = {
  'aisdk-responses': scenes((order) => openai(order)(order.model)),
  'aisdk-chat': scenes((order) => openai(order).chat(order.model)),
  'aisdk-compatible': scenes((order) =>
    createOpenAICompatible({ name: 'nearside', baseURL: order.baseURL, apiKey: order.apiKey, includeUsage: true })(order.model),
  ),
};
