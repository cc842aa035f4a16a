// npm run bench: how long a visitor waits, in Chromium on this machine, from a local server. Prints one
// JSON object with medians; not a test, because machines differ.

import { chromium } from 'playwright-core';
import { EXECUTABLE, FLAGS, skip } from './harness.mjs';
import { startServer } from './server.mjs';

const LOADS = Number(process.env.LOADS ?? 5);
const EVENTS = 30;

if (skip) {
  console.error(`nothing is measured: ${skip}`);
  process.exit(1);
}

const server = await startServer();
const browser = await chromium.launch({ executablePath: EXECUTABLE, args: FLAGS });

/** In the page: everything from the first byte of the package to ranked items. */
async function measure({ bundle, device, events, address }) {
  const started = performance.now();
  const { Recommender } = await import(address);
  const shop = await Recommender.fromPretrained(bundle, { device, allowSoftwareAdapter: true });
  const loaded = performance.now();
  const history = ['mug-03', { item: 'cap-04', event: 'cart' }, { item: 'beanie-08', event: 'view' }];
  const first = await shop.recommend({ history, k: 10 });
  const answered = performance.now();
  const items = (await shop.catalog()).map(({ id }) => id);
  const later = [];
  for (let i = 0; i < events; i += 1) {
    history.push({ item: items[(i * 37) % items.length], event: 'view' });
    const from = performance.now();
    await shop.recommend({ history, k: 10 });
    later.push(performance.now() - from);
  }
  const from = performance.now();
  await shop.recommend({ history, k: 10, explain: true });
  const explained = performance.now() - from;
  await shop.dispose();
  return { backend: first.backend, loaded: loaded - started, first: answered - started, later, explained };
}

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];
const round = (value) => Math.round(value * 10) / 10;

async function rows(device, loads, events) {
  const runs = [];
  for (let run = 0; run < loads; run += 1) {
    // A fresh profile: no cache of any kind.
    const context = await browser.newContext();
    const page = await context.newPage();
    server.pages.set('/empty.html', { headers: {}, body: '<!doctype html><title>bench</title>' });
    await page.goto(`${server.origin}/empty.html`);
    const bundle = server.bundle().url;
    runs.push(await page.evaluate(measure, { bundle, device, events, address: `${server.origin}/dist/index.js` }));
    await context.close();
  }
  return {
    device: runs[0].backend,
    loads,
    loaded_ms: round(median(runs.map(({ loaded }) => loaded))),
    first_recommendation_ms: round(median(runs.map(({ first }) => first))),
    after_an_event_ms: round(median(runs.flatMap(({ later }) => later))),
    after_an_event_worst_ms: round(Math.max(...runs.flatMap(({ later }) => later))),
    explained_ms: round(median(runs.map(({ explained }) => explained))),
  };
}

try {
  const browserVersion = browser.version();
  const wasm = await rows('wasm', LOADS, EVENTS);
  const webgpu = await rows('webgpu', 1, 3);
  console.log(JSON.stringify({ browser: `Chromium ${browserVersion}`, wasm, webgpu_on_swiftshader: webgpu }, null, 2));
} finally {
  await browser.close();
  await server.close();
}
