// What the page knows, and that it is drawn again when that changes.

const historyMax = 60;
const exchangesMax = 200;
let early = [];

/** state is everything that views draw. */
export const state = {
  view: 'now',
  session: null, // { login, operator, sees_all, label, csrf }
  conn: { state: 'connecting' },
  now: null, // the last picture
  history: [], // { at, near, far, by }
  exchanges: null, // the last receipts, newest first; null before they are known
  open: new Set(), // ids of exchanges that are unfolded
  filter: 'all',
  busy: null, // the action under way
  toast: null,
  usage: { range: 'day', data: null, error: null },
  config: { data: null, error: null },
  width: 1000,
};

let drawing = false;
let draw = () => {};

/** drawn sets what draws the page. */
export const drawn = (f) => { draw = f; };

/** changed has the page drawn again, once a frame at most. */
export function changed() {
  if (drawing) return;
  drawing = true;
  // Timers go on where frames do not: in a window that is not painted.
  const go = () => { if (drawing) { drawing = false; draw(); } };
  requestAnimationFrame(go);
  setTimeout(go, 100);
}

/** pictured takes in a picture. */
export function pictured(now) {
  const last = state.now;
  if (last && last.started !== now.started) { state.history = []; state.exchanges = null; } // another process
  state.now = now;
  state.history.push({ at: Date.parse(now.at), near: now.near_tokens_per_second || 0, far: now.far_tokens_per_second || 0, by: now.tokens_per_second || {}, flights: (now.in_flight || []).length + (now.in_flight_more || 0) });
  if (state.history.length > historyMax) state.history.shift();
  changed();
}

/** settled takes in receipts, those that are known already among them. */
export function settled(...receipts) {
  const ended = (r) => Date.parse(r.started) + r.took_ns / 1e6;
  const by = new Map((state.exchanges || []).concat(early, receipts).map((r) => [r.id, r]));
  const all = [...by.values()].sort((a, b) => ended(b) - ended(a)).slice(0, exchangesMax);
  if (state.exchanges) state.exchanges = all;
  else early = all; // until the list is read
  changed();
}

/** listed takes in the list of receipts as the server has it. */
export function listed(receipts) {
  state.exchanges = state.exchanges || [];
  settled(...receipts);
  early = [];
}
