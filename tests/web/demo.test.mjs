// A shopper walks through the demo page: the built page, the packed model, a real browser.
// SCREENSHOTS=1 also writes web-demo/screenshots/.

import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { after as afterAll, before, test } from 'node:test';

import { coarse } from './demo_png.mjs';
import { DEMO, DESKTOP, PHONE, after, build, launch, open, serve, settled, strip } from './demo_shop.mjs';

process.env.XDG_RUNTIME_DIR ??= '/tmp';
const AXE = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const TIMEOUT = { timeout: 180_000 };

let browser, server;

before(async () => {
  build();
  [browser, server] = await Promise.all([launch(), serve()]);
}, TIMEOUT);
afterAll(async () => {
  await browser?.close();
  await server?.close();
});

/** Runs `walk` on a fresh visitor's page; errors of the page fail it. */
async function visit(options, walk, { address = '', expected = null } = {}) {
  const context = await browser.newContext(options);
  try {
    const { page, errors } = await open(context, server.url + address, expected);
    await walk(page, context);
    assert.deepEqual(errors, []);
  } finally {
    await context.close();
  }
}

const rankOf = async (page, scope) => {
  const text = await page.locator(`${scope} .standing`).textContent();
  const [, rank, of] = text.match(/Rank ([\d,]+) of ([\d,]+)/).map((part) => Number(part.replace(',', '')));
  return { rank, of };
};
const card = (page, place) => page.locator('.card .card-link').nth(place);
const ids = (answer) => answer.map(([id]) => id);

test('browse, search, view, cart and buy: the strip follows each event', TIMEOUT, () =>
  visit(DESKTOP, async (page) => {
    await settled(page);
    const nothing = await strip(page);
    assert.equal(nothing.length, 10);
    const scores = nothing.map(([, score]) => score);
    assert.deepEqual(scores, scores.toSorted((a, b) => b - a));

    await page.getByRole('button', { name: 'Umbrellas' }).click();
    const names = await page.locator('.card').evaluateAll((cards) => cards.map((each) => each.dataset.id));
    assert.ok(names.length > 0 && names.every((id) => id.startsWith('umbrella-')), names.join());

    await page.getByRole('searchbox').fill('elvika umbrella');
    const found = await page.locator('.card').count();
    assert.ok(found > 0 && found < names.length, `${found} found`);

    const viewed = await after(page, () => card(page, 0).click());
    assert.notDeepEqual(viewed, nothing);
    await page.waitForSelector('#item-dialog .standing');
    const { rank, of } = await rankOf(page, '#item-dialog');
    assert.ok(rank >= 1 && rank <= of && of >= 500, `${rank} of ${of}`);

    const carted = await after(page, () => page.locator('#item-dialog .primary').click());
    assert.notDeepEqual(carted, viewed);
    await page.keyboard.press('Escape');
    assert.equal(await page.locator('#item-dialog').isVisible(), false);
    assert.equal(await page.locator('.badge').textContent(), '1');

    await page.locator('#cart-link').click();
    const bought = await after(page, () => page.getByRole('button', { name: 'Buy', exact: true }).click());
    assert.notDeepEqual(bought, carted);
    assert.equal(await page.locator('.badge').isVisible(), false);

    const events = await page.locator('.event').evaluateAll((list) => list.map((each) => each.dataset.behaviour));
    assert.deepEqual(events, ['buy', 'cart', 'view']);
    await settled(page, { reasons: true });
    assert.match(await page.locator('.strip-why').first().textContent(), /^(Because you|No single thing)/);
    const own = await page.locator('.event a').first().getAttribute('href');
    assert.ok(!ids(bought).includes(own.split('/').at(-1)), 'what was bought is not recommended again');
  }));

