// The page: what stands around the views, and what moves between them.
import { h, render } from './dom.js';
import { get, post, toast } from './actions.js';
import { Live } from './live.js';
import { button, icon } from './parts.js';
import { changed, drawn, listed, pictured, settled, state } from './store.js';
import * as now from './views/now.js';
import * as exchanges from './views/exchanges.js';
import * as usage from './views/usage.js';
import * as speed from './views/speed.js';
import * as backends from './views/backends.js';
import * as config from './views/config.js';

const all = { now, exchanges, usage, speed, backends, config };
// A key that may not see what others use has no part in the rest.
const ownViews = ['now', 'exchanges', 'usage', 'speed'];
const mayView = (name) => !!all[name] && (state.session?.sees_all || ownViews.includes(name));
const views = all;
const root = document.getElementById('app');

const live = new Live({
  now: pictured,
  exchange: settled,
  state(c) {
    const was = state.conn.state;
    state.conn = c;
    if (c.state !== was) {
      document.getElementById('said').textContent = { live: 'Live', lost: 'The connection is lost', asleep: '', connecting: '' }[c.state];
      if (c.state === 'live') arrived();
    }
    changed();
  },
  signedOut() { begin(); },
  async why() {
    try {
      await get('/proxy/exchanges?limit=1');
      return { reason: '' };
    } catch (e) {
      return { reason: e.status ? e.message : 'the proxy does not answer', signedOut: e.status === 401 };
    }
  },
});

/** arrived fetches what the feed does not repeat. */
async function arrived() {
  try {
    listed((await get('/proxy/exchanges?limit=100')).data || []);
  } catch (e) { toast(`the last exchanges could not be read: ${e.message}`, true); }
  views[state.view].enter?.();
}

/** begin finds out who looks, and shows the door or the house. */
async function begin() {
  try {
    state.session = await get('/dashboard/session');
    state.refused = null;
  } catch (e) {
    state.session = null;
    state.refused = e.status ? e.message : 'the proxy does not answer';
    changed();
    setTimeout(begin, 5000);
    return;
  }
  if (state.session.login !== 'needed') {
    go();
    live.start();
  } else {
    Object.assign(state, { now: null, exchanges: null, history: [], open: new Set(), config: { data: null, error: null } });
    state.usage = { ...state.usage, data: null, error: null };
  }
  changed();
}

async function signIn(e) {
  e.preventDefault();
  const field = document.getElementById('key');
  const key = field.value.trim();
  if (!key || state.door?.busy) return;
  state.door = { busy: true };
  changed();
  try {
    state.session = await post('/dashboard/login', { key });
    field.value = ''; // nowhere is it kept
    state.door = null;
    go();
    live.start();
  } catch (err) {
    state.door = { error: err.status === 401 ? 'This is no valid key.' : err.message };
    field.select();
  }
  changed();
}

async function signOut() {
  live.stop();
  try { await post('/dashboard/logout'); } catch { /* it is over here in any case */ }
  await begin();
}

function door() {
  const d = state.door || {};
  return h('main', { class: 'door', key: 'door', id: 'main', tabindex: '-1' },
    h('form', { class: 'panel', onsubmit: signIn, autocomplete: 'off' },
      h('img', { src: '/dashboard/icon.svg', alt: '', width: 44, height: 44 }),
      h('h1', null, 'Sign in to nearside'),
      h('p', { class: 'note' }, 'This proxy asks for keys. An operator’s key opens everything; any other shows its own requests and use.'),
      h('label', { for: 'key' }, 'Key'),
      h('input', { id: 'key', name: 'key', type: 'password', required: true, autocomplete: 'off', spellcheck: 'false', 'aria-invalid': d.error ? 'true' : null, 'aria-describedby': d.error ? 'wrong' : null }),
      d.error && h('p', { id: 'wrong', class: 'wrong', role: 'alert' }, d.error),
      h('button', { type: 'submit', class: 'button strong', disabled: d.busy }, h('span', null, d.busy ? 'Looking…' : 'Sign in')),
      h('p', { class: 'note' }, 'The key is shown to the proxy once and kept nowhere. Make one with ', h('code', null, 'nearside keys add NAME --operator'), '.')));
}

function go() {
  const name = location.hash.slice(1).split('/')[0] || 'now';
  state.view = mayView(name) ? name : 'now';
  document.title = `${views[state.view].title} · Nearside`;
  if (state.session && state.session.login !== 'needed') views[state.view].enter?.();
  changed();
}

