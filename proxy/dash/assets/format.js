// Numbers as people read them, with their units.

const nf = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

/** count writes a whole number: 1,234. */
export const count = (n) => nf.format(n || 0);

/** short writes a large number in few places: 1.2k, 3.4M. */
export function short(n) {
  n = n || 0;
  for (const [by, unit] of [[1e9, 'G'], [1e6, 'M'], [1e4, 'k']]) {
    if (Math.abs(n) >= by) {
      const v = n / (unit === 'k' ? 1e3 : by);
      return (Math.abs(v) >= 100 ? v.toFixed(0) : v.toFixed(1).replace(/\.0$/, '')) + unit;
    }
  }
  return nf.format(n);
}

/** rate writes tokens a second. */
export function rate(n) {
  if (n === undefined || n === null || Number.isNaN(n)) return '–';
  return n >= 100 ? nf.format(n) : n >= 10 ? n.toFixed(0) : n > 0 ? n.toFixed(1) : '0';
}

/** span writes a time in seconds: 85 ms, 2.4 s, 3 min 20 s, 2 h 5 min. */
export function span(s) {
  if (s === undefined || s === null || Number.isNaN(s)) return '–';
  if (s < 0) s = 0;
  if (s === 0) return '0 s';
  if (s < 0.0001) return '<0.1 ms';
  if (s < 0.00995) return `${(s * 1000).toFixed(1).replace(/\.0$/, '')} ms`;
  if (s < 1) return `${Math.round(s * 1000)} ms`;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 60) return `${Math.round(s)} s`;
  if (s < 3600) {
    const m = Math.floor(s / 60);
    const r = Math.round(s % 60);
    return r && m < 10 ? `${m} min ${r} s` : `${m} min`;
  }
  if (s < 86400) {
    const m = Math.floor((s % 3600) / 60);
    return m ? `${Math.floor(s / 3600)} h ${m} min` : `${Math.floor(s / 3600)} h`;
  }
  const hours = Math.floor((s % 86400) / 3600);
  return hours ? `${Math.floor(s / 86400)} d ${hours} h` : `${Math.floor(s / 86400)} d`;
}

/** ns is span for nanoseconds. */
export const ns = (n) => span((n || 0) / 1e9);

/** money writes dollars so that small sums do not look like none. */
export function money(usd) {
  const n = usd || 0;
  if (n === 0) return '$0';
  if (Math.abs(n) < 0.0001) return '<$0.0001';
  if (Math.abs(n) < 0.01) return `$${n.toFixed(4)}`;
  if (Math.abs(n) < 1000) return `$${n.toFixed(2)}`;
  return `$${nf.format(n)}`;
}

/** bytes writes a size. */
export function bytes(n) {
  n = n || 0;
  for (const [by, unit] of [[2 ** 30, 'GiB'], [2 ** 20, 'MiB'], [2 ** 10, 'KiB']]) if (n >= by) return `${(n / by).toFixed(1)} ${unit}`;
  return `${n} B`;
}

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false });
const day = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit', hour12: false });

/** time writes when something was: the clock today, else the day too. */
export function time(at) {
  const d = new Date(at);
  if (Number.isNaN(d.getTime())) return '–';
  return Math.abs(Date.now() - d.getTime()) < 12 * 3600e3 ? clock.format(d) : day.format(d);
}

/** ago writes how long ago, until how long until. */
export const ago = (at) => `${span(Math.max(0, (Date.now() - new Date(at).getTime()) / 1000))} ago`;
export const until = (at) => span(Math.max(0, (new Date(at).getTime() - Date.now()) / 1000));

/** percent writes a share. */
export const percent = (part, all) => (all > 0 ? `${Math.round((100 * part) / all)} %` : '–');

/** plural writes a number with its noun. */
export const plural = (n, one, many) => `${count(n)} ${n === 1 ? one : many || one + 's'}`;

/** plain writes the times in a sentence of the server's as people read them. */
export const plain = (text) => (text || '').replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)/g, (at) => time(at));