test('an event can be taken back, a visit started over and brought back', TIMEOUT, () =>
  visit(DESKTOP, async (page) => {
    await settled(page);
    const nothing = await strip(page);
    const one = await after(page, () => page.locator('.card-cart').nth(0).click());
    const two = await after(page, () => page.locator('.card-cart').nth(1).click());
    assert.deepEqual(ids(await after(page, () => page.getByRole('button', { name: 'Undo last' }).click())), ids(one));
    const again = await after(page, () => page.locator('.card-cart').nth(1).click());
    assert.deepEqual(ids(again), ids(two));
    assert.deepEqual(ids(await after(page, () => page.getByRole('button', { name: 'Start over' }).click())), ids(nothing));
    const back = await after(page, () => page.locator('#toast').getByRole('button', { name: 'Undo' }).click());
    assert.deepEqual(ids(back), ids(two));
    await page.reload();
    await settled(page);
    assert.deepEqual(ids(await strip(page)), ids(two), 'the visit is kept');
    await after(page, () => page.getByRole('button', { name: 'Student moving in' }).click());
    assert.ok((await page.locator('.event').count()) >= 5);
  }));

test('why: history items and modalities by leave-one-out; without a modality the scores differ', TIMEOUT, () =>
  visit(DESKTOP, async (page) => {
    await settled(page);
    await after(page, () => page.getByRole('button', { name: 'Runner' }).click());
    await after(page, () => page.locator('.strip-card a').first().click());
    await page.waitForSelector('#item-dialog .bars');
    const labels = await page.locator('#item-dialog .bar-label').allTextContents();
    for (const modality of ['Picture', 'Text', 'Graph']) assert.ok(labels.includes(modality), labels.join());
    const values = await page.locator('#item-dialog .bar-value').allTextContents();
    assert.ok(values.every((value) => /^[+−]\d+\.\d\d$/.test(value)), values.join());
    await page.keyboard.press('Escape');

    const all = await strip(page);
    for (const modality of ['Picture', 'Text', 'Graph']) {
      const box = page.getByRole('switch', { name: modality });
      const without = await after(page, () => box.click());
      assert.notDeepEqual(without, all, `without ${modality}`);
      assert.deepEqual(ids(await after(page, () => box.click())), ids(all), `${modality} again`);
    }
    // The last one stays on.
    await after(page, () => page.getByRole('switch', { name: 'Picture' }).click());
    await after(page, () => page.getByRole('switch', { name: 'Text' }).click());
    await page.getByRole('switch', { name: 'Graph' }).click();
    assert.equal(await page.getByRole('switch', { name: 'Graph' }).isChecked(), true);
  }));

test('what a call cost: stages, tokens computed and reused, the model', TIMEOUT, () =>
  visit(DESKTOP, async (page) => {
    await settled(page);
    await after(page, () => page.locator('.card-cart').nth(0).click());
    await after(page, () => page.locator('.card-cart').nth(1).click());
    const chart = await page.getByRole('img', { name: /^Milliseconds by stage/ }).getAttribute('aria-label');
    for (const stage of ['Queue', 'Encode', 'Prefill', 'Score', 'Rest']) assert.match(chart, new RegExp(`${stage} \\(`));
    const tokens = await page.locator('.tokens-text').textContent();
    const [, computed, reused] = tokens.match(/(\d+) tokens? computed(\d+) reused/).map(Number);
    assert.ok(computed > 0 && reused > 0, tokens);
    assert.match(await page.locator('.model-facts').textContent(), /TMF.*Parameters[\d,]+Size[\d.]+ MB/);
    assert.match(await page.locator('.where').textContent(), /CPU/);
  }));

test('WebGPU asked for where there is none: it says why and goes on on the CPU', TIMEOUT, () =>
  visit(DESKTOP, async (page) => {
    await settled(page);
    await page.getByRole('radio', { name: 'WebGPU' }).check();
    await settled(page);
    await page.waitForSelector('.fallback');
    assert.match(await page.locator('.where').textContent(), /CPU.*Not on WebGPU: .+/);
    assert.equal((await strip(page)).length, 10);
  }));

