// B15 and B16 on a software adapter: who gets WebGPU, and what happens when its device is lost.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
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
  /** Loads with the lossy worker, asks `asks` times; `armed: 0` spares the load. */
  const run = ({ at, when = 'before', n = 1, times = 1, armed = 1, asks = 1, options = {}, idle = false }) => w.page((page) => page.evaluate(async ([url, query, options, asks, armed, idle]) => {
    const channel = new BroadcastChannel('lossy');
    let destroyed = 0;
    channel.onmessage = ({ data }) => { if (data.destroyed) destroyed++; };
    const events = [];
    const results = [];
    const loaded = await outcome(tributary.Recommender.fromPretrained(url, {
      device: 'webgpu', allowSoftwareAdapter: true, worker: () => new Worker(`/hooks/lossy_worker.js?${query}`, { type: 'module' }), ...options,
    }).then((recommender) => { window.r = recommender; return true; }));
    if (loaded.value) {
      for (const type of ['devicelost', 'recovered']) r.addEventListener(type, (event) => events.push([type, event.willRecover]));
      if (!armed) channel.postMessage({ arm: true });
      await new Promise((resolve) => setTimeout(resolve, 100));
      for (let i = 0; i < asks; i++) {
        if (idle) {
          channel.postMessage({ destroy: true });
          await new Promise((resolve) => setTimeout(resolve, 200));
        }
        results.push(await outcome(r.recommend({ history: ['vase-01', 'sock-01'], k: 3 })));
      }
      await r.dispose();
    }
    return { loaded, results, events, destroyed };
  }, [w.server.bundle().url, new URLSearchParams({ at, when, n, times, armed }).toString(), options, asks, armed, idle]));
  const lost = [['devicelost', true], ['recovered', null]];
  const flat = (events) => events.map(([type, willRecover]) => [type, willRecover ?? null]);

  it('during the upload of weights: the load is made once more', async () => {
    // Past the self-check's own device.
    const { loaded, results, destroyed } = await run({ at: 'writeBuffer', n: 60 });
    assert.equal(destroyed, 1);
    assert.ok(loaded.value, JSON.stringify(loaded));
    assert.equal(results[0].value?.items.length, 3, JSON.stringify(results));
  });
  for (const [name, at, when] of [['before a pass is submitted', 'submit', 'before'], ['while prefill and scores run', 'submit', 'after'], ['while they are read back', 'mapAsync', 'after']]) {
    it(`${name}: recovered, and the call is answered`, async () => {
      const { loaded, results, events, destroyed } = await run({ at, when, armed: 0 });
      assert.ok(loaded.value, JSON.stringify(loaded));
      assert.equal(destroyed, 1, `${at} was not reached`);
      assert.equal(results[0].value?.items.length, 3, JSON.stringify(results));
      assert.deepEqual(flat(events), lost);
    });
  }
  it('while idle', async () => {
    const { results, events, destroyed } = await run({ at: 'idle', idle: true });
    assert.equal(destroyed, 1);
    assert.equal(results[0].value?.items.length, 3, JSON.stringify(results));
    assert.deepEqual(flat(events), lost);
  });
  it('a third time within a minute is DEVICE_LOST', async () => {
    const { results, events } = await run({ at: 'idle', idle: true, times: 3, asks: 3 });
    assert.deepEqual(results.map(({ code }) => code ?? 'ok'), ['ok', 'ok', 'DEVICE_LOST']);
    assert.deepEqual(flat(events), [...lost, ...lost, ['devicelost', false]]);
  });
  it('for ever: DEVICE_LOST, never a loop', async () => {
    const { results } = await run({ at: 'submit', n: 1, times: 1000, armed: 0 });
    assert.equal(results[0].code, 'DEVICE_LOST', JSON.stringify(results));
  });
  it("onDeviceLost: 'reject' rejects and says so", async () => {
    const { results, events } = await run({ at: 'idle', idle: true, options: { onDeviceLost: 'reject' } });
    assert.equal(results[0].code, 'DEVICE_LOST', JSON.stringify(results));
    assert.equal(results[0].retriable, true);
    assert.deepEqual(flat(events), [['devicelost', false]]);
  });
});
