// npm run bench: how long a visitor waits, in Chromium on this machine, from a local server: for the package
// in an empty page, and for the shop of web-demo. Prints one JSON object with medians; not a test, because
// machines differ.

import { chromium } from 'playwright-core';
import { DESKTOP, after, build, launch, open, serve, settled } from './demo_shop.mjs';
import { EXECUTABLE, FLAGS, skip } from './harness.mjs';
import { startServer } from './server.mjs';

const LOADS = Number(process.env.LOADS ?? 5);
const EVENTS = 30;
/** Views and additions to the cart in turn. */
const CLICKS = 8;

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

/** In the shop page, before anything of it runs: what a visitor waits for is a strip with products in it. */
function watchStrip() {
  const times = (window.stripTimes = { first: 0, clicked: 0, asked: 0, answered: 0 });
  addEventListener('click', ({ timeStamp }) => { times.clicked = timeStamp; }, { capture: true });
  new MutationObserver(() => {
    const strip = document.getElementById('strip');
    const now = performance.now();
    if (strip?.hasAttribute('aria-busy')) times.asked = now;
    else if (strip?.querySelector('.strip-card')) {
      times.first ||= now;
      if (times.asked > times.clicked && times.answered < times.asked) times.answered = now;
    }
  }).observe(document, { subtree: true, childList: true, attributeFilter: ['aria-busy'] });
}

/** The shop of web-demo itself, on the CPU: from navigation, and from a click, to the strip that follows from it. */
async function shop(loads) {
  build();
  const host = await serve();
  const shopper = await launch();
  const runs = [];
  try {
    for (let run = 0; run < loads; run += 1) {
      const context = await shopper.newContext(DESKTOP);
      await context.addInitScript(watchStrip);
      const { page, errors } = await open(context, host.url);
      await settled(page);
      const times = { first: await page.evaluate(() => window.stripTimes.first), events: [] };
      for (let click = 0; click < CLICKS; click += 1) {
        const cart = click % 2 === 1;
        await after(page, () => page.locator(cart ? '.card-cart' : '.card .card-link').nth(click).click());
        times.events.push(await page.evaluate(() => window.stripTimes.answered - window.stripTimes.clicked));
        // A shopper looks at what came, and the page explains it meanwhile.
        await settled(page, { reasons: true });
        if (!cart) await page.waitForSelector('#item-dialog .standing');
        await page.keyboard.press('Escape');
      }
      if (errors.length > 0) throw new Error(errors.join('\n'));
      runs.push(times);
      await context.close();
    }
  } finally {
    await shopper.close();
    await host.close();
  }
  const first = runs.map(({ first }) => first);
  const later = runs.flatMap(({ events }) => events.slice(1));
  return {
    loads,
    first_recommendation_ms: round(median(first)),
    first_recommendation_worst_ms: round(Math.max(...first)),
    // It prepares all products, once.
    after_the_first_event_ms: round(median(runs.map(({ events }) => events[0]))),
    after_an_event_ms: round(median(later)),
    after_an_event_worst_ms: round(Math.max(...later)),
  };
}

try {
  const browserVersion = browser.version();
  const wasm = await rows('wasm', LOADS, EVENTS);
  const webgpu = await rows('webgpu', 1, 3);
  const page = await shop(LOADS);
  console.log(JSON.stringify({ browser: `Chromium ${browserVersion}`, wasm, webgpu_on_swiftshader: webgpu, shop_page: page }, null, 2));
} finally {
  await browser.close();
  await server.close();
}
