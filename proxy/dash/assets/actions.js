// What the page asks of the server.
import { changed, state } from './store.js';

/** may says whether whoever looks may change things. */
export const may = () => !!state.session?.operator;

/** get fetches JSON; a refusal becomes an Error with the server's own words. */
export async function get(path) {
  const r = await fetch(path, { headers: { Accept: 'application/json' }, credentials: 'same-origin', cache: 'no-store' });
  return answer(r);
}

async function answer(r) {
  const text = await r.text();
  let body = null;
  try { body = JSON.parse(text); } catch { /* not ours */ }
  if (r.ok) return body;
  const e = new Error(body?.error?.message || `the proxy answered with ${r.status}`);
  e.status = r.status;
  throw e;
}

/** post sends JSON with the token that tells our page from others. */
export async function post(path, body) {
  const r = await fetch(path, { method: 'POST', credentials: 'same-origin', headers: { 'Content-Type': 'application/json', Accept: 'application/json', 'X-Nearside-Csrf': state.session?.csrf || '' }, body: JSON.stringify(body || {}) });
  return answer(r);
}

const done = { pause: 'is paused', drain: 'is being drained', resume: 'takes requests again', reset: 'was reset' };

/** act has a backend or a target paused, drained, resumed or reset. */
export async function act(what, ref) {
  state.busy = { ref, what };
  changed();
  try {
    await post(`/proxy/targets/${ref.split('/').map(encodeURIComponent).join('/')}/${what}`);
    toast(`${ref} ${done[what]}`);
  } catch (e) {
    toast(`${ref} could not be changed: ${e.message}`, true);
  }
  state.busy = null;
  changed();
}

let fading;

/** toast shows a line for a while, and says it. */
export function toast(text, bad = false) {
  state.toast = { text, bad };
  const said = document.getElementById('said');
  if (said) said.textContent = text;
  clearTimeout(fading);
  fading = setTimeout(() => { state.toast = null; changed(); }, bad ? 12000 : 5000);
  changed();
}
