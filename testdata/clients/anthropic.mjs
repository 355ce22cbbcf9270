// The Anthropic SDK: messages.
import Anthropic from '@anthropic-ai/sdk';
import { called, prompt, weather } from './lib.mjs';

// The SDK's base URL is the root: it adds /v1/messages itself.
const make = (order) => new Anthropic({ apiKey: order.apiKey, baseURL: order.baseURL.replace(/\/v1$/, '') });
const attempts = (response) => response.headers.get('x-nearside-attempts') ?? '';
const body = (order) => ({ model: order.model, max_tokens: 500, messages: [{ role: 'user', content: prompt(order) }] });
const tools = [{ name: weather.name, description: weather.description, input_schema: weather.parameters }];

function answered(message, seen) {
  seen.text = message.content.filter((block) => block.type === 'text').map((block) => block.text).join('');
  seen.finish = message.stop_reason;
  seen.model = message.model;
  seen.input = message.usage.input_tokens;
  seen.output = message.usage.output_tokens;
}

async function plain(order, seen) {
  const { data, response } = await make(order).messages.create(body(order)).withResponse();
  seen.attempts = attempts(response);
  answered(data, seen);
}

// stream accumulates with the SDK's helper, as its users do.
async function stream(order, seen, more = {}) {
  const stream = make(order).messages.stream({ ...body(order), ...more });
  stream.on('streamEvent', () => seen.events++);
  stream.on('text', (text) => {
    seen.text += text;
    if (order.scene === 'abort') stream.abort();
  });
  const message = await stream.finalMessage();
  const told = seen.text;
  answered(message, seen);
  if (seen.text !== told && !more.messages) throw new Error(`the message says ${seen.text} and its deltas ${told}`);
  return message;
}

const turns = (ask) => async (order, seen) => {
  const messages = body(order).messages;
  for (let turn = 0; turn < 4; turn++) {
    const message = await ask(order, seen, { tools, messages });
    messages.push({ role: 'assistant', content: message.content });
    const calls = message.content.filter((block) => block.type === 'tool_use');
    if (calls.length === 0) return;
    messages.push({ role: 'user', content: calls.map((call) => ({ type: 'tool_result', tool_use_id: call.id, content: called(seen, call.input) })) });
  }
  throw new Error('the tool turn has no end');
};

const whole = async (order, seen, more) => {
  const message = await make(order).messages.create({ ...body(order), ...more });
  answered(message, seen);
  return message;
};

async function count(order, seen) {
  const got = await make(order).messages.countTokens({ model: order.model, messages: body(order).messages });
  seen.input = got.input_tokens;
}

export const clients = {
  'anthropic-sdk': { plain, stream: (order, seen) => stream(order, seen), tools: turns(stream), wholeTools: turns(whole), abort: (order, seen) => stream(order, seen), count },
};
