// Exchanges: the last requests, each with the trail of its attempts.
import { h } from '../dom.js';
import { table, timeline } from '../charts.js';
import { bytes, count, ns, plain, span, time } from '../format.js';
import { button, empty, icon, ref, route, words } from '../parts.js';
import { changed, state } from '../store.js';

export const title = 'Exchanges';

const filters = [['all', 'All'], ['failed', 'Failed'], ['far', 'Went far'], ['tried', 'More than one try']];
const outcomes = { ok: 'answered', error: 'failed', rejected: 'refused', client_closed: 'client left', shutdown: 'cut by shutdown' };

export const outcomeOf = (r) => outcomes[r.outcome] || words(r.outcome);

const tries = (r) => (r.attempts || []).filter((a) => !a.skipped).length;
const tests = { all: () => true, failed: (r) => r.outcome !== 'ok', far: (r) => r.route === 'far', tried: (r) => tries(r) > 1 };

export function view() {
  const all = state.exchanges;
  if (!all) return h('div', { class: 'wait', role: 'status' }, h('p', null, 'Reading the last exchanges…'));
  const shown = all.filter(tests[state.filter]);
  return [
    h('div', { class: 'bar', role: 'group', 'aria-label': 'Which exchanges are shown' }, filters.map(([id, text]) => h('button', { type: 'button', key: id, class: 'pill', 'aria-pressed': state.filter === id ? 'true' : 'false', onclick: () => { state.filter = id; changed(); } },
      text, ' ', h('span', { class: 'n' }, count(all.filter(tests[id]).length))))),
    all.length === 0 ? empty('No exchange yet', 'Send a request and it appears here, newest first:', h('pre', { tabindex: '0' }, `curl ${location.origin}/v1/chat/completions -H 'content-type: application/json' \\\n  -d '{"model":"default","messages":[{"role":"user","content":"Hello"}]}'`))
      : shown.length === 0 ? empty('None of them', 'No exchange that is remembered is of this kind.')
        : h('ul', { class: 'exchanges' }, shown.map(row)),
  ];
}

function tone(r) { return r.outcome === 'ok' ? 'good' : r.outcome === 'client_closed' ? 'quiet' : 'bad'; }

function row(r) {
  const open = state.open.has(r.id);
  const n = tries(r);
  const toggle = () => { if (open) state.open.delete(r.id); else state.open.add(r.id); changed(); };
  return h('li', { key: r.id, class: `exchange ${tone(r)}${open ? ' open' : ''}` },
    h('button', { type: 'button', class: 'summary', 'aria-expanded': open ? 'true' : 'false', 'aria-controls': `d-${r.id}`, onclick: toggle },
      icon('chevron'),
      h('span', { class: 'when' }, time(r.started)),
      h('span', { class: `outcome ${tone(r)}` }, outcomeOf(r), r.outcome !== 'ok' && r.status ? h('span', { class: 'note' }, ` ${r.status}`) : null),
      h('span', { class: 'to' }, ref(r.model || r.requested), route(r.route)),
      h('span', { class: 'facts' },
        r.key && h('span', { class: 'key' }, state.now?.names?.[r.key] || r.key),
        n > 1 && h('span', { class: 'warn' }, `${n} attempts`),
        h('span', { class: 'fact first' }, r.first_content_ns ? [h('span', { class: 'note' }, 'first '), ns(r.first_content_ns)] : null),
        h('span', { class: 'fact took' }, h('span', { class: 'note' }, 'took '), ns(r.took_ns)),
        h('span', { class: 'fact tokens' }, r.usage_reported ? [count(r.usage.output), h('span', { class: 'note' }, ' tokens')] : null))),
    open && h('div', { class: 'detail', id: `d-${r.id}` }, detail(r)));
}

