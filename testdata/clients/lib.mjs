// What all clients share: the prompt of a scene, the tool, and how an error is
// described.

// prompt is what the user says; the scripted backends act on it.
export const prompt = (order) => `scene:${order.prompt}`;

export const weather = {
  name: 'get_weather',
  description: 'The weather in a city.',
  parameters: {
    type: 'object',
    properties: { city: { type: 'string', description: 'Its name.' } },
    required: ['city'],
    additionalProperties: false,
  },
  run: ({ city }) => `sunny in ${city}`,
};

// called notes a call of the tool as its user sees it.
export function called(seen, args) {
  (seen.calls ??= []).push(`${weather.name} ${JSON.stringify(args)}`);
  return weather.run(args);
}

// failure describes an error; one that says "I was aborted" is no error.
export function failure(error) {
  const names = [];
  for (let p = error; p && p !== Object.prototype; p = Object.getPrototypeOf(p)) {
    if (Object.hasOwn(p, 'constructor')) names.push(p.constructor.name);
  }
  const abort = [error?.name, error?.constructor?.name].some((n) => n === 'AbortError' || n === 'APIUserAbortError') || error?.message === 'Aborted' || error?.message === 'AbortError';
  if (abort) return { aborted: true };
  return {
    error: {
      names: [error?.name, ...names].filter((n, i, all) => n && all.indexOf(n) === i),
      status: error?.status ?? error?.statusCode ?? 0,
      code: text(error?.code ?? error?.data?.error?.code ?? error?.error?.code),
      message: text(error?.message ?? error?.error?.message ?? error),
    },
  };
}

const text = (v) => (v === undefined || v === null ? '' : typeof v === 'string' ? v : JSON.stringify(v));
