// What every test of the package starts from: the server with faults, one Chromium, a page with the
// package on it. Set CHROMIUM to use another browser than the system's.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, before } from 'node:test';
import { chromium } from 'playwright-core';
import { DIST, startServer } from './server.mjs';

export { content, DEMO, DIST, files, LARGEST, manifest } from './server.mjs';

export const EXECUTABLE = process.env.CHROMIUM ?? '/usr/bin/chromium';
export const FLAGS = ['--no-sandbox', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
  '--disable-sync', '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--js-flags=--expose-gc'];

/** Why these tests cannot run here, or undefined. */
export function whyNot() {
  if (!existsSync(`${DIST}/core_bg.wasm`)) return 'wasm/dist is not built: node wasm/build.mjs';
  if (!existsSync(EXECUTABLE)) return `no browser at ${EXECUTABLE}: install chromium, or set CHROMIUM`;
  return undefined;
}

/** For the options of `describe`: a test that cannot run says why. */
export const skip = whyNot() ?? false;

/** Starts before the tests of a file and stops after them; read the members inside of tests only. */
export function web() {
  const state = {};
  if (skip) return state;
  before(async () => {
    state.server = await startServer();
    state.browser = await chromium.launch({ executablePath: EXECUTABLE, args: FLAGS });
  });
  after(async () => {
    await state.browser?.close();
    await state.server?.close();
  });
  /** A page in a profile of its own; `use` gets it and the context. */
  state.page = async (use, { path = '/page.html', context: options, origin } = {}) => {
    const context = await state.browser.newContext(options);
    try {
      const page = await openPage(state, context, path, origin);
      return await use(page, context);
    } finally {
      await context.close();
    }
  };
  /** `use` runs in a page, with a loaded recommender of the demo bundle. */
  state.recommender = (use, argument) => state.page(async (page) => {
    const result = await page.evaluate(async ([url, use, argument]) => {
      const r = await tributary.Recommender.fromPretrained(url, { device: 'wasm' });
      try {
        return await eval(use)(r, argument);
      } finally {
        await r.dispose();
      }
    }, [state.server.bundle().url, String(use), argument]);
    assert.deepEqual(page.problems, []);
    return result;
  });
  state.openPage = (context, path = '/page.html') => openPage(state, context, path);
  return state;
}

async function openPage({ server }, context, path, origin) {
  const page = await context.newPage();
  page.problems = [];
  page.on('pageerror', (error) => page.problems.push(error.message));
  await page.goto((origin ?? server.origin) + path);
  await page.waitForFunction(() => window.tributary !== undefined);
  await page.addScriptTag({ url: '/hooks/page.js' });
  return page;
}

/** Whether two lists of [id, score] say the same: a call that finds the beginning of its prompt in the cache has other sums. */
export function assertSameScores(found, expected) {
  assert.deepEqual(found.map(([id]) => id), expected.map(([id]) => id));
  found.forEach(([id, score], i) => assert.ok(Math.abs(score - expected[i][1]) < 1e-4, `${id}: ${score}, not ${expected[i][1]}`));
}