test('on WebGPU the same products are recommended', TIMEOUT, async () => {
  const gpu = await launch({ gpu: true });
  try {
    const context = await gpu.newContext(DESKTOP);
    const { page, errors } = await open(context, `${server.url}?software-adapter`);
    await settled(page);
    await page.getByRole('radio', { name: 'CPU' }).check();
    await settled(page);
    const cpu = await after(page, () => page.locator('.card-cart').nth(0).click());
    await page.getByRole('radio', { name: 'WebGPU' }).check();
    await page.waitForFunction(() => /^WebGPU/.test(document.querySelector('.where').textContent), null, { timeout: 120_000 });
    await settled(page);
    assert.deepEqual(ids(await strip(page)).slice(0, 3), ids(cpu).slice(0, 3));
    assert.deepEqual(errors, []);
  } finally {
    await gpu.close();
  }
});

test('a product of one’s own is ranked at once, stays, and can be removed', TIMEOUT, () =>
  visit(DESKTOP, async (page) => {
    await settled(page);
    await after(page, () => page.getByRole('button', { name: 'Parent' }).click());
    await page.getByRole('link', { name: 'Your own product' }).click();
    const studio = page.locator('#studio-dialog');
    await studio.getByRole('button', { name: 'Put it on the shelf' }).click();
    assert.equal(await studio.locator('.standing').count(), 0, 'not without a title');

    await studio.getByRole('button', { name: 'Mug' }).click();
    await studio.getByRole('radio', { name: 'rose pink' }).check();
    await studio.getByRole('radio', { name: 'dotted' }).check({ force: true });
    await studio.getByLabel('Title').fill('Elvika Kids Mug Mine');
    await studio.getByRole('button', { name: 'Put it on the shelf' }).click();
    await studio.locator('.standing').waitFor();
    const drawn = await rankOf(page, '#studio-dialog');
    assert.ok(drawn.rank >= 1 && drawn.rank <= drawn.of, JSON.stringify(drawn));
    assert.match(await studio.locator('.ranking .is-mine').textContent(), /Elvika Kids Mug Mine/);
    assert.equal(await studio.locator('.ranking li').count(), 5);

    await studio.locator('#picture-file').setInputFiles(path.join(DEMO, 'public/images/umbrella-02.png'));
    await studio.getByLabel('Title').fill('Umbrella from a file');
    await studio.getByRole('button', { name: 'Put it on the shelf' }).click();
    await page.waitForFunction(() => /Umbrella from a file/.test(document.querySelector('.is-mine')?.textContent));
    assert.equal((await rankOf(page, '#studio-dialog')).of, drawn.of + 1);
    await studio.getByRole('button', { name: 'Find pictures like it' }).click();
    await studio.locator('.alike-list').waitFor({ timeout: 60_000 });
    const alike = studio.locator('.alike-list li');
    assert.equal(await alike.count(), 6);
    assert.equal(await alike.first().locator('a').getAttribute('href'), '#/item/umbrella-02', 'itself first');
    assert.ok(Number(await alike.first().locator('span').textContent()) > 0.9);

    await studio.locator('#picture-file').setInputFiles({ name: 'no.png', mimeType: 'image/png', buffer: Buffer.from('no picture') });
    await page.waitForFunction(() => /no picture/.test(document.querySelector('.complaint').textContent));
    await page.keyboard.press('Escape');

    await page.reload();
    await settled(page);
    assert.equal(await page.locator('.flag').count(), 2);
    await page.goto(`${server.url}#/item/own-1`);
    await page.waitForSelector('#item-dialog .standing');
    assert.equal((await rankOf(page, '#item-dialog')).of, drawn.of + 1);
    await after(page, () => page.getByRole('button', { name: 'Remove your product' }).click());
    assert.equal(await page.locator('.flag').count(), 1);
  }));

