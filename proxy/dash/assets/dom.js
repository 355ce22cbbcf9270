// A small virtual DOM: views say what is to be seen, render changes what differs.
// Text is only ever text; nothing here makes markup of a string.

const SVG = 'http://www.w3.org/2000/svg';

/** h describes an element. Kids may be nested; null, undefined and false are left out. */
export function h(tag, props, ...kids) {
  const all = [];
  const add = (k) => {
    if (k === null || k === undefined || k === false || k === true) return;
    if (Array.isArray(k)) k.forEach(add);
    else if (typeof k === 'object') all.push(k);
    else {
      const last = all[all.length - 1];
      if (last && last.text !== undefined) all[all.length - 1] = { text: last.text + k };
      else all.push({ text: String(k) });
    }
  };
  kids.forEach(add);
  return { tag, props: props || {}, key: props?.key, kids: all };
}

/** render makes el's children those that are described. */
export function render(el, ...kids) {
  patchKids(el, h('x', null, ...kids).kids, el.namespaceURI === SVG);
}

function create(v, svg) {
  let n;
  if (v.text !== undefined) {
    n = document.createTextNode(v.text);
    n._v = v;
    return n;
  }
  svg = svg || v.tag === 'svg';
  n = svg ? document.createElementNS(SVG, v.tag) : document.createElement(v.tag);
  n._v = { tag: v.tag, props: {}, key: v.key, kids: [] };
  update(n, v, svg);
  return n;
}

function update(n, v, svg) {
  if (v.text !== undefined) {
    if (n.nodeValue !== v.text) n.nodeValue = v.text;
    n._v = v;
    return;
  }
  const was = n._v.props;
  for (const name in was) if (!(name in v.props)) set(n, name, null);
  for (const name in v.props) if (was[name] !== v.props[name]) set(n, name, v.props[name]);
  n._v = v;
  patchKids(n, v.kids, (svg || v.tag === 'svg') && v.tag !== 'foreignObject');
}

function set(n, name, value) {
  if (name === 'key') return;
  if (name.startsWith('on')) n[name] = value;
  else if (name === 'css') for (const p in value || {}) n.style.setProperty(p, value[p]);
  else if (name === 'value' || name === 'checked' || name === 'indeterminate') { if (n[name] !== value) n[name] = value ?? ''; }
  else if (name === 'focus') { if (value) queueMicrotask(() => n.focus()); }
  else if (value === null || value === undefined || value === false) n.removeAttribute(name);
  else n.setAttribute(name, value === true ? '' : value);
}

function patchKids(el, kids, svg) {
  const keyed = new Map();
  for (let c = el.firstChild; c; c = c.nextSibling) if (c._v && c._v.key !== undefined) keyed.set(c._v.key, c);
  let at = el.firstChild;
  for (const k of kids) {
    let n = null;
    if (k.key !== undefined) {
      n = keyed.get(k.key);
      if (n && n._v.tag !== k.tag) n = null;
      if (n) keyed.delete(k.key);
    } else {
      let c = at;
      while (c && c._v && c._v.key !== undefined) c = c.nextSibling;
      if (c && c._v && c._v.tag === k.tag) n = c;
    }
    if (n) update(n, k, svg);
    else n = create(k, svg);
    if (n === at) at = at.nextSibling;
    else el.insertBefore(n, at);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}
