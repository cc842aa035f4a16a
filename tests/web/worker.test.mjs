// B27 and B30: workers that end, instances that trap, browsers and policies that forbid them.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { skip, web } from './harness.mjs';

describe('recovery of the worker (B27)', { skip }, () => {
  const w = web();

  it('a terminated worker is replaced, with what was added to the catalogue', () => w.page(async (page) => {
    const bundle = w.server.bundle();
    const result = await page.evaluate(async (url) => {
      const workers = [];
      const recommender = await tributary.Recommender.fromPretrained(url, {
        device: 'wasm',
        worker: () => { workers.push(new Worker('/dist/worker.js', { type: 'module' })); return workers.at(-1); },
      });
      const events = [];
      for (const type of ['devicelost', 'recovered']) recommender.addEventListener(type, () => events.push(type));
      const info = await recommender.setCatalog([{ id: 'new-1', title: 'A new vase', category: 'Vases and Pots', price: 5 }], { mode: 'add' });
      const ask = () => outcome(recommender.recommend({ history: ['vase-01'], k: 1000 }));
      const before = await ask();
      workers.at(-1).terminate();
      const idle = await ask();
      const running = ask();
      workers.at(-1).terminate();
      const lost = await running;
      await recommender.dispose();
      return { info, before, idle, lost, events, workers: workers.length };
    }, bundle.url);
    assert.equal(result.info.skipped.length, 0, JSON.stringify(result.info));
    assert.ok(result.before.value.items.some(({ id }) => id === 'new-1'));
    assert.deepEqual(result.idle.value?.items, result.before.value.items, JSON.stringify({ ...result.idle, value: undefined }));
    assert.deepEqual(result.lost.value?.items, result.before.value.items, JSON.stringify({ ...result.lost, value: undefined }));
    assert.equal(result.workers, 3);
    assert.deepEqual(result.events, ['recovered', 'recovered']);
    // From the cache.
    assert.equal(bundle.requests.filter(({ file }) => file.endsWith('.safetensors')).length, new Set(bundle.requests.map(({ file }) => file).filter((file) => file.endsWith('.safetensors'))).size);
  }));
  it('a third death within a minute is WASM_TRAP', () => w.page(async (page) => {
    const codes = await page.evaluate(async (url) => {
      let worker;
      const recommender = await tributary.Recommender.fromPretrained(url, { device: 'wasm', worker: () => (worker = new Worker('/dist/worker.js', { type: 'module' })) });
      const codes = [];
      for (let i = 0; i < 3; i++) {
        worker.terminate();
        codes.push((await outcome(recommender.recommend({ history: [] }))).code ?? 'ok');
      }
      await recommender.dispose();
      return codes;
    }, w.server.bundle().url);
    assert.deepEqual(codes, ['ok', 'ok', 'WASM_TRAP']);
  }));
  it('a Worker of the caller cannot be replaced: WASM_TRAP', () => w.page(async (page) => {
    const result = await page.evaluate(async (url) => {
      const worker = new Worker('/dist/worker.js', { type: 'module' });
      const recommender = await tributary.Recommender.fromPretrained(url, { device: 'wasm', worker });
      worker.terminate();
      const result = await outcome(recommender.recommend({ history: [] }));
      await recommender.dispose();
      return result;
    }, w.server.bundle().url);
    assert.equal(result.code, 'WASM_TRAP', JSON.stringify(result));
    assert.equal(result.typed, true);
  }));

  for (const how of ['sync', 'future']) {
    it(`a trap (${how}) is survived by a fresh worker`, () => w.page(async (page) => {
      const result = await page.evaluate(async ([url, how]) => {
        let made = 0;
        const worker = () => new Worker(made++ === 0 ? `/hooks/trap_worker.js?how=${how}` : '/dist/worker.js', { type: 'module' });
        return { ...await tryOnce(url, { worker }), made };
      }, [w.server.bundle().url, how]);
      assert.equal(result.value?.ids.length, 3, JSON.stringify(result));
      assert.equal(result.made, 2);
    }));
    it(`a trap (${how}) that comes again is WASM_TRAP`, () => w.page(async (page) => {
      const result = await page.evaluate(async ([url, how]) => {
        let made = 0;
        const worker = () => { made++; return new Worker(`/hooks/trap_worker.js?how=${how}`, { type: 'module' }); };
        return { ...await tryOnce(url, { worker }), made };
      }, [w.server.bundle().url, how]);
      assert.equal(result.code, 'WASM_TRAP', JSON.stringify(result));
      assert.equal(result.made, 2);
    }));
  }
  for (const name of ['self_check', 'bundle_append', 'bundle_open']) {
    it(`a trap in ${name} while loading is survived by a fresh worker`, () => w.page(async (page) => {
      const result = await page.evaluate(async ([url, name]) => {
        let made = 0;
        const worker = () => new Worker(made++ === 0 ? `/hooks/trap_worker.js?export=${name}` : '/dist/worker.js', { type: 'module' });
        return { ...await tryOnce(url, { worker }), made };
      }, [w.server.bundle().url, name]);
      assert.equal(result.value?.ids.length, 3, JSON.stringify(result));
      assert.equal(result.made, 2);
    }));
  }
  it('in the page (worker: false) a trap is WASM_TRAP, and so is every later call', () => w.page(async (page) => {
    const codes = await page.evaluate(async (url) => {
      await import('/hooks/trap.js');
      const recommender = await tributary.Recommender.fromPretrained(url, { device: 'wasm', worker: false });
      const codes = [];
      for (let i = 0; i < 2; i++) codes.push((await outcome(recommender.recommend({ history: [] }))).code);
      await recommender.dispose();
      codes.push((await tryOnce(url, { worker: false })).code);
      return codes;
    }, w.server.bundle().url);
    assert.deepEqual(codes, ['WASM_TRAP', 'WASM_TRAP', 'WASM_TRAP']);
  }));
  it('an error of the core keeps its code and does not end the instance', () => w.page(async (page) => {
    const result = await page.evaluate(async (url) => {
      const recommender = await tributary.Recommender.fromPretrained(url, { device: 'wasm' });
      const bad = await outcome(recommender.recommend({ history: [], targetBehaviour: 'no such behaviour' }));
      const good = await outcome(recommender.recommend({ history: [] }));
      await recommender.dispose();
      return { bad, good };
    }, w.server.bundle().url);
    assert.equal(result.bad.code, 'INVALID_ARGUMENT', JSON.stringify(result.bad));
    assert.equal(result.bad.typed, true);
    assert.equal(result.good.value?.items.length, 10);
  }));
});

