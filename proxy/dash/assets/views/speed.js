// Speed: how long each target lets people wait, and how fast it tells.
import { h } from '../dom.js';
import { dots, figure, table } from '../charts.js';
import { count, ns, rate, span, time } from '../format.js';
import { empty, ref, route } from '../parts.js';
import { state } from '../store.js';

export const title = 'Speed';

/** quantile of sorted numbers. */
function quantile(sorted, q) {
  if (!sorted.length) return NaN;
  const at = (sorted.length - 1) * q;
  const low = Math.floor(at);
  return sorted[low] + (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]) * (at - low);
}

/** targets gathers what the remembered receipts say of each. */
export function targets(receipts) {
  const by = new Map();
  for (const r of receipts || []) {
    if (r.outcome !== 'ok' || !r.model || !r.first_content_ns) continue;
    if (!by.has(r.model)) by.set(r.model, { ref: r.model, route: r.route, points: [] });
    const served = (r.attempts || []).findLast((a) => a.outcome === 'ok');
    // Its own part: what came before it was another's, or a queue's.
    const first = served ? served.took_ns / 1e9 : r.first_content_ns / 1e9;
    const told = (r.took_ns - r.first_content_ns) / 1e9;
    const tokens = r.usage_reported ? r.usage.output : r.events;
    const gap = r.stream && tokens > 2 && told > 0 ? told / (tokens - 1) : NaN;
    by.get(r.model).points.unshift({ r, first, gap });
  }
  const sort = (all) => all.filter((v) => v > 0).sort((a, b) => a - b);
  return [...by.values()].map((t) => ({ ...t, firsts: sort(t.points.map((p) => p.first)), gaps: sort(t.points.map((p) => p.gap)) }))
    .sort((a, b) => b.points.length - a.points.length);
}

export function view() {
  if (!state.exchanges) return h('div', { class: 'wait', role: 'status' }, h('p', null, 'Reading the last exchanges…'));
  const all = targets(state.exchanges);
  if (!all.length) return [empty('Nothing was answered yet', 'Each answer adds a point here: how long its first token took, and how long the ones after it.')];
  return [
    h('p', { class: 'note lead' }, `From the last ${count(state.exchanges.length)} exchanges. A point is an exchange, the newest on the right; the dashed line is the median. The scale is logarithmic.`),
    h('div', { class: 'panel scroll', tabindex: '0', role: 'group', 'aria-label': 'Speed by target' }, table('Speed by target', ['Target', 'Answers', 'First token, median', '95 %', 'Between tokens, median', '95 %', 'Tokens per second'],
      all.map((t) => [[ref(t.ref), ' ', route(t.route)], count(t.points.length), span(quantile(t.firsts, 0.5)), span(quantile(t.firsts, 0.95)), span(quantile(t.gaps, 0.5)), span(quantile(t.gaps, 0.95)), t.gaps.length ? rate(1 / quantile(t.gaps, 0.5)) : '–']), [1, 2, 3, 4, 5, 6])),
    all.map((t) => target(t)),
  ];
}

function target(t) {
  const wide = state.width >= 900;
  const width = Math.max(240, (wide ? (state.width - 14) / 2 : state.width) - (state.width < 600 ? 30 : 42));
  const chart = (name, points, sorted) => (sorted.length ? figure({ key: `${t.ref}-${name}`, title: name,
    chart: dots(points.map((p) => ({ value: p.value, kind: t.route, tip: `${time(p.r.started)}: ${span(p.value)}` })), { width, write: span, median: quantile(sorted, 0.5), label: `${name} of ${t.ref}: ${sorted.length} exchanges, median ${span(quantile(sorted, 0.5))}, from ${span(sorted[0])} to ${span(sorted[sorted.length - 1])}` }),
    table: table(`${name} of ${t.ref}`, ['When', name, 'Whole'], points.slice().reverse().map((p) => [time(p.r.started), span(p.value), ns(p.r.took_ns)]), [1, 2]) })
    : h('div', { class: 'figure', key: `${t.ref}-${name}` }, h('h3', null, name), h('p', { class: 'note' }, 'No streamed answer was long enough to tell.')));
  return h('section', { key: t.ref, 'aria-label': t.ref }, h('h2', null, ref(t.ref), ' ', route(t.route)),
    h('div', { class: 'figures' },
      chart('First token', t.points.filter((p) => p.first > 0).map((p) => ({ ...p, value: p.first })), t.firsts),
      chart('Between tokens', t.points.filter((p) => p.gap > 0).map((p) => ({ ...p, value: p.gap })), t.gaps)));
}
