// Configuration: the file in force without its secrets, and what came of loading it.
import { h } from '../dom.js';
import { ago, plural, time } from '../format.js';
import { chip, empty } from '../parts.js';
import { get } from '../actions.js';
import { changed, state } from '../store.js';

export const title = 'Configuration';
export const short = 'Config';

let asked = '';

export function enter() { load(); }

async function load() {
  try {
    state.config = { data: await get('/proxy/config'), error: null };
  } catch (e) { state.config = { data: null, error: e }; }
  changed();
}

/** reread fetches it again when the server has loaded another one. */
function reread() {
  const at = state.now?.config?.at || '';
  if (at && at !== asked) {
    if (asked) load();
    asked = at;
  }
}

export function view() {
  reread();
  const { data, error } = state.config;
  if (error) return [empty('The configuration cannot be shown', error.message)];
  if (!data) return h('div', { class: 'wait', role: 'status' }, h('p', null, 'Reading the configuration…'));
  const r = state.now?.config || data.reload;
  return [loaded(r, data), r && !r.ok ? mistakes(r) : null, data.notes.length ? notes(data.notes) : null, tree(data.config)];
}

function loaded(r, data) {
  return h('section', { class: `headline ${r && !r.ok ? 'bad' : 'near'}`, 'aria-label': 'What came of loading it' },
    h('p', { class: 'big' }, !r ? 'The built-in defaults are in force' : r.ok ? 'The configuration is valid and in force' : 'The last change is not in force: it has mistakes'),
    h('dl', { class: 'pairs' }, [
      r && ['Loaded', [time(r.at), ' ', h('span', { class: 'note' }, `(${ago(r.at)})`)]],
      ['Read from', data.files.length ? data.files.map((f) => h('div', { key: f }, h('code', null, f))) : 'no file: the built-in defaults'],
      data.digest && ['Digest', h('code', null, data.digest.slice(0, 12))],
      r?.needs_restart?.length && ['Needs a restart', h('span', { class: 'warn' }, r.needs_restart.join(', '))],
    ].filter(Boolean).map(([k, v]) => h('div', { key: k }, h('dt', null, k), h('dd', null, v)))));
}

const mistakes = (r) => h('section', { 'aria-labelledby': 'h-bad' }, h('h2', { id: 'h-bad' }, plural((r.problems || []).length, 'mistake')),
  h('ol', { class: 'panel problems' }, (r.problems || []).map((p) => h('li', { key: p }, chip('failing', 'mistake'), h('code', null, p)))));

const notes = (list) => h('section', { 'aria-labelledby': 'h-notes' }, h('h2', { id: 'h-notes' }, plural(list.length, 'warning')),
  h('ol', { class: 'panel problems' }, list.map((p) => h('li', { key: p }, chip('loading', 'warning'), h('span', null, p)))));

function tree(config) {
  const keys = Object.keys(config || {});
  return h('section', { 'aria-labelledby': 'h-tree' }, h('h2', { id: 'h-tree' }, 'What it says'),
    keys.length === 0 ? empty('Nothing beyond the defaults', 'Every setting has a default; config.json5 that comes with the program lists them with their reasons.')
      : [h('p', { class: 'note lead' }, 'As it is written. Of a credential you see that it is set and how it ends.'), h('div', { class: 'panel tree' }, h('ul', null, keys.map((k) => branch(k, config[k], k, 0))))]);
}

function branch(name, v, path, depth) {
  if (v === null || typeof v !== 'object') return h('li', { key: path }, h('span', { class: 'k' }, name), leaf(v));
  const entries = Array.isArray(v) ? v.map((x, i) => [String(i), x]) : Object.entries(v);
  if (entries.every(([, x]) => x === null || typeof x !== 'object') && Array.isArray(v)) {
    return h('li', { key: path }, h('span', { class: 'k' }, name), h('span', { class: 'v' }, v.length ? v.map(String).join(', ') : 'none'));
  }
  const label = Array.isArray(v) ? plural(v.length, 'entry', 'entries') : plural(entries.length, 'setting');
  return h('li', { key: path }, h('details', { open: depth < 3 ? true : null, key: `d${path}` }, h('summary', null, h('span', { class: 'k' }, name), h('span', { class: 'note' }, label)),
    h('ul', null, entries.map(([k, x]) => branch(x && Array.isArray(v) && x.id ? x.id : k, x, `${path}.${k}`, depth + 1)))));
}

function leaf(v) {
  const text = String(v);
  const secret = /(^|\()(set|set, ends in \S{4}|not set in the environment)\)?$/.test(text);
  return h('span', { class: `v ${typeof v}${secret ? ' secret' : ''}` }, text === '' ? '“”' : text);
}
