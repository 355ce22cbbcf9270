// Now: what happens this second.
import { h } from '../dom.js';
import { spark } from '../charts.js';
import { count, plain, plural, rate, span } from '../format.js';
import { breaker, button, chip, empty, ref, route, tone } from '../parts.js';
import { state } from '../store.js';
import { act, may } from '../actions.js';

export const title = 'Now';

export function view() {
  const now = state.now;
  if (!now) return h('div', { class: 'wait', role: 'status' }, h('p', null, 'Waiting for the first picture…'));
  return [headline(now), tiles(now), flights(now), state.session.sees_all ? backends(now) : others(now)];
}

/** headline answers the question that people open the page with. */
function headline(now) {
  const d = now.default;
  if (!d) return null;
  const held = now.state === 'draining';
  return h('section', { class: `headline ${held ? 'held' : d.first ? d.route : 'bad'}`, 'aria-label': 'What a request would do now' },
    held ? h('p', { class: 'big' }, 'The proxy is shutting down: requests under way finish, new ones are refused.')
      : d.first ? h('p', { class: 'big' }, 'A request now goes to ', ref(d.first), ' ', route(d.route))
        : h('p', { class: 'big' }, 'A request now finds nobody to answer it'),
    !d.first && d.why && h('p', { class: 'why' }, plain(d.why)),
    now.network?.down && h('p', { class: 'why' }, 'This machine’s network is down: far targets are passed over.'),
    now.config && !now.config.ok && h('p', { class: 'why' }, 'The changed configuration has mistakes and is not used. ', h('a', { href: '#config' }, 'See what is wrong'), '.'),
    d.steps?.length > 1 && h('ol', { class: 'chain', 'aria-label': 'The chain, in order' }, d.steps.map((s, i) => h('li', { key: s.ref, class: s.skip ? 'skipped' : s.ref === d.first ? 'first' : '' },
      h('span', { class: 'nth', 'aria-hidden': 'true' }, i + 1), ref(s.ref), s.skip ? h('span', { class: 'reason' }, `passed over: ${plain(s.reason)}`) : h('span', { class: 'reason' }, s.ref === d.first ? 'asked first' : `then: ${plain(s.reason)}`)))));
}

function tile(name, value, unit, more, chart) {
  return h('div', { class: 'tile', key: name }, h('dt', null, name), h('dd', null, h('span', { class: 'value' }, value), unit && h('span', { class: 'unit' }, ` ${unit}`), more && h('span', { class: 'more' }, more), chart));
}

function tiles(now) {
  const flights = (now.in_flight || []).length + (now.in_flight_more || 0);
  const waiting = (now.in_flight || []).filter((f) => f.stage === 'queued' || f.stage === 'waiting').length;
  const near = now.near_tokens_per_second || 0;
  const far = now.far_tokens_per_second || 0;
  const recent = (state.exchanges || []).filter((r) => Date.now() - Date.parse(r.started) < 15 * 60e3);
  const served = recent.filter((r) => r.outcome === 'ok');
  const nearly = served.filter((r) => r.route === 'near').length;
  const failed = recent.filter((r) => r.outcome === 'error').length;
  const h_ = state.history;
  return h('dl', { class: 'tiles', 'aria-label': 'Figures' },
    tile('In flight', count(flights), flights === 1 ? 'request' : 'requests', waiting === 0 ? 'none waits' : waiting === 1 ? 'one of them waits' : `${count(waiting)} of them wait`,
      spark([{ kind: 'plain', values: h_.map((p) => p.flights) }], { slots: 60 })),
    tile('Tokens', rate(near + far), 'per second', far > 0 ? `${rate(near)} near, ${rate(far)} far` : near > 0 ? 'all of them near' : 'nothing is told now',
      spark([{ kind: 'near', values: h_.map((p) => p.near) }, { kind: 'far', values: h_.map((p) => p.far) }], { slots: 60 })),
    tile('Answered near', served.length ? `${Math.round((100 * nearly) / served.length)}` : '–', served.length ? '%' : '', served.length ? `of ${plural(served.length, 'answer')} in 15 minutes` : 'no answer in 15 minutes',
      h('span', { class: 'meter', 'aria-hidden': 'true' }, h('span', { class: 'near', css: { width: served.length ? `${(100 * nearly) / served.length}%` : '0%' } }))),
    tile('Failed', count(failed), recent.length ? `of ${count(recent.length)}` : '', recent.length ? 'in 15 minutes' : 'nothing was asked for 15 minutes',
      h('span', { class: 'meter', 'aria-hidden': 'true' }, h('span', { class: 'bad', css: { width: recent.length ? `${(100 * failed) / recent.length}%` : '0%' } }))));
}

