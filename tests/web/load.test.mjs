// The straight way: a page loads the demo bundle over a worker, asks, and lets go.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { files, skip, web } from './harness.mjs';

describe('loading', { skip }, () => {
  const w = web();

  it('a page loads a bundle in a worker, recommends and disposes', () => w.page(async (page) => {
    const bundle = w.server.bundle();
    const { value, ...error } = await page.evaluate((url) => tryOnce(url), bundle.url);
    assert.ok(value, JSON.stringify(error));
    assert.equal(value.ids.length, 3);
    assert.equal(new Set(value.ids).size, 3);
    assert.equal(value.backend.device, 'wasm');
    assert.deepEqual(bundle.requests.map(({ file }) => file).sort(), ['bundle.json', ...files.map(({ name }) => name)].sort());
    assert.deepEqual(page.problems, []);
  }));
});
