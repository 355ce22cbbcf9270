// What several views are made of.
import { h } from './dom.js';
import { until } from './format.js';

const paths = {
  now: 'M3 12h4l3-8 4 16 3-8h4',
  exchanges: 'M4 7h13l-3-3M20 17H7l3 3',
  usage: 'M5 20V11M12 20V4M19 20v-6',
  speed: 'M4 18a9 9 0 1 1 16 0M12 14l4-5',
  backends: 'M4 5h16v5H4zM4 14h16v5H4zM8 7.5h.01M8 16.5h.01',
  config: 'M4 7h9M17 7h3M4 17h3M11 17h9M15 4.5v5M9 14.5v5',
  pause: 'M9 6v12M15 6v12',
  play: 'M8 5.5v13l10-6.5z',
  drain: 'M12 4v11M7 11l5 5 5-5M5 20h14',
  reset: 'M5 12a7 7 0 1 0 2.5-5.4M7 3v4h4',
  sun: 'M12 4V2M12 22v-2M4 12H2M22 12h-2M6.3 6.3 4.9 4.9M19.1 19.1l-1.4-1.4M6.3 17.7l-1.4 1.4M19.1 4.9l-1.4 1.4M16 12a4 4 0 1 1-8 0 4 4 0 0 1 8 0z',
  moon: 'M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z',
  auto: 'M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18',
  out: 'M14 4h5v16h-5M4 12h11M11 8l4 4-4 4',
  chevron: 'M9 6l6 6-6 6',
};

/** icon draws one of the line icons; its meaning is said beside it. */
export const icon = (name) => h('svg', { class: `icon i-${name}`, viewBox: '0 0 24 24', 'aria-hidden': 'true' }, h('path', { d: paths[name] }));

const tones = {
  ready: 'good', closed: 'good', ok: 'good', loading: 'busy', swapping: 'busy', saturated: 'busy', asleep: 'quiet', unknown: 'quiet',
  paused: 'held', draining: 'held', drained: 'held', cooling_down: 'busy', half_open: 'busy', 'half-open': 'busy',
  failing: 'bad', misconfigured: 'bad', unreachable: 'bad', unavailable: 'bad', open: 'bad', network_down: 'bad',
};

/** tone is how a state looks. */
export const tone = (state) => tones[state] || 'quiet';

/** words of a state: cooling_down is cooling down. */
export const words = (state) => (state || 'unknown').replaceAll('_', ' ');

/** chip names a state; its colour is never all there is to tell it by. */
export const chip = (state, text) => h('span', { class: `chip ${tone(state)}` }, h('span', { class: 'dot', 'aria-hidden': 'true' }), text || words(state));

/** route says near or far. */
export const route = (r) => r && h('span', { class: `route ${r}` }, r);

/** ref writes provider/model so that it breaks where it may. */
export function ref(text) {
  if (!text) return '–';
  const at = text.indexOf('/');
  if (at < 0) return h('span', { class: 'ref' }, text);
  return h('span', { class: 'ref' }, h('span', { class: 'provider' }, text.slice(0, at + 1)), text.length > 22 && h('wbr'), text.slice(at + 1));
}

/** breaker says what a breaker keeps from being asked, and until when. */
export function breaker(b) {
  if (!b) return null;
  if (b.state === 'closed') return `${b.consecutive_failures} failed in a row; the breaker is still closed`;
  const at = b.until && until(b.until);
  const why = b.cause ? ` (${words(b.cause)})` : '';
  if (b.state === 'half-open' || b.state === 'half_open' || at === '0 s') return `breaker half open${why}: the next request tries it`;
  return `breaker open${why}${at ? `, tried again in ${at}` : ''}`;
}

/** empty is what stands where nothing is yet. */
export const empty = (title, ...text) => h('div', { class: 'empty' }, h('h3', null, title), text.map((t) => (typeof t === 'string' ? h('p', null, t) : t)));

/** button is one with an icon and a text. */
export const button = (name, text, props) => h('button', { type: 'button', class: 'button', ...props }, name && icon(name), h('span', null, text));
