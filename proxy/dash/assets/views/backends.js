// Backends: what is known of each, and what was learned of its models.
import { h } from '../dom.js';
import { table } from '../charts.js';
import { ago, count, plain, plural, rate, span } from '../format.js';
import { breaker, chip, empty, ref, route, words } from '../parts.js';
import { state } from '../store.js';

export const title = 'Backends';

// Who says how many slots there are.
const from = { configured: ' (configured)', server: ' (as the server says)', learned: ' (learned)' };

export function view() {
  const now = state.now;
  if (!now) return h('div', { class: 'wait', role: 'status' }, h('p', null, 'Waiting for the first picture…'));
  const list = now.backends || [];
  if (!list.length) return [empty('No backend is known', 'Start a model server on this machine, or name one in the configuration.')];
  return [providers(list), models(now), failures(now)];
}

const scroll = (name, t) => h('div', { class: 'panel scroll', tabindex: '0', role: 'group', 'aria-label': name }, t);

function providers(list) {
  return h('section', { 'aria-labelledby': 'h-prov' }, h('h2', { id: 'h-prov', class: 'first' }, 'Backends'),
    h('div', { class: 'cards wide' }, list.map((b) => h('article', { class: 'card', key: b.provider, 'aria-label': b.provider },
      h('header', null, h('h3', null, b.provider), route(b.route), h('span', { class: 'spacer' }), chip(b.paused ? 'paused' : b.state)),
      b.detail && h('p', { class: 'why' }, plain(b.detail)),
      h('dl', { class: 'pairs tight' }, [
        b.url && ['Address', h('code', null, b.url)], b.kind && ['Software', b.kind], ['Models', count(b.models || 0)],
        b.since && ['Since', ago(b.since)],
        b.queue && ['Slots', b.queue.slots ? `${count(b.queue.running)} of ${count(b.queue.slots)} taken, ${count(b.queue.waiting)} wait${from[b.queue.slots_from] || ''}` : `as many as come; ${count(b.queue.running)} taken`],
        b.queue?.resident > 0 && ['Holds', `${plural(b.queue.resident, 'model')} at once${b.queue.loaded?.length ? `: ${b.queue.loaded.join(', ')}` : ''}`],
        b.queue?.turned_away > 0 && ['Turned away', plural(b.queue.turned_away, 'request')],
        b.queue?.service_seconds > 0 && ['A request takes', span(b.queue.service_seconds)],
        b.breaker && ['Breaker', breaker(b.breaker)],
        b.keys?.length && ['Keys', b.keys.map((k) => `${k.key || k.label || ''}${k.state && k.state !== 'ready' ? ` (${words(k.state)})` : ''}`).join(', ')],
      ].filter(Boolean).map(([k, v]) => h('div', { key: k }, h('dt', null, k), h('dd', null, v)))),
      b.endpoints?.length > 0 && h('ul', { class: 'sub' }, b.endpoints.map((e) => h('li', { key: e.name }, h('span', { class: 'name' }, e.name), chip(e.paused ? 'paused' : e.drain ? 'drained' : e.state || 'unknown'),
        h('span', { class: 'note' }, `${e.url}, weight ${Math.round(e.effective_weight * 100) / 100} of ${e.weight}, ${count(e.in_flight || 0)} in flight`))))))));
}

function models(now) {
  const list = now.targets || [];
  return h('section', { 'aria-labelledby': 'h-models' }, h('h2', { id: 'h-models' }, 'Models and what was learned of them'),
    list.length === 0 ? empty('No model is listed', 'Models that are near, that a chain names or that were asked stand here.')
      : scroll('Models and what was learned of them', table('Models and what was learned of them', ['Model', 'State', 'Reads a prompt at', 'Loads in', 'Tokens for 4 bytes', 'Waiting', 'Why'],
        list.map((t) => [[ref(t.ref), ' ', route(t.route)], chip(t.state), t.prefill_tokens_per_second ? `${rate(t.prefill_tokens_per_second)} tokens/s` : '–', t.load_seconds ? span(t.load_seconds) : '–', t.token_ratio ? t.token_ratio.toFixed(2) : '–', count(t.waiting || 0),
          [t.breaker && /breaker/.test(t.why || '') ? '' : plain(t.why), breaker(t.breaker) || ''].filter(Boolean).join('; ') || '–']), [2, 3, 4, 5])),
    h('p', { class: 'note lead' }, '– stands where nothing was learned yet: rates come from real requests.'));
}

function failures(now) {
  const list = now.failures || [];
  if (!list.length) return null;
  return h('section', { 'aria-labelledby': 'h-fail' }, h('h2', { id: 'h-fail' }, 'How attempts failed since the start'),
    scroll('How attempts failed since the start', table('How attempts failed since the start', ['Target', 'Outcome', 'How often', 'Last', 'In its words'],
      list.map((f) => [ref(f.ref), words(f.outcome), plural(f.count, 'time'), ago(f.last), plain(f.reason) || '–']), [2])));
}
