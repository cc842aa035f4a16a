// The same requests, the same bundle: the package in Chromium, on WebAssembly and on WebGPU, answers as
// the native program does.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { describe, it } from 'node:test';
import { answerNatively, compare, counts, drawRequests, PROGRAM, TMF } from './agreement.mjs';
import { content, DEMO, skip, web } from './harness.mjs';

const REQUESTS = 50;

const why = skip || (!existsSync(PROGRAM) && `no program at ${PROGRAM}: cargo build, or set TRIBUTARY`);

describe('the browser answers as the native program does', { skip: why }, () => {
  const w = web();
  const requests = drawRequests(REQUESTS, content('catalogue.jsonl').toString(), TMF);
  let native;

  const answer = (t, device) => w.page(async (page) => {
    native ??= answerNatively(DEMO, requests);
    await page.evaluate(async ([url, device]) => {
      window.recommender = await tributary.Recommender.fromPretrained(url, { device, allowSoftwareAdapter: true, cache: 'memory' });
    }, [w.server.bundle().url, device]);
    const seen = counts();
    const began = performance.now();
    for (const [i, request] of requests.entries()) {
      const ours = await page.evaluate((request) => window.recommender.recommend(request).then(
        ({ items, backend }) => ({ items, device: backend.device }),
        ({ code, message }) => ({ error: code ?? message })), request);
      if (!ours.error) assert.equal(ours.device, device);
      compare(request, ours, native[i], seen);
    }
    await page.evaluate(() => window.recommender.dispose());
    const refused = native.filter(({ error }) => error).length;
    t.diagnostic(`${device}: ${REQUESTS} requests in ${((performance.now() - began) / 1000).toFixed(1)} s, ${refused} refused by both, ` +
      `${seen.first} with the same first item, ${seen.same} with the same ranking; ${seen.swaps} of ${seen.places} places swapped, at most ${seen.widest.toExponential(1)} apart; ` +
      `largest difference of a score ${seen.difference.toExponential(1)}`);
    assert.ok(refused < REQUESTS / 2, 'most requests must have an answer to compare');
  });

  it('on WebAssembly', (t) => answer(t, 'wasm'));
  it('on WebGPU (a software adapter)', (t) => answer(t, 'webgpu'));
});