const stages = { begun: 'starting', waiting: 'waits for the model', queued: 'in the queue', asking: 'prompt is read', answering: 'answering' };

function flights(now) {
  const list = now.in_flight || [];
  return h('section', { 'aria-labelledby': 'h-flights' }, h('h2', { id: 'h-flights' }, 'In flight'),
    list.length === 0 ? empty('Nothing is under way', 'Requests appear here the moment they arrive, with where they are and whose they are.')
      : h('ul', { class: 'flights' }, list.map(flight)),
    now.in_flight_more > 0 && h('p', { class: 'note' }, `and ${plural(now.in_flight_more, 'more request')}`));
}

function flight(f) {
  const inStage = Math.max(0, f.seconds - (f.stage_after || 0));
  let what = stages[f.stage] || f.stage;
  if (f.stage === 'queued' && f.queue_ahead !== undefined) what = f.queue_ahead === 0 ? 'next in the queue' : `number ${f.queue_ahead + 1} in the queue`;
  const answering = f.stage === 'answering';
  const perSecond = answering && f.events && inStage > 0.5 ? f.events / inStage : 0;
  return h('li', { key: f.request_id, class: `flight ${f.stage}` },
    h('div', { class: 'what' },
      h('span', { class: `stage ${f.stage}` }, h('span', { class: 'pulse', 'aria-hidden': 'true' }), what),
      f.expected_seconds > 0 && f.stage === 'queued' && h('span', { class: 'note' }, `about ${span(f.expected_seconds)} more`)),
    h('div', { class: 'who' },
      f.ref ? ref(f.ref) : ref(f.requested), route(f.route),
      f.ref && f.requested && f.requested !== f.ref && h('span', { class: 'note' }, `asked for ${f.requested}`)),
    h('div', { class: 'facts' },
      f.key && h('span', { class: 'key' }, state.now?.names?.[f.key] || f.key),
      h('span', null, `${f.dialect}${f.stream ? ', streamed' : ''}`),
      f.attempts > 1 && h('span', { class: 'warn' }, `attempt ${f.attempts}`),
      answering && f.events > 0 && h('span', null, `${count(f.events)} ${f.events === 1 ? 'token' : 'tokens'}${perSecond ? `, ${rate(perSecond)}/s` : ''}`)),
    h('div', { class: 'clock' }, h('span', { class: 'value' }, span(f.seconds)), f.stage_after > 0.1 && h('span', { class: 'note' }, `${span(inStage)} in this step`)));
}

/** backends are what answers: a card each. */
function backends(now) {
  const list = now.backends || [];
  const by = new Map();
  for (const t of now.targets || []) {
    const id = t.ref.slice(0, t.ref.indexOf('/'));
    if (!by.has(id)) by.set(id, []);
    by.get(id).push(t);
  }
  const order = [...list].sort((a, b) => (a.route === b.route ? 0 : a.route === 'near' ? -1 : 1));
  return h('section', { 'aria-labelledby': 'h-backends' }, h('h2', { id: 'h-backends' }, 'Backends'),
    list.length === 0 ? empty('No backend is known', 'Start a model server on this machine (Ollama, LM Studio, llama.cpp, vLLM, SGLang): it is found by itself. Or name one in the configuration.')
      : h('div', { class: 'cards' }, order.map((b) => card(b, by.get(b.provider) || [], now))));
}

