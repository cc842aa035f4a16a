// B15 and B16 on a software adapter: who gets WebGPU, and what happens when its device is lost.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { askFaulty } from './faulty_gpu.mjs';
import { skip, web } from './harness.mjs';

describe('which device (B15)', { skip }, () => {
  const w = web();
  const load = (options, worker) => w.page((page) => page.evaluate(([url, options, worker]) =>
    tryOnce(url, { ...options, ...(worker && { worker: () => new Worker(worker, { type: 'module' }) }) }), [w.server.bundle().url, options, worker]));

  it('a software adapter is not used unasked', async () => {
    const { value } = await load({ device: 'auto' });
    assert.equal(value.backend.device, 'wasm');
    assert.ok(value.backend.fallbackReason);
    const { code } = await load({ device: 'webgpu' });
    assert.equal(code, 'WEBGPU_UNAVAILABLE');
  });
  it('allowed, it agrees with WebAssembly', async () => {
    const gpu = await load({ device: 'webgpu', allowSoftwareAdapter: true });
    assert.equal(gpu.value?.backend.device, 'webgpu', JSON.stringify(gpu));
    const cpu = await load({ device: 'wasm' });
    assert.deepEqual(gpu.value.ids, cpu.value.ids);
  });
  it('auto measures, and takes the faster one', async () => {
    const { value } = await load({ device: 'auto', allowSoftwareAdapter: true });
    if (value.backend.device === 'wasm') assert.match(value.backend.fallbackReason, /ms where WebAssembly took/);
  });
  it('without WebGPU auto says why it fell back', async () => {
    const { value } = await load({ device: 'auto' }, '/hooks/no_gpu_worker.js');
    assert.match(value.backend.fallbackReason, /no WebGPU/);
    const { code, detail } = await load({ device: 'webgpu' }, '/hooks/no_gpu_worker.js');
    assert.equal(code, 'WEBGPU_UNAVAILABLE');
    assert.match(detail.hint, /secure context/);
  });
  it('getCapabilities describes the adapter', () => w.page(async (page) => {
    const found = await page.evaluate(() => tributary.getCapabilities());
    assert.equal(found.webgpu, true);
    assert.ok(found.limits.maxBufferSize > 0);
    assert.ok(found.storage.quota > 0);
    assert.equal(found.crossOriginIsolated, false);
  }));
});

describe('a lost device (B16)', { skip }, () => {
  const w = web();
  const run = ({ asks = 1, options, idle, ...query }) => askFaulty(w, { fault: 'lose', ...query }, { options, idle, asks: Array(asks).fill({}) });
  const lost = [['devicelost', true], ['recovered', null]];

  it('during the upload of weights: the load is made once more', async () => {
    // Past the self-check's own device.
    const { loaded, results, failed } = await run({ at: 'writeBuffer', n: 60 });
    assert.equal(failed, 1);
    assert.ok(loaded.value, JSON.stringify(loaded));
    assert.equal(results[0].value?.items.length, 3, JSON.stringify(results));
  });
  for (const [name, at, when] of [['before a pass is submitted', 'submit', 'before'], ['while prefill and scores run', 'submit', 'after'], ['while they are read back', 'mapAsync', 'after']]) {
    it(`${name}: recovered, and the call is answered`, async () => {
      const { loaded, results, events, failed } = await run({ at, when, armed: 0 });
      assert.ok(loaded.value, JSON.stringify(loaded));
      assert.equal(failed, 1, `${at} was not reached`);
      assert.equal(results[0].value?.items.length, 3, JSON.stringify(results));
      assert.deepEqual(events, lost);
    });
  }
  it('while idle', async () => {
    const { results, events, failed } = await run({ at: 'idle', idle: true });
    assert.equal(failed, 1);
    assert.equal(results[0].value?.items.length, 3, JSON.stringify(results));
    assert.deepEqual(events, lost);
  });
  it('a third time within a minute is DEVICE_LOST', async () => {
    const { results, events } = await run({ at: 'idle', idle: true, times: 3, asks: 3 });
    assert.deepEqual(results.map(({ code }) => code ?? 'ok'), ['ok', 'ok', 'DEVICE_LOST']);
    assert.deepEqual(events, [...lost, ...lost, ['devicelost', false]]);
  });
  it('for ever: DEVICE_LOST, never a loop', async () => {
    const { results } = await run({ at: 'submit', n: 1, times: 1000, armed: 0 });
    assert.equal(results[0].code, 'DEVICE_LOST', JSON.stringify(results));
  });
  it("onDeviceLost: 'reject' rejects and says so", async () => {
    const { results, events } = await run({ at: 'idle', idle: true, options: { onDeviceLost: 'reject' } });
    assert.equal(results[0].code, 'DEVICE_LOST', JSON.stringify(results));
    assert.equal(results[0].retriable, true);
    assert.deepEqual(events, [['devicelost', false]]);
  });
});
