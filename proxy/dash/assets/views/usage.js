// Usage: what was used, what it cost and what near answers saved, over time.
import { h } from '../dom.js';
import { bars, figure, table } from '../charts.js';
import { ago, count, money, percent, plural, short, span } from '../format.js';
import { empty, ref } from '../parts.js';
import { get } from '../actions.js';
import { changed, state } from '../store.js';

export const title = 'Usage';

const ranges = { day: ['24 hours', '24h', 'hour'], week: ['7 days', '7d', 'day'], month: ['30 days', '30d', 'day'] };
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || 'UTC';
let asked = 0;
let again;

export function enter() {
  load();
  clearTimeout(again);
  const tick = () => { if (state.view === 'usage') { load(); again = setTimeout(tick, 30000); } };
  again = setTimeout(tick, 30000);
}

async function load() {
  const [, since, step] = ranges[state.usage.range];
  const mine = ++asked;
  const q = (extra) => get(`/proxy/usage?since=${since}&zone=${encodeURIComponent(zone)}&${extra}`);
  try {
    const [series, models, keys] = await Promise.all([q(`by=route&step=${step}`), q('by=model'), q('by=key')]);
    if (mine !== asked) return;
    state.usage = { ...state.usage, data: { series, models, keys, step }, error: null };
  } catch (e) {
    if (mine !== asked) return;
    state.usage = { ...state.usage, error: e, data: e.status ? null : state.usage.data };
  }
  changed();
}

const sumOf = (p, route) => p.sums.find((s) => s.group[0] === route) || { input: 0, output: 0, cost_usd: 0, saved_usd: 0, exchanges: 0, failed: 0 };
const hour = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', hour12: false });
const dayOf = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });
const full = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit', hour12: false });

export function view() {
  const u = state.usage;
  const bar = h('div', { class: 'bar', role: 'group', 'aria-label': 'Of what time' }, Object.entries(ranges).map(([id, [text]]) => h('button', { type: 'button', key: id, class: 'pill', 'aria-pressed': u.range === id ? 'true' : 'false', onclick: () => { state.usage = { range: id, data: null, error: null }; load(); changed(); } }, text)));
  if (u.error && !u.data) {
    return u.error.status === 404
      ? [empty('No account is kept', 'With it you see here what each model and key used, what it cost, and what answering near has saved. It holds no content. Switch it on and start the proxy again:', h('pre', { tabindex: '0' }, 'proxy: {\n  ledger: { keep: true },\n},'))]
      : [bar, empty('The account could not be read', u.error.message)];
  }
  if (!u.data) return [bar, h('div', { class: 'wait', role: 'status' }, h('p', null, 'Adding up…'))];
  const { series, models, keys, step } = u.data;
  const t = models.total;
  if (!t.exchanges) return [bar, empty('Nothing was asked in this time', 'As soon as requests are answered their tokens, cost and savings are added up here.')];
  return [bar, tiles(models), charts(series.points || [], step), by(models, keys), limits(state.now?.keys || [])];
}

function tiles(m) {
  const t = m.total;
  const tokens = (s) => s.input + s.output;
  const tile = (name, value, more) => h('div', { class: 'tile', key: name }, h('dt', null, name), h('dd', null, h('span', { class: 'value' }, value), h('span', { class: 'more' }, more)));
  return h('dl', { class: 'tiles' },
    tile('Saved by answering near', money(t.saved_usd), t.saved_usd ? 'at the price of the far model that would have answered' : m.near.exchanges ? 'no far model with a price to compare with' : 'nothing was answered near'),
    tile('Spent far', money(t.cost_usd), `${plural(m.far.exchanges, 'exchange')} went far`),
    tile('Tokens', short(tokens(t)), `${short(t.input)} read${t.cached ? ` (${percent(t.cached, t.input)} from cache)` : ''}, ${short(t.output)} written`),
    tile('Near', percent(tokens(m.near), tokens(t)), `of the tokens, in ${plural(m.near.exchanges, 'exchange')}${t.failed ? `; ${count(t.failed)} of all failed` : ''}`));
}