test('after the first visit it works without a network', TIMEOUT, async () => {
  const own = await serve();
  const context = await browser.newContext(DESKTOP);
  try {
    const { page } = await open(context, own.url);
    await settled(page);
    const online = await after(page, () => page.locator('.card-cart').nth(0).click());
    await page.waitForSelector('.offline-state[data-state="ready"]', { timeout: 60_000 });
    await own.close();
    await context.setOffline(true);
    await page.reload();
    await settled(page);
    assert.deepEqual(ids(await strip(page)), ids(online));
    const next = await after(page, () => page.locator('.card-cart').nth(3).click());
    assert.notDeepEqual(next, online);
    const pictures = page.locator('.card img');
    assert.ok(await pictures.nth(2).evaluate((image) => image.complete && image.naturalWidth > 0));
    await page.getByRole('button', { name: 'Umbrellas' }).click();
    await page.waitForFunction(() => document.querySelector('.card img').naturalWidth > 0);
  } finally {
    await context.close();
    await own.close().catch(() => {});
  }
});

test('nothing is asked of other sites, and nothing carries what the shopper does', TIMEOUT, () =>
  visit(DESKTOP, async (page, context) => {
    const requests = [];
    context.on('request', (request) => requests.push(request));
    await page.reload();
    await settled(page);
    await after(page, () => card(page, 3).click());
    await page.keyboard.press('Escape');
    await after(page, () => page.locator('.card-cart').nth(1).click());
    assert.ok(requests.length > 10);
    for (const request of requests) {
      assert.ok(request.url().startsWith(server.url) || request.url().startsWith('blob:'), request.url());
      assert.equal(request.method(), 'GET');
      assert.equal(new URL(request.url()).search, '');
      assert.equal(request.postData(), null);
    }
    assert.match(await page.locator('.privacy').textContent(), /To other sites: 0\./);
  }));

test('a model that does not arrive leaves the shop open and says what to do', TIMEOUT, async () => {
  const context = await browser.newContext({ ...DESKTOP, serviceWorkers: 'block' });
  try {
    await context.route('**/model.safetensors', (route) => route.abort());
    const { page } = await open(context, server.url);
    await page.getByRole('alert').waitFor({ timeout: 120_000 });
    assert.ok((await page.locator('.card').count()) > 10, 'products are there');
    await context.unroute('**/model.safetensors');
    await page.getByRole('button', { name: 'Try again' }).click();
    await settled(page);
  } finally {
    await context.close();
  }
});

test('a catalogue that does not arrive says what to do', TIMEOUT, async () => {
  const context = await browser.newContext({ ...DESKTOP, serviceWorkers: 'block' });
  try {
    await context.route('**/catalogue.jsonl', (route) => route.fulfill({ status: 500 }));
    const { page } = await open(context, server.url);
    assert.match(await page.getByRole('alert').first().textContent(), /did not arrive/);
    await context.unroute('**/catalogue.jsonl');
    await page.getByRole('button', { name: 'Try again' }).first().click();
    await page.waitForSelector('.card[data-id]');
    await settled(page);
    await page.getByRole('searchbox').fill('nothing is called that');
    await page.getByRole('button', { name: 'Show everything' }).click();
    await page.waitForSelector('.card[data-id]');
  } finally {
    await context.close();
  }
});

