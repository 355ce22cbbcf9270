// Charts, drawn as SVG at the size they have on the page. Every chart has a name
// and, where it is more than an ornament, its figures as a table.
import { h } from './dom.js';

/** figure is a chart with its name, a legend, and the same as a table. */
export function figure({ title, note, legend, chart, table, key }) {
  return h('figure', { class: 'figure', key },
    h('figcaption', null, h('h3', null, title), note && h('p', { class: 'note' }, note)),
    legend && h('ul', { class: 'legend' }, legend.map(([kind, text]) => h('li', null, h('span', { class: `swatch ${kind}`, 'aria-hidden': 'true' }), text))),
    h('div', { class: 'plot' }, chart),
    table && h('details', { class: 'astable' }, h('summary', null, 'As a table'), h('div', { class: 'scroll', tabindex: '0', role: 'group', 'aria-label': `${title}, as a table` }, table)));
}

/** table makes a table of heads and rows of texts; numbers of columns in right stand right. */
export function table(caption, heads, rows, right = []) {
  return h('table', null, h('caption', { class: 'unseen' }, caption),
    h('thead', null, h('tr', null, heads.map((t, i) => h('th', { scope: 'col', class: right.includes(i) ? 'num' : null }, t)))),
    h('tbody', null, rows.map((r) => h('tr', null, r.map((c, i) => (i === 0 ? h('th', { scope: 'row' }, c) : h('td', { class: right.includes(i) ? 'num' : null }, c)))))));
}

/** nice returns a round number that is not below n, and its steps. */
export function nice(n, steps = 4) {
  if (!(n > 0)) return { max: 1, step: 1 };
  const raw = n / steps;
  const by = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((f) => f * by).find((s) => s >= raw - 1e-12);
  return { max: Math.ceil(n / step - 1e-9) * step, step };
}