function card(b, targets, now) {
  const history = state.history.map((p) => p.by[b.provider] || 0);
  const speed = now.tokens_per_second?.[b.provider];
  const running = (now.in_flight || []).filter((f) => f.ref?.startsWith(`${b.provider}/`) && f.stage !== 'queued' && f.stage !== 'waiting').length;
  const shown = b.paused ? (b.paused.drain ? (b.paused.in_flight ? 'draining' : 'drained') : 'paused') : b.state;
  const troubled = targets.filter((t) => t.paused || t.breaker || !['ready', 'unknown', b.paused ? 'paused' : ''].includes(t.state));
  return h('article', { class: `card ${tone(shown)}`, key: b.provider, 'aria-label': b.provider },
    h('header', null, h('h3', null, b.provider), route(b.route), h('span', { class: 'spacer' }), chip(shown)),
    b.paused ? h('p', { class: 'why' }, b.paused.drain
      ? (b.paused.in_flight ? `${plural(b.paused.in_flight, 'request')} still under way; nothing new is sent to it.` : 'Nothing is under way: it can be stopped now.')
      : `Nothing new is sent to it${b.paused.in_flight ? `; ${plural(b.paused.in_flight, 'request')} under way` : ''}.`,
    b.paused.by && h('span', { class: 'note' }, ` By ${b.paused.by}.`))
      : b.detail && b.detail !== 'ready' && b.state !== 'ready' && h('p', { class: 'why' }, plain(b.detail)),
    b.breaker && h('p', { class: 'why' }, breaker(b.breaker)),
    h('div', { class: 'gauge' },
      h('span', { class: 'value' }, rate(speed || 0)), h('span', { class: 'unit' }, 'tokens/s'),
      spark([{ kind: b.route, values: history }], { slots: 60, width: 160, height: 34, label: `Tokens per second of ${b.provider} over the last minute, now ${rate(speed || 0)}` })),
    slots(b, running),
    b.endpoints?.length > 0 && h('ul', { class: 'sub' }, b.endpoints.map((e) => h('li', { key: e.name }, h('span', { class: 'name' }, e.name), chip(e.paused ? 'paused' : e.drain ? 'drained' : e.state || 'unknown'),
      h('span', { class: 'note' }, [e.in_flight ? `${count(e.in_flight)} in flight` : '', breaker(e.breaker) || ''].filter(Boolean).join(', '))))),
    troubled.length > 0 && h('ul', { class: 'sub' }, troubled.map((t) => h('li', { key: t.ref },
      h('span', { class: 'name' }, t.ref.slice(b.provider.length + 1)), chip(t.state),
      h('span', { class: 'note' }, [t.why && t.why !== b.detail && !(t.breaker && /breaker/.test(t.why)) ? plain(t.why) : '', t.breaker ? breaker(t.breaker) : '', t.waiting ? `${plural(t.waiting, 'request')} wait` : ''].filter(Boolean).join('; ')),
      may() && targetActions(t)))),
    may() && h('footer', null, actions(b)));
}

function slots(b, running) {
  const q = b.queue;
  if (!q?.slots) return h('p', { class: 'load note' }, (running ? `${plural(running, 'request')} under way` : 'idle') + (q?.waiting ? `, ${count(q.waiting)} wait` : ''));
  const cells = Math.min(q.slots, 24);
  return h('div', { class: 'load' },
    h('span', { class: 'slots', role: 'img', 'aria-label': `${q.running} of ${q.slots} slots taken` }, Array.from({ length: cells }, (_, i) => h('i', { class: i < (q.running * cells) / q.slots ? 'taken' : '' }))),
    h('span', { class: 'note' }, `${count(q.running)} of ${plural(q.slots, 'slot')} taken${q.waiting ? `, ${count(q.waiting)} wait` : ''}${q.service_seconds ? `; a request takes ${span(q.service_seconds)}` : ''}`));
}

function actions(b) {
  const id = b.provider;
  const busy = state.busy?.ref === id;
  const label = (text) => `${text} ${id}`;
  const list = [];
  if (b.paused) list.push(button('play', 'Resume', { class: 'button strong', disabled: busy, 'aria-label': label('Resume'), onclick: () => act('resume', id) }));
  else {
    list.push(button('pause', 'Pause', { disabled: busy, 'aria-label': label('Pause'), onclick: () => act('pause', id) }));
    list.push(button('drain', 'Drain', { disabled: busy, 'aria-label': label('Drain'), onclick: () => act('drain', id) }));
  }
  list.push(button('reset', 'Reset', { disabled: busy, 'aria-label': label('Reset'), title: 'Forget its failures: close breakers, end cool-downs', onclick: () => act('reset', id) }));
  return list;
}

function targetActions(t) {
  const busy = state.busy?.ref === t.ref;
  return h('span', { class: 'mini' },
    t.paused && button('play', 'Resume', { disabled: busy, 'aria-label': `Resume ${t.ref}`, onclick: () => act('resume', t.ref) }),
    (t.breaker || t.state === 'cooling_down' || t.state === 'failing') && button('reset', 'Reset', { disabled: busy, 'aria-label': `Reset ${t.ref}`, onclick: () => act('reset', t.ref) }));
}

/** others is all that a key sees of backends that may not see what others use. */
function others(now) {
  return h('section', { 'aria-labelledby': 'h-backends' }, h('h2', { id: 'h-backends' }, 'Backends'),
    h('ul', { class: 'panel plainlist' }, (now.backends || []).map((b) => h('li', { key: b.provider }, h('span', { class: 'name' }, b.provider), route(b.route), chip(b.state)))));
}
