// B17: the WebAssembly memory is too small by any number of pages, in Node and in a worker of a browser.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { Worker } from 'node:worker_threads';
import { DIST, skip, web } from './harness.mjs';
import { initialPages, withMaximum } from './memory_limit.mjs';

const CORE = join(DIST, 'core_bg.wasm');
const unbuilt = existsSync(CORE) ? false : 'wasm/dist is not built: node wasm/build.mjs';
/** `PAGES=1 node --test memory.test.mjs` tries every size; it takes some minutes. */
const PAGES = Number(process.env.PAGES ?? 8);
const DEADLINE_MS = 60_000;

/** What a thread with this module comes to. */
async function inThread(wasm) {
  const worker = new Worker(new URL('memory_thread.mjs', import.meta.url), { workerData: wasm });
  try {
    return await new Promise((resolve, reject) => {
      worker.on('message', resolve);
      worker.on('error', reject);
      worker.on('exit', (code) => reject(new Error(`the thread ended with ${code} and no answer`)));
      setTimeout(() => reject(new Error('the thread hangs')), DEADLINE_MS).unref();
    });
  } finally {
    await worker.terminate();
  }
}

describe('WebAssembly memory that cannot grow (B17)', { skip: unbuilt }, () => {
  it('at any size is OUT_OF_MEMORY, until the answer is right', async (test) => {
    const module = await readFile(CORE);
    const { items } = await inThread(module);
    assert.equal(items?.length, 3);
    const failed = { load: 0, recommend: 0 };
    for (let pages = initialPages(module); ; pages += PAGES) {
      const seen = await inThread(withMaximum(module, pages));
      const at = `${pages} pages: ${JSON.stringify(seen)}`;
      if (!seen.code) {
        assert.deepEqual(seen.items, items, at);
        test.diagnostic(`${failed.load} sizes without room for the load, ${failed.recommend} for the request; ${pages} pages are enough`);
        break;
      }
      failed[seen.stage]++;
      assert.equal(seen.code, 'OUT_OF_MEMORY', at);
      assert.match(seen.message, /(could not grow by|out of memory: .* needs) [1-9]\d* bytes/, at);
      assert.equal(seen.again, seen.stage === 'load' ? undefined : 'OUT_OF_MEMORY', at);
    }
    assert.ok(failed.load > 0 && failed.recommend > 0, JSON.stringify(failed));
  });
  it('from the start is OUT_OF_MEMORY, too', async () => {
    const program = `
      import { Recommender } from '${new URL('../../wasm/dist/index.js', import.meta.url)}';
      const files = { read: () => Promise.reject(new Error('asked for a file')) };
      console.log(await Recommender.fromPretrained(files, { worker: false }).catch(({ code }) => code));`;
    // The engine's own limit; in pages.
    const stdout = await new Promise((resolve, reject) => {
      execFile(process.execPath, ['--wasm-max-mem-pages=20', '--input-type=module', '-e', program], (error, stdout) => (error ? reject(error) : resolve(stdout)));
    });
    assert.equal(stdout, 'OUT_OF_MEMORY\n');
  });
});

describe('memory that runs out in a worker (B17)', { skip }, () => {
  const w = web();
  /** The first worker has no memory left from its call of `name` on; the others are whole. */
  const run = (name) => w.page((page) => page.evaluate(async ([url, name]) => {
    let workers = 0;
    const worker = () => new Worker(workers++ === 0 ? `/hooks/trap_worker.js?how=full&export=${name}` : '/dist/worker.js', { type: 'module' });
    const loaded = await outcome(tributary.Recommender.fromPretrained(url, { device: 'wasm', worker }));
    const recommender = loaded.value;
    if (!recommender) return { loaded, workers };
    const events = [];
    for (const type of ['memorypressure', 'recovered']) recommender.addEventListener(type, () => events.push(type));
    // More than what the load has left free.
    const history = Array(300_000).fill('vase-01');
    const results = [];
    for (let i = 0; i < 2; i++) results.push(await outcome(recommender.recommend({ history, k: 3 })));
    await recommender.dispose();
    return { results: results.map(({ value, ...result }) => ({ ...result, ids: value?.items.map(({ id }) => id) })), workers, events };
  }, [w.server.bundle().url, name]));

  for (const name of ['self_check', 'bundle_append', 'bundle_open']) {
    it(`while loading (${name}) is OUT_OF_MEMORY, and not tried again`, async () => {
      const { loaded, workers } = await run(name);
      assert.equal(loaded.code, 'OUT_OF_MEMORY', JSON.stringify(loaded));
      assert.equal(loaded.typed, true);
      assert.equal(loaded.retriable, false);
      assert.equal(workers, 1);
    });
  }
  it('in a call is survived by a fresh worker', async () => {
    const { results: [first, second], workers, events } = await run('engine_recommend');
    assert.equal(first.ids?.length, 3, JSON.stringify(first));
    assert.deepEqual(first.ids, second.ids);
    assert.equal(workers, 2);
    assert.deepEqual(events, ['recovered']);
  });
});
