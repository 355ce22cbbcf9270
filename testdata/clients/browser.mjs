// Drives a real, headless Chromium on request. Each line of standard input is an
// order {id, do, …}, each line of standard output what came of it {id, value} or
// {id, broken}. What the page itself complains of (errors on its console, failed
// requests, violations of its policy) is kept until it is asked for.
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import puppeteer from 'puppeteer-core';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
  // As root, as in a container, Chromium has no sandbox of its own.
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--disable-background-networking', '--force-color-profile=srgb', '--ignore-certificate-errors'],
});
const pages = new Map();

async function page(name = 'main') {
  let p = pages.get(name);
  if (p) return p;
  const context = await browser.createBrowserContext();
  const tab = await context.newPage();
  p = { tab, context, problems: [] };
  tab.on('console', (m) => { if (['error', 'warn'].includes(m.type())) p.problems.push(`${m.type()}: ${m.text()} ${m.location()?.url ?? ''}`); });
  tab.on('pageerror', (e) => p.problems.push(`pageerror: ${e.stack ?? e}`));
  tab.on('requestfailed', (r) => { if (!/ERR_ABORTED/.test(r.failure()?.errorText)) p.problems.push(`requestfailed: ${r.url()} ${r.failure()?.errorText}`); });
  tab.on('request', (r) => { if (p.origin && !r.url().startsWith(p.origin) && !r.url().startsWith('data:')) p.problems.push(`foreign: ${r.url()}`); });
  pages.set(name, p);
  return p;
}

const deeds = {
  async open(p, o) {
    p.origin = new URL(o.url).origin;
    await p.tab.goto(o.url, { waitUntil: 'load' });
  },
  async look(p, o) {
    await p.tab.setViewport({ width: o.width, height: o.height, deviceScaleFactor: o.scale || 1 });
    await p.tab.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: o.theme || 'light' }, { name: 'prefers-reduced-motion', value: o.still ? 'reduce' : 'no-preference' }]);
  },
  async wait(p, o) {
    // By a timer and not by frames: a page that nobody sees draws none.
    await p.tab.waitForFunction(o.js, { timeout: o.ms || 15000, polling: 50 });
  },
  eval: (p, o) => p.tab.evaluate(o.js),
  async click(p, o) {
    const e = await p.tab.waitForSelector(o.selector, { visible: true, timeout: 10000 });
    await e.click();
  },
  async type(p, o) {
    await p.tab.waitForSelector(o.selector, { visible: true, timeout: 10000 });
    await p.tab.type(o.selector, o.text);
  },
  press: (p, o) => p.tab.keyboard.press(o.key),
  async shot(p, o) {
    await p.tab.screenshot({ path: o.path, fullPage: !!o.full });
  },
  async axe(p) {
    await p.tab.evaluate(axe); // through the debugger, which the page's policy does not bind
    const found = await p.tab.evaluate(() => globalThis.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
    return found.violations.map((v) => `${v.id} (${v.impact}): ${v.help}: ${v.nodes.slice(0, 4).map((n) => `${n.target.join(' ')} ${n.failureSummary.replace(/\s+/g, ' ')}`).join(' | ')}`);
  },
  problems(p) {
    const all = p.problems;
    p.problems = [];
    return all;
  },
  cookies: (p) => p.context.cookies(),
  async offline(p, o) { await p.tab.setOfflineMode(!!o.on); },
};

const say = (v) => process.stdout.write(JSON.stringify(v) + '\n');
say({ ready: true, version: await browser.version() });
for await (const line of createInterface({ input: process.stdin })) {
  const o = JSON.parse(line);
  try {
    const p = await page(o.page);
    say({ id: o.id, value: (await deeds[o.do](p, o)) ?? null });
  } catch (e) {
    say({ id: o.id, broken: String(e?.stack ?? e) });
  }
}
await browser.close();
