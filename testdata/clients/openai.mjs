// The OpenAI SDK for Node: chat and responses.
import OpenAI from 'openai';
import { called, prompt, weather } from './lib.mjs';

const make = (order) => new OpenAI({ apiKey: order.apiKey, baseURL: order.baseURL });
const attempts = (response) => response.headers.get('x-nearside-attempts') ?? '';

const chatBody = (order) => ({ model: order.model, messages: [{ role: 'user', content: prompt(order) }] });

async function chatPlain(order, seen) {
  const { data, response } = await make(order).chat.completions.create(chatBody(order)).withResponse();
  seen.attempts = attempts(response);
  seen.text = data.choices[0].message.content;
  seen.finish = data.choices[0].finish_reason;
  seen.model = data.model;
  seen.input = data.usage?.prompt_tokens;
  seen.output = data.usage?.completion_tokens;
}

async function chatStream(order, seen, abort) {
  const { data, response } = await make(order)
    .chat.completions.create({ ...chatBody(order), stream: true, stream_options: { include_usage: true } })
    .withResponse();
  seen.attempts = attempts(response);
  for await (const chunk of data) {
    seen.events++;
    seen.model = chunk.model;
    const choice = chunk.choices[0];
    if (choice?.delta?.content) {
      seen.text += choice.delta.content;
      if (abort) data.controller.abort();
    }
    if (choice?.finish_reason) seen.finish = choice.finish_reason;
    if (chunk.usage) {
      seen.input = chunk.usage.prompt_tokens;
      seen.output = chunk.usage.completion_tokens;
    }
  }
  if (abort) seen.aborted = true; // the SDK ends an aborted stream quietly
}

const chatTools = (stream) => async (order, seen) => {
  const runner = make(order).chat.completions.runTools({
    ...chatBody(order),
    stream,
    tools: [
      {
        type: 'function',
        function: {
          name: weather.name,
          description: weather.description,
          parameters: weather.parameters,
          parse: JSON.parse,
          function: (args) => called(seen, args),
        },
      },
    ],
  });
  if (stream) runner.on('chunk', () => seen.events++);
  seen.text = await runner.finalContent();
  const last = await runner.finalChatCompletion();
  seen.finish = last.choices[0].finish_reason;
  seen.model = last.model;
};

const responsesBody = (order) => ({ model: order.model, input: prompt(order) });

function answered(response, seen) {
  seen.text = response.output_text;
  seen.finish = response.status;
  seen.model = response.model;
  seen.input = response.usage?.input_tokens;
  seen.output = response.usage?.output_tokens;
}

async function responsesPlain(order, seen) {
  const { data, response } = await make(order).responses.create(responsesBody(order)).withResponse();
  seen.attempts = attempts(response);
  answered(data, seen);
}

async function responsesStream(order, seen, abort) {
  const { data, response } = await make(order)
    .responses.create({ ...responsesBody(order), stream: true })
    .withResponse();
  seen.attempts = attempts(response);
  for await (const event of data) {
    seen.events++;
    if (event.type === 'response.output_text.delta') {
      seen.text += event.delta;
      if (abort) data.controller.abort();
    }
    if (event.type === 'response.completed') {
      const streamed = seen.text;
      answered({ ...event.response, output_text: streamed }, seen);
    }
    if (event.type === 'response.failed') throw Object.assign(new Error(event.response.error.message), { code: event.response.error.code });
    if (event.type === 'error') throw Object.assign(new Error(event.message), { code: event.code });
  }
  if (abort) seen.aborted = true;
}

const responsesTools = (streamed) => async (order, seen) => {
  const client = make(order);
  const input = [{ role: 'user', content: prompt(order) }];
  const tools = [{ type: 'function', name: weather.name, description: weather.description, parameters: weather.parameters, strict: true }];
  for (let turn = 0; turn < 4; turn++) {
    const response = await (streamed ? accumulated : whole)(client, { model: order.model, input, tools }, seen);
    input.push(...response.output.map(({ parsed_arguments, ...item }) => item)); // the helper's own field
    const calls = response.output.filter((item) => item.type === 'function_call');
    if (calls.length === 0) return answered(response, seen);
    for (const call of calls) {
      input.push({ type: 'function_call_output', call_id: call.call_id, output: called(seen, JSON.parse(call.arguments)) });
    }
  }
  throw new Error('the tool turn has no end');
};

const whole = (client, body) => client.responses.create(body);

// accumulated is what the SDK's helper makes of a stream's deltas.
async function accumulated(client, body, seen) {
  const stream = client.responses.stream(body);
  stream.on('event', () => seen.events++);
  return stream.finalResponse();
}

async function responsesAccumulated(order, seen) {
  answered(await accumulated(make(order), responsesBody(order), seen), seen);
}

// responsesPrevious continues a stored response, reads it and deletes it.
async function responsesPrevious(order, seen) {
  const client = make(order);
  const first = await client.responses.create(responsesBody(order));
  const again = await client.responses.retrieve(first.id);
  if (again.output_text !== first.output_text) throw new Error(`retrieved ${JSON.stringify(again)}`);
  const second = await client.responses.create({ model: order.model, previous_response_id: first.id, input: 'And tomorrow?' });
  if (second.previous_response_id !== first.id) throw new Error(`previous_response_id is ${second.previous_response_id}`);
  seen.calls = [];
  for await (const item of client.responses.inputItems.list(second.id, { order: 'asc' })) {
    seen.calls.push(`${item.role}: ${item.content.map((part) => part.text).join('')}`);
  }
  answered(second, seen);
  await client.responses.delete(first.id);
  const gone = await client.responses.retrieve(first.id).catch((error) => error);
  if (gone.status !== 404) throw new Error(`after its deletion: ${JSON.stringify(gone)}`);
}

// responsesBackground polls as the SDK's documentation shows, but faster.
async function responsesBackground(order, seen) {
  const client = make(order);
  let response = await client.responses.create({ ...responsesBody(order), background: true });
  seen.calls = [response.status];
  while (response.status === 'queued' || response.status === 'in_progress') {
    await new Promise((resolve) => setTimeout(resolve, 20));
    response = await client.responses.retrieve(response.id);
  }
  answered(response, seen);
}

// responsesCancel cancels a background response while its backend is silent.
async function responsesCancel(order, seen) {
  const client = make(order);
  const { id } = await client.responses.create({ ...responsesBody(order), background: true });
  const response = await client.responses.cancel(id);
  seen.finish = response.status;
  seen.text = (await client.responses.retrieve(id)).status;
}

const scenes = (plain, stream, tools) => ({ plain, stream, tools: tools(true), wholeTools: tools(false), abort: (order, seen) => stream(order, seen, true) });

// models lists what there is, as a user who looks for one.
async function models(order, seen) {
  seen.calls = [];
  for await (const model of make(order).models.list()) seen.calls.push(model.id);
}

export const clients = {
  'openai-chat': { ...scenes(chatPlain, chatStream, chatTools), models },
  'openai-responses': {
    ...scenes(responsesPlain, responsesStream, responsesTools),
    accumulated: responsesAccumulated,
    previous: responsesPrevious,
    background: responsesBackground,
    cancel: responsesCancel,
  },
};
