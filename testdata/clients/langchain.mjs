// LangChain's ChatOpenAI over chat and over responses.
import { HumanMessage, ToolMessage } from '@langchain/core/messages';
import { ChatOpenAI } from '@langchain/openai';
import { called, prompt, weather } from './lib.mjs';

const make = (order, useResponsesApi) =>
  new ChatOpenAI({ model: order.model, apiKey: order.apiKey, configuration: { baseURL: order.baseURL }, useResponsesApi });

function answered(message, seen) {
  seen.text = message.text;
  seen.finish = message.response_metadata.finish_reason ?? message.response_metadata.status;
  seen.model = message.response_metadata.model_name ?? message.response_metadata.model;
  seen.input = message.usage_metadata?.input_tokens;
  seen.output = message.usage_metadata?.output_tokens;
}

async function gathered(stream, seen) {
  let all;
  for await (const chunk of stream) {
    seen.events++;
    all = all ? all.concat(chunk) : chunk;
  }
  return all;
}

const plain = (responses) => async (order, seen) => {
  answered(await make(order, responses).invoke([new HumanMessage(prompt(order))]), seen);
};

const stream = (responses) => async (order, seen) => {
  const all = await make(order, responses).stream([new HumanMessage(prompt(order))]);
  let whole;
  for await (const chunk of all) {
    seen.events++;
    seen.text += chunk.text;
    whole = whole ? whole.concat(chunk) : chunk;
  }
  answered(whole, seen);
};

const abort = (responses) => async (order, seen) => {
  const stop = new AbortController();
  for await (const chunk of await make(order, responses).stream([new HumanMessage(prompt(order))], { signal: stop.signal })) {
    seen.events++;
    seen.text += chunk.text;
    if (seen.text) stop.abort();
  }
  seen.aborted = stop.signal.aborted;
};

const ask = {
  streamed: async (model, messages, seen) => gathered(await model.stream(messages), seen),
  whole: (model, messages) => model.invoke(messages),
};

const tools = (responses, ask) => async (order, seen) => {
  const model = make(order, responses).bindTools([
    { type: 'function', function: { name: weather.name, description: weather.description, parameters: weather.parameters } },
  ]);
  const messages = [new HumanMessage(prompt(order))];
  for (let turn = 0; turn < 4; turn++) {
    const message = await ask(model, messages, seen);
    messages.push(message);
    if (!message.tool_calls?.length) return answered(message, seen);
    for (const call of message.tool_calls) {
      messages.push(new ToolMessage({ tool_call_id: call.id, name: call.name, content: called(seen, call.args) }));
    }
  }
  throw new Error('the tool turn has no end');
};

const scenes = (responses) => ({ plain: plain(responses), stream: stream(responses), tools: tools(responses, ask.streamed), wholeTools: tools(responses, ask.whole), abort: abort(responses) });

export const clients = { 'langchain-chat': scenes(false), 'langchain-responses': scenes(true) };
