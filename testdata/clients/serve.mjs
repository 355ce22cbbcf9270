// Runs official clients on request. Each line of standard input is an order,
// {id, client, scene, baseURL, apiKey, model}; each line of standard output is
// what the client showed its user: {id, text, calls, finish, input, output,
// model, attempts, events, aborted, error}. Orders run at the same time.
import { createInterface } from 'node:readline';
import { failure } from './lib.mjs';
import * as openai from './openai.mjs';
import * as aisdk from './aisdk.mjs';
import * as langchain from './langchain.mjs';
import * as agents from './agents.mjs';
import * as anthropic from './anthropic.mjs';

const clients = { ...openai.clients, ...aisdk.clients, ...langchain.clients, ...agents.clients, ...anthropic.clients };

async function run(order) {
  const client = clients[order.client];
  if (!client) throw new Error(`there is no client ${order.client}; there are: ${Object.keys(clients)}`);
  const scene = client[order.scene];
  if (!scene) throw new Error(`${order.client} has no scene ${order.scene}`);
  const seen = { text: '', events: 0 };
  try {
    await scene(order, seen);
  } catch (error) {
    Object.assign(seen, failure(error));
  }
  return seen;
}

function say(value) {
  process.stdout.write(JSON.stringify(value) + '\n');
}

say({ ready: true, node: process.version });
for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  run(order).then(
    (seen) => say({ id: order.id, ...seen }),
    (error) => say({ id: order.id, broken: String(error?.stack ?? error) }),
  );
}
