// B17 to B19 on a software adapter: a GPU that runs out of memory, reports errors or never answers.

import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { askFaulty, HISTORY } from './faulty_gpu.mjs';
import { skip, web } from './harness.mjs';

/** The first worker fails, those after it are sound. */
const AGAIN = { again: '/dist/worker.js' };
const RECOVERED = [['recovered', null]];

describe('a GPU that runs out of memory (B17)', { skip }, () => {
  const w = web();
  const fault = { fault: 'memory', at: 'createBuffer' };
  /** What a load and a request allocate, and the right answer. */
  let sound;
  before(async () => {
    sound = await w.page((page) => page.evaluate(async ([url, query, history]) => {
      const { recommender, tell, count } = await loadFaulty(url, query);
      const load = await count();
      await tell({ arm: true });
      const { items } = await recommender.recommend({ history, k: 3 });
      const request = await count();
      await recommender.dispose();
      return { load, request, answer: items.map(({ id }) => id).join() };
    }, [w.server.bundle().url, { ...fault, times: 0 }, HISTORY]));
  });

  it('while loading is OUT_OF_MEMORY, and not tried again', async () => {
    for (const n of [1, 2, Math.floor(sound.load / 2)]) {
      const { loaded, failed, workers, all } = await askFaulty(w, { ...fault, n });
      assert.equal(failed, 1, `buffer ${n} of ${sound.load}`);
      assert.equal(loaded.code, 'OUT_OF_MEMORY', all);
      assert.equal(loaded.typed, true);
      assert.equal(workers, 1);
    }
  });
  it('with the last buffer of a load is seen by the first call, which a fresh worker answers', async () => {
    const { failed, answers, events, all } = await askFaulty(w, { ...fault, n: sound.load }, { options: AGAIN });
    assert.equal(failed, 1);
    assert.deepEqual(answers, [sound.answer, sound.answer], all);
    assert.deepEqual(events, RECOVERED);
  });
  it('auto takes the CPU, and says why', async () => {
    for (const n of [1, sound.load]) {
      const { failed, results, all } = await askFaulty(w, { ...fault, n }, { options: { device: 'auto' } });
      assert.equal(failed, 1);
      assert.equal(results[0].value?.backend.device, 'wasm', all);
      assert.match(results[0].value.backend.fallbackReason, /out of memory/);
    }
  });
  it('in a call is survived by a fresh worker', async () => {
    for (const n of [Math.floor(sound.request / 2), sound.request]) {
      const { failed, answers, workers, events, all } = await askFaulty(w, { ...fault, n, armed: 0 }, { options: AGAIN });
      assert.equal(failed, 1, `buffer ${n} of ${sound.request}`);
      assert.deepEqual(answers, [sound.answer, sound.answer], all);
      assert.equal(workers, 2);
      assert.deepEqual(events, RECOVERED);
    }
  });
  it('in a worker that cannot be replaced is OUT_OF_MEMORY; the next call has a device of its own', async () => {
    const { answers, events, all } = await askFaulty(w, { ...fault, armed: 0 }, { options: { given: true } });
    assert.deepEqual(answers, ['OUT_OF_MEMORY', sound.answer], all);
    assert.deepEqual(events, [['devicelost', true], ...RECOVERED]);
  });
  it('for ever is an error each time, never a loop and never INTERNAL', async () => {
    const { answers, workers, all } = await askFaulty(w, { ...fault, n: sound.load, times: 1000 }, { asks: [{}, {}, {}] });
    // A fresh worker, then a fresh device: as often as a minute allows.
    assert.deepEqual(answers, ['OUT_OF_MEMORY', 'OUT_OF_MEMORY', 'DEVICE_LOST'], all);
    assert.equal(workers, 2);
  });
});

describe('errors of WebGPU (B18)', { skip }, () => {
  const w = web();

  it('one of validation is INTERNAL, and the next call is answered', async () => {
    const { failed, results, workers, all } = await askFaulty(w, { fault: 'validation', at: 'submit', armed: 0 });
    assert.equal(failed, 1);
    assert.equal(results[0].code, 'INTERNAL', all);
    assert.match(results[0].message, /injected/);
    assert.equal(results[1].value?.items.length, 3, all);
    assert.equal(workers, 1);
  });
  it('one of the browser itself ends the instance; a fresh worker answers', async () => {
    const { failed, results, events, all } = await askFaulty(w, { fault: 'internal', at: 'submit', armed: 0 }, { options: AGAIN });
    assert.equal(failed, 1);
    assert.equal(results[0].value?.items.length, 3, all);
    assert.deepEqual(events, RECOVERED);
  });
});

describe('a GPU that never answers (B19)', { skip }, () => {
  const w = web();

  it('is TIMEOUT; the worker is replaced and the next call answered', async () => {
    const { failed, results, workers, events, all } = await askFaulty(w, { fault: 'hang', at: 'mapAsync', armed: 0 }, { options: AGAIN, asks: [{ timeoutMs: 1000 }, {}] });
    assert.equal(failed, 1);
    assert.equal(results[0].code, 'TIMEOUT', all);
    assert.equal(results[1].value?.items.length, 3, all);
    assert.equal(workers, 2);
    assert.deepEqual(events, RECOVERED);
  });
});