const themes = { auto: ['auto', 'System theme'], light: ['sun', 'Light theme'], dark: ['moon', 'Dark theme'] };

function theme() {
  const is = document.documentElement.dataset.theme || 'auto';
  const next = { auto: 'light', light: 'dark', dark: 'auto' }[is];
  return h('button', { type: 'button', class: 'iconbutton', title: themes[is][1], 'aria-label': `${themes[is][1]}; switch to ${themes[next][1].toLowerCase()}`, onclick: () => {
    if (next === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    try { localStorage.setItem('nearside.theme', next); } catch { /* not kept then */ }
    changed();
  } }, icon(themes[is][0]));
}

function connection() {
  const c = state.conn;
  const text = { live: 'Live', connecting: 'Connecting…', lost: 'Connection lost', asleep: 'Resting' }[c.state];
  return h('span', { class: `connection ${c.state}`, title: c.reason || '' }, h('span', { class: 'dot', 'aria-hidden': 'true' }), text);
}

function lost() {
  const c = state.conn;
  if (c.state !== 'lost') return null;
  const left = Math.max(0, Math.ceil((c.retryAt - Date.now()) / 1000));
  setTimeout(changed, 500);
  return h('div', { class: 'banner bad', role: 'alert', key: 'lost' }, h('p', null, h('strong', null, 'The connection is lost. '), state.now ? 'What is shown is as it was then. ' : '', c.reason ? `${c.reason[0].toUpperCase()}${c.reason.slice(1)}. ` : '', h('span', { 'aria-hidden': 'true' }, left ? `Trying again in ${left} s.` : 'Trying again…')),
    button('reset', 'Try now', { onclick: () => live.again() }));
}

function shell() {
  if (!state.session) {
    return [h('main', { class: 'door', key: 'wait', id: 'main', tabindex: '-1' }, h('h1', { class: 'unseen' }, 'Nearside'), h('p', { role: 'status' }, state.refused ? `The dashboard cannot be opened: ${state.refused}` : 'Opening the dashboard…'))];
  }
  if (state.session.login === 'needed') return [door()];
  const nav = Object.entries(views).filter(([name]) => mayView(name)).map(([name, v]) => h('a', { key: name, href: `#${name}`, 'aria-current': state.view === name ? 'page' : null }, icon(name), v.short ? [h('span', { class: 'long' }, v.title), h('span', { class: 'short' }, v.short)] : h('span', null, v.title)));
  return [
    h('a', { class: 'skip', href: '#main', onclick: (e) => { e.preventDefault(); document.getElementById('main').focus(); } }, 'Skip to the content'),
    h('header', { class: 'top', key: 'top' },
      h('a', { class: 'brand', href: '#now', 'aria-label': 'Nearside, Now' }, h('img', { src: '/dashboard/icon.svg', alt: '', width: 28, height: 28 }), h('span', null, 'nearside')),
      h('nav', { 'aria-label': 'Views' }, nav),
      h('div', { class: 'side' }, connection(), theme(), who())),
    lost(),
    h('main', { id: 'main', tabindex: '-1', key: `v-${state.view}`, class: `view v-${state.view}${state.conn.state === 'lost' ? ' stale' : ''}` }, h('h1', { class: 'unseen' }, views[state.view].title), views[state.view].view()),
    h('footer', { class: 'foot', key: 'foot' }, state.now ? `nearside ${state.now.version}, up since ${new Date(state.now.started).toLocaleString()}` : ''),
    state.toast && h('div', { class: `toast${state.toast.bad ? ' bad' : ''}`, key: 'toast', 'aria-hidden': 'true' }, state.toast.text),
  ];
}

function who() {
  const o = state.session;
  if (o.login !== 'done') return null;
  return h('span', { class: 'person' }, h('span', { class: 'name' }, o.name, h('span', { class: 'note' }, o.operator ? ' · operator' : o.sees_all ? ' · may look' : ' · own use')),
    h('button', { type: 'button', class: 'iconbutton', title: 'Sign out', 'aria-label': `Sign out ${o.name}`, onclick: signOut }, icon('out')));
}

drawn(() => {
  const main = document.getElementById('main');
  if (main) state.width = main.clientWidth - parseFloat(getComputedStyle(main).paddingLeft) - parseFloat(getComputedStyle(main).paddingRight);
  render(root, shell());
});
addEventListener('hashchange', () => {
  if (state.session && state.session.login !== 'needed') go();
  scrollTo(0, 0);
});
addEventListener('resize', changed);
begin();
