// @openai/agents over responses and over chat, without its tracing, which
// would call api.openai.com.
import { Agent, OpenAIProvider, Runner, setTracingDisabled, tool } from '@openai/agents';
import OpenAI from 'openai';
import { called, prompt, weather } from './lib.mjs';

setTracingDisabled(true);

const runner = (order, useResponses) =>
  new Runner({
    tracingDisabled: true,
    modelProvider: new OpenAIProvider({ openAIClient: new OpenAI({ apiKey: order.apiKey, baseURL: order.baseURL }), useResponses }),
  });

const agent = (order, seen) =>
  new Agent({
    name: 'forecaster',
    instructions: 'Be brief.',
    model: order.model,
    tools: /tools/i.test(order.scene) ? [tool({ ...weather, strict: true, execute: (args) => called(seen, args) })] : [],
  });

function answered(result, seen) {
  seen.text = result.finalOutput;
  seen.finish = 'completed'; // a run that ends with an answer shows no more
  const response = result.rawResponses.at(-1);
  seen.input = response.usage.inputTokens;
  seen.output = response.usage.outputTokens;
  seen.model = response.providerData?.model;
}

const plain = (responses) => async (order, seen) => {
  answered(await runner(order, responses).run(agent(order, seen), prompt(order)), seen);
};

const stream = (responses) => async (order, seen) => {
  const stop = new AbortController();
  const result = await runner(order, responses).run(agent(order, seen), prompt(order), { stream: true, signal: stop.signal });
  for await (const event of result) {
    seen.events++;
    if (event.type === 'raw_model_stream_event' && event.data.type === 'output_text_delta') {
      seen.text += event.data.delta;
      if (order.scene === 'abort') stop.abort();
    }
  }
  if (stop.signal.aborted) {
    seen.aborted = true;
    return;
  }
  await result.completed;
  answered(result, seen);
};

const scenes = (responses) => ({ plain: plain(responses), wholeTools: plain(responses), stream: stream(responses), tools: stream(responses), abort: stream(responses) });

export const clients = { 'agents-chat': scenes(false), 'agents-responses': scenes(true) };