function charts(points, step) {
  const label = (p) => (step === 'hour' ? hour : dayOf).format(new Date(p.start));
  const when = (p) => (step === 'hour' ? full : dayOf).format(new Date(p.start));
  const rows = points.map((p) => ({ p, near: sumOf(p, 'near'), far: sumOf(p, 'far') }));
  const wide = state.width >= 900;
  const width = Math.max(240, (wide ? (state.width - 14) / 2 : state.width) - (state.width < 600 ? 30 : 42));
  const tk = (s) => s.input + s.output;
  const busy = rows.filter((r) => tk(r.near) + tk(r.far) + r.near.exchanges + r.far.exchanges > 0);
  const last = busy.length ? when(busy[busy.length - 1].p) : 'never';
  return h('section', { 'aria-labelledby': 'h-time' }, h('h2', { id: 'h-time' }, 'Over time'), h('div', { class: 'figures' },
    figure({ key: 'tokens', title: `Tokens each ${step}`, legend: [['near', 'near'], ['far', 'far']],
      chart: bars(rows.map((r) => ({ label: label(r.p), tip: `${when(r.p)}: ${count(tk(r.near))} near, ${count(tk(r.far))} far`, parts: { near: tk(r.near), far: tk(r.far) } })), ['near', 'far'], { width, write: short, label: `Bar chart of tokens each ${step}, near and far; last used ${last}. The figures are in the table below it.` }),
      table: table(`Tokens each ${step}`, [step === 'hour' ? 'Hour' : 'Day', 'Near', 'Far', 'Exchanges'], busy.map((r) => [when(r.p), count(tk(r.near)), count(tk(r.far)), count(r.near.exchanges + r.far.exchanges)]), [1, 2, 3]) }),
    figure({ key: 'money', title: `Money each ${step}`, legend: [['saved', 'saved by answering near'], ['cost', 'spent far']],
      chart: bars(rows.map((r) => ({ label: label(r.p), tip: `${when(r.p)}: ${money(r.near.saved_usd)} saved, ${money(r.far.cost_usd + r.near.cost_usd)} spent`, parts: { saved: r.near.saved_usd, cost: r.far.cost_usd + r.near.cost_usd } })), ['saved', 'cost'], { width, left: 66, write: money, label: `Bar chart of money saved and spent each ${step}. The figures are in the table below it.` }),
      table: table(`Money each ${step}`, [step === 'hour' ? 'Hour' : 'Day', 'Saved', 'Spent'], busy.map((r) => [when(r.p), money(r.near.saved_usd), money(r.far.cost_usd + r.near.cost_usd)]), [1, 2]) })));
}

function by(models, keys) {
  const heads = ['Exchanges', 'Failed', 'Read', 'Written', 'First token', 'Spent', 'Saved'];
  const cells = (s) => [count(s.exchanges), count(s.failed), short(s.input), short(s.output), s.first_content_ms ? span(s.first_content_ms / 1000) : '–', money(s.cost_usd), money(s.saved_usd)];
  const right = heads.map((_, i) => i + 1);
  const named = (id) => (id ? state.now?.names?.[id] || id : 'no key');
  const part = (id, text, first, sums, name) => h('section', { 'aria-labelledby': id, key: id }, h('h2', { id }, text), h('div', { class: 'panel scroll', tabindex: '0', role: 'group', 'aria-label': text }, table(text, [first, ...heads], sums.map((s) => [name(s.group[0]), ...cells(s)]), right)));
  return [part('h-models', 'By model', 'Model', models.sums, (id) => (id ? ref(id) : 'none was reached')),
    keys.sums.length > 1 || (keys.sums[0] && keys.sums[0].group[0]) ? part('h-keys', 'By key', 'Key', keys.sums, named) : null];
}

/** limits is what each key may use, and what of it is gone. */
function limits(keys) {
  if (!keys.length) return null;
  const role = (k) => (k.operator ? 'operator' : k.sees_all ? 'may look' : '');
  const gone = (usd, tokens) => (usd || tokens ? `${money(usd)}, ${short(tokens)} tokens` : '–');
  return h('section', { 'aria-labelledby': 'h-limits' }, h('h2', { id: 'h-limits' }, 'Keys and their limits'),
    h('div', { class: 'panel scroll', tabindex: '0', role: 'group', 'aria-label': 'Keys and their limits' }, table('Keys and their limits', ['Key', 'Limits', 'Today', 'This month', 'Under way', 'Last used'],
      keys.map((k) => [[k.name, role(k) && h('span', { class: 'note' }, ` ${role(k)}`)], k.limits?.length ? k.limits.join(', ') : 'none', gone(k.day_usd, k.day_tokens), gone(k.month_usd, k.month_tokens), count(k.running || 0), k.last_used ? ago(k.last_used) : 'never']), [2, 3, 4, 5])));
}