/** spark is a small line without axes. layers are [{ kind, values }], stacked. */
export function spark(layers, { width = 160, height = 36, slots, label }) {
  const n = slots || Math.max(...layers.map((l) => l.values.length), 2);
  const sums = Array.from({ length: n }, () => 0);
  const offset = (l) => n - l.values.length;
  const total = sums.map((_, i) => layers.reduce((s, l) => s + (l.values[i - offset(l)] || 0), 0));
  const max = Math.max(...total, 1e-9);
  const x = (i) => (i * width) / (n - 1);
  const y = (v) => height - 1.5 - (v / max) * (height - 4);
  const drawn = layers.map((l, nth) => {
    const from = offset(l);
    if (nth > 0 && !l.values.some((v) => v > 0)) return null;
    if (l.values.length < 2) return null;
    const base = sums.slice();
    l.values.forEach((v, i) => { sums[from + i] += v; });
    let top = '';
    let back = '';
    for (let i = from; i < n; i++) {
      top += `${i === from ? 'M' : 'L'}${x(i).toFixed(1)} ${y(sums[i]).toFixed(1)}`;
      back = `L${x(i).toFixed(1)} ${y(base[i]).toFixed(1)}${back}`;
    }
    return h('g', { class: l.kind, key: l.kind }, h('path', { class: 'area', d: `${top}${back}Z` }), h('path', { class: 'line', d: top }));
  });
  return h('svg', { class: 'spark', viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none', ...(label ? { role: 'img', 'aria-label': label } : { 'aria-hidden': 'true' }) }, drawn);
}

/** frame is the ground of a chart: lines and labels of the left axis. */
function frame(w, h_, left, bottom, scale, write) {
  const lines = [];
  for (let v = 0; v <= scale.max + 1e-9; v += scale.step) {
    const y = h_ - bottom - (v / scale.max) * (h_ - bottom - 10);
    lines.push(h('line', { class: 'grid', x1: left, x2: w, y1: y, y2: y }), h('text', { class: 'tick', x: left - 6, y: y + 4, 'text-anchor': 'end' }, write(v)));
  }
  return lines;
}

/**
 * bars is a stacked bar a slot. slots are [{ label, tip, parts: { kind: value } }], kinds
 * say the order from the bottom.
 */
export function bars(slots, kinds, { width, height = 200, write, label, left = 48 }) {
  const bottom = 22;
  const scale = nice(Math.max(...slots.map((s) => kinds.reduce((t, k) => t + (s.parts[k] || 0), 0)), 0));
  const inner = width - left;
  const pitch = inner / slots.length;
  const bar = Math.max(1, Math.min(pitch * 0.72, 34));
  const every = Math.ceil(slots.length / Math.max(1, Math.floor(inner / 64)));
  return h('svg', { class: 'chart', width, height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': label },
    frame(width, height, left, bottom, scale, write),
    slots.map((s, i) => {
      const x = left + i * pitch + (pitch - bar) / 2;
      let top = height - bottom;
      return h('g', { key: `s${i}` }, h('title', null, s.tip),
        h('rect', { class: 'hit', x: left + i * pitch, y: 0, width: pitch, height: height - bottom }),
        kinds.map((k) => {
          const tall = ((s.parts[k] || 0) / scale.max) * (height - bottom - 10);
          top -= tall;
          return tall > 0 && h('rect', { class: `bar ${k}`, x, y: top, width: bar, height: Math.max(tall, 1), rx: Math.min(2, tall / 2) });
        }),
        i % every === 0 && h('text', { class: 'tick', x: Math.min(x + bar / 2, width - 1), y: height - 6, 'text-anchor': x + bar / 2 > width - 22 ? 'end' : 'middle' }, s.label));
    }));
}

/**
 * dots shows one point an exchange in the order they came, on a logarithmic scale of
 * seconds, with a line at the median. points are [{ value, kind, tip }].
 */
export function dots(points, { width, height = 120, write, label, median, slots = 60 }) {
  const left = 56;
  const bottom = 8;
  const values = points.map((p) => p.value).filter((v) => v > 0);
  const low = 10 ** Math.floor(Math.log10(Math.min(...values, 10) || 0.001));
  let high = 10 ** Math.ceil(Math.log10(Math.max(...values, low * 10)));
  if (high <= low) high = low * 10;
  const y = (v) => 8 + (1 - Math.log10(Math.max(v, low) / low) / Math.log10(high / low)) * (height - bottom - 16);
  const ticks = [];
  for (let v = low; v <= high * 1.001; v *= 10) ticks.push(v);
  const last = points.slice(-slots);
  const x = (i) => left + 8 + ((i + slots - last.length) / (slots - 1)) * (width - left - 16);
  return h('svg', { class: 'chart', width, height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': label },
    ticks.map((v, i) => [h('line', { class: 'grid', x1: left, x2: width, y1: y(v), y2: y(v) }),
      (ticks.length < 5 || i % 2 === 0) && h('text', { class: 'tick', x: left - 6, y: y(v) + 4, 'text-anchor': 'end' }, write(v))]),
    median > 0 && h('line', { class: 'median', x1: left, x2: width, y1: y(median), y2: y(median) }),
    last.map((p, i) => h('circle', { class: `dot ${p.kind}`, cx: x(i).toFixed(1), cy: y(p.value).toFixed(1), r: 3.2 }, h('title', null, p.tip))));
}

/**
 * timeline shows what came after what. rows are [{ label, parts: [{ kind, from, to, tip }], mark }]
 * in seconds, end is where it ends.
 */
export function timeline(rows, end, { width, write, label }) {
  const tall = 26;
  const left = 0;
  const top = 4;
  const height = top + rows.length * (tall + 16) + 22;
  const scale = nice(end, width < 500 ? 3 : 5);
  const max = Math.max(end * 1.02, 1e-6);
  const x = (t) => left + (t / max) * (width - left - 2);
  const ticks = [];
  for (let t = 0; t <= max; t += scale.step) ticks.push(t);
  return h('svg', { class: 'chart timeline', width, height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': label },
    ticks.map((t) => [h('line', { class: 'grid', x1: x(t), x2: x(t), y1: top, y2: height - 18 }),
      h('text', { class: 'tick', x: x(t), y: height - 4, 'text-anchor': t === 0 ? 'start' : x(t) > width - 30 ? 'end' : 'middle' }, write(t))]),
    rows.map((r, i) => {
      const y = top + i * (tall + 16);
      return h('g', { key: `r${i}` },
        h('text', { class: 'rowlabel', x: 0, y: y + 12 }, r.label),
        r.parts.map((p) => h('rect', { class: `part ${p.kind}`, x: x(p.from), y: y + 18, width: Math.max(x(p.to) - x(p.from), 2), height: 14, rx: 3 }, h('title', null, p.tip))),
        r.mark !== undefined && h('path', { class: 'firstmark', d: `M${x(r.mark)} ${y + 15}v20` }));
    }));
}