describe('browsers and policies that forbid (B30)', { skip }, () => {
  const w = web();
  const BASE = "default-src 'self'; script-src 'self' 'unsafe-inline'";
  const policed = (policy, use) => {
    w.server.pages.set('/policed.html', { headers: { 'content-security-policy': policy }, body: w.server.pages.get('/page.html').body });
    // A worker has the policy of its own response.
    w.server.distHeaders.set('worker.js', { 'content-security-policy': policy });
    return w.page(use, { path: '/policed.html' }).finally(() => w.server.distHeaders.clear());
  };

  it('with wasm-unsafe-eval it works', () => policed(`${BASE} 'wasm-unsafe-eval'`, async (page) => {
    const result = await page.evaluate((url) => tryOnce(url), w.server.bundle().url);
    assert.equal(result.value?.ids.length, 3, JSON.stringify(result));
  }));
  for (const worker of [true, false]) {
    it(`without it the error names the directive (worker: ${worker})`, () => policed(BASE, async (page) => {
      const bundle = w.server.bundle();
      const result = await page.evaluate(([url, worker]) => tryOnce(url, { worker }), [bundle.url, worker]);
      assert.equal(result.code, 'FEATURE_MISSING', JSON.stringify(result));
      assert.match(result.message, /Content-Security-Policy/);
      assert.match(result.detail.hint, /'wasm-unsafe-eval'.*script-src/);
      // Before any download.
      assert.equal(bundle.requests.length, 0);
    }));
  }
  it('a policy that forbids workers is named', () => policed(`${BASE} 'wasm-unsafe-eval'; worker-src 'none'`, async (page) => {
    const result = await page.evaluate((url) => tryOnce(url), w.server.bundle().url);
    assert.equal(result.typed, true, JSON.stringify(result));
    assert.match(result.detail.hint, /worker-src/);
  }));
  it('a worker script that is missing is named', () => w.page(async (page) => {
    const result = await page.evaluate((url) => tryOnce(url, { worker: () => new Worker('/nothing.js', { type: 'module' }) }), w.server.bundle().url);
    assert.equal(result.code, 'INTERNAL', JSON.stringify(result));
    assert.match(result.message, /worker could not be started/);
  }));
  it('a missing core_bg.wasm is named', () => w.page(async (page) => {
    const result = await page.evaluate((url) => tryOnce(url, { wasm: '/nothing.wasm' }), w.server.bundle().url);
    assert.equal(result.typed, true);
    assert.match(result.message, /core_bg\.wasm.*404/);
    assert.match(result.detail.hint, /bundler/);
  }));
  it('without WebAssembly SIMD the error says which browsers have it', () => w.page(async (page) => {
    const bundle = w.server.bundle();
    const result = await page.evaluate((url) => tryOnce(url, { worker: () => new Worker('/hooks/simd_worker.js', { type: 'module' }) }), bundle.url);
    assert.equal(result.code, 'FEATURE_MISSING', JSON.stringify(result));
    assert.match(result.message, /SIMD/);
    assert.equal(bundle.requests.length, 0);
  }));
  it('`wasm` takes an address, bytes, a Response and a Module', () => w.page(async (page) => {
    const results = await page.evaluate(async (url) => {
      const at = '/dist/core_bg.wasm';
      const bytes = await (await fetch(at)).arrayBuffer();
      const forms = [at, new URL(at, location.href), bytes, new Uint8Array(bytes), await WebAssembly.compile(bytes), await fetch(at)];
      const results = [];
      for (const wasm of forms) results.push((await tryOnce(url, { wasm })).value?.ids.length);
      return results;
    }, w.server.bundle().url);
    assert.deepEqual(results, [3, 3, 3, 3, 3, 3]);
  }));

  it('a package on another origin starts its worker from a blob', () => {
    w.server.pages.set('/cross.html', { headers: {}, body: w.server.pages.get('/page.html').body.replace("'/dist/", `'${w.server.otherOrigin}/dist/`) });
    return w.page(async (page) => {
      const result = await page.evaluate((url) => tryOnce(url), w.server.bundle().url);
      assert.equal(result.value?.ids.length, 3, JSON.stringify(result));
      assert.deepEqual(page.problems, []);
    }, { path: '/cross.html' });
  });
  it('importing does nothing', () => w.page(async (page) => {
    assert.equal(page.workers().length, 0);
    const { performance: names } = await page.evaluate(() => ({ performance: performance.getEntriesByType('resource').map(({ name }) => name) }));
    assert.ok(!names.some((name) => /\/(core|host|runtime|worker)\b/.test(new URL(name).pathname)), names.join('\n'));
  }));
});