/** trail turns a receipt into rows of a timeline. */
export function trail(r) {
  const end = r.took_ns / 1e9;
  const rows = [];
  for (const a of r.attempts || []) {
    if (a.skipped) continue;
    const from = (a.at_ns || 0) / 1e9;
    const to = from + a.took_ns / 1e9;
    const parts = [];
    const queued = (a.queued_ns || 0) / 1e9;
    const waited = (a.waited_ns || 0) / 1e9;
    if (queued > 0) parts.push({ kind: 'queued', from: Math.max(0, from - queued), to: from, tip: `in the queue for ${span(queued)}` });
    const ok = a.outcome === 'ok';
    if (waited > 0) parts.push({ kind: 'waited', from, to: Math.min(from + waited, to), tip: `waited ${span(waited)} for the model` });
    parts.push({ kind: ok ? 'asked' : 'failed', from: Math.min(from + waited, to), to, tip: ok ? `first token after ${span(to - from)}` : `${words(a.outcome)} after ${span(to - from)}` });
    let mark;
    if (ok) {
      mark = to;
      parts.push({ kind: r.outcome === 'ok' ? 'told' : 'broken', from: to, to: Math.max(end, to), tip: `answer for ${span(end - to)}` });
    }
    rows.push({ label: `${a.ref}${a.endpoint ? ` at ${a.endpoint}` : ''}${ok ? '' : `: ${words(a.outcome)}`}`, parts, mark });
  }
  return { rows, end };
}

function detail(r) {
  const { rows, end } = trail(r);
  const width = Math.max(240, state.width - 48);
  const legend = [['queued', 'queue'], ['waited', 'model loads'], ['asked', 'until the first token'], ['told', 'answer'], ['failed', 'failed attempt']]
    .filter(([k]) => rows.some((x) => x.parts.some((p) => p.kind === k)));
  const attempts = r.attempts || [];
  const facts = [
    ['Request', h('code', null, r.id)], ['Asked for', r.requested || '–'], ['Answered by', r.model && r.outcome === 'ok' ? `${r.model}${r.endpoint ? ` at ${r.endpoint}` : ''}` : '–'],
    r.route_reason && ['Went far because', r.route_reason], r.code && ['Error', `${r.code} (${r.status})`], r.abort_phase && ['Client left during', words(r.abort_phase)], r.stopped && ['No further try', words(r.stopped)],
    ['Tokens', r.usage_reported ? `${count(r.usage.input)} in${r.usage.cached ? ` (${count(r.usage.cached)} from cache)` : ''}, ${count(r.usage.output)} out${r.usage.reasoning ? ` (${count(r.usage.reasoning)} reasoning)` : ''}` : 'not reported by the backend'],
    ['First token', r.first_content_ns ? ns(r.first_content_ns) : '–'], ['Took', ns(r.took_ns)], ['Our own part', ns(r.own_ns)], r.queued_ns && ['Queued', ns(r.queued_ns)],
    ['Sent', `${bytes(r.bytes_in)} in, ${bytes(r.bytes_out)} out${r.events ? `, ${count(r.events)} events` : ''}`],
    r.dropped?.length && ['Left out', r.dropped.join(', ')], r.repaired?.length && ['Repaired', r.repaired.join(', ')], r.promoted?.length && ['Calls found in text', r.promoted.join(', ')],
    r.truncated && ['Shortened by', `${r.truncated} items`], r.format && ['Format', r.format],
  ].filter(Boolean);
  return [
    rows.length > 0 && h('div', { class: 'trail' },
      h('ul', { class: 'legend' }, legend.map(([k, t]) => h('li', { key: k }, h('span', { class: `swatch ${k}`, 'aria-hidden': 'true' }), t))),
      timeline(rows, end, { width, write: span, label: `Timeline of ${r.id}: ${rows.map((x) => `${x.label}, ${x.parts.map((p) => p.tip).join(', ')}`).join('; ')}` })),
    attempts.length > 0 && h('div', { class: 'scroll', tabindex: '0', role: 'group', 'aria-label': 'Attempts' }, table('Attempts', ['Target', 'Outcome', 'Why', 'From', 'Took'], attempts.map((a) => [
      `${a.ref}${a.endpoint ? ` at ${a.endpoint}` : ''}`, a.skipped ? `passed over: ${words(a.outcome)}` : a.outcome === 'ok' ? 'answered' : words(a.outcome), plain(a.reason) || (a.outcome === 'ok' ? 'first token came' : '–'),
      a.skipped ? '–' : span((a.at_ns || 0) / 1e9), a.skipped ? '–' : ns(a.took_ns)]), [3, 4])),
    h('dl', { class: 'pairs' }, facts.map(([k, v]) => h('div', { key: k }, h('dt', null, k), h('dd', null, v)))),
    navigator.clipboard && h('p', null, button(null, 'Copy as JSON', { onclick: () => navigator.clipboard.writeText(JSON.stringify(r, null, 2)) })),
  ];
}