test('by keyboard alone', TIMEOUT, () =>
  visit(DESKTOP, async (page) => {
    await settled(page);
    const focus = () => page.evaluate(() => document.activeElement.textContent.trim() || document.activeElement.ariaLabel);
    await page.keyboard.press('Tab');
    assert.equal(await focus(), 'Skip to the products');
    await page.keyboard.press('Enter');
    assert.equal(await page.evaluate(() => document.activeElement.id), 'main');
    for (let i = 0; i < 40 && !(await page.evaluate(() => document.activeElement.matches('.card-link'))); i++) {
      await page.keyboard.press('Tab');
    }
    const opened = await page.evaluate(() => document.activeElement.closest('li').dataset.id);
    await after(page, () => page.keyboard.press('Enter'));
    assert.ok(await page.locator('#item-dialog').isVisible());
    for (let i = 0; i < 12; i++) {
      await page.keyboard.press('Tab');
      const inside = await page.evaluate(() => document.activeElement === document.body || document.activeElement.closest('#item-dialog') !== null);
      assert.ok(inside, 'the focus stays in the dialog');
    }
    await page.keyboard.press('Escape');
    assert.equal(await page.evaluate(() => document.activeElement.closest('li')?.dataset.id), opened, 'the focus is back');
    await page.keyboard.press('Tab');
    await after(page, () => page.keyboard.press('Enter'));
    assert.equal(await page.locator('.badge').textContent(), '1');
    await page.locator('#cart-link').focus();
    await page.keyboard.press('Enter');
    await page.locator('#cart-dialog').waitFor();
    await page.getByRole('button', { name: 'Buy', exact: true }).focus();
    await after(page, () => page.keyboard.press('Enter'));
    await page.getByRole('switch', { name: 'Graph' }).focus();
    await after(page, () => page.keyboard.press('Space'));
    await page.goto(`${server.url}#/studio`);
    await page.locator('#studio-dialog').getByRole('button', { name: 'Cushion' }).focus();
    await page.keyboard.press('Enter');
    await page.getByLabel('Title').focus();
    await page.keyboard.press('Enter');
    await page.locator('#studio-dialog .standing').waitFor();
  }));

const STATES = {
  grid: (page) => page.evaluate(() => scrollTo(0, 0)),
  product: async (page) => {
    await page.goto(`${server.url}#/item/umbrella-01`);
    await page.waitForSelector('#item-dialog .bars');
  },
  cart: (page) => page.goto(`${server.url}#/cart`),
  studio: async (page) => {
    await page.goto(`${server.url}#/studio`);
    await page.locator('#studio-dialog').getByRole('button', { name: 'Tote Bag' }).click();
    await page.getByRole('radio', { name: 'cobalt blue' }).check({ force: true });
    await page.getByLabel('Title').fill('Hinode Student Tote Bag Mine');
    await page.getByRole('button', { name: 'Put it on the shelf' }).click();
    await page.locator('#studio-dialog .standing').waitFor();
  },
  panel: async (page) => {
    await page.goto(`${server.url}#/panel`);
    await page.locator('.panel').evaluate((panel) => panel.scrollIntoView({ block: 'start' }));
  },
};

const SHOTS = process.env.SCREENSHOTS ? path.join(DEMO, 'screenshots') : null;

for (const [screen, options] of [['desktop', DESKTOP], ['phone', PHONE]]) {
  for (const colorScheme of ['light', 'dark']) {
    test(`${screen}, ${colorScheme}: axe finds nothing serious, nothing is wider than the screen`, TIMEOUT, () =>
      visit({ ...options, colorScheme, reducedMotion: 'reduce' }, async (page) => {
        await settled(page);
        for (const place of [1, 4]) await after(page, () => page.locator('.card-cart').nth(place).click());
        await settled(page, { reasons: true });
        await page.evaluate(() => document.getElementById('toast').setAttribute('hidden', ''));
        await page.evaluate(AXE);
        for (const [state, go] of Object.entries(STATES)) {
          await go(page);
          await page.mouse.move(2, 400);
          await page.waitForTimeout(300);
          const { violations } = await page.evaluate(() => globalThis.axe.run());
          const bad = violations.filter(({ impact }) => ['serious', 'critical'].includes(impact));
          const text = bad.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html.slice(0, 160)} ${node.failureSummary}`));
          assert.deepEqual(text, [], state);
          const [wide, width] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
          assert.ok(wide <= width, `${state}: ${wide} px on ${width}`);
          if (SHOTS !== null) {
            await mkdir(SHOTS, { recursive: true });
            await writeFile(path.join(SHOTS, `${screen}-${colorScheme}-${state}.png`), coarse(await page.screenshot()));
          }
          await page.keyboard.press('Escape');
        }
      }));
  }
}
