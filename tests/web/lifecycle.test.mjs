// B21 and B26: aborts at every stage, disposal at every moment, order of calls, memory.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { chromium } from 'playwright-core';
import { EXECUTABLE, FLAGS, LARGEST, skip, web } from './harness.mjs';
import { userTab } from './user_tab.mjs';

describe('aborts and timeouts (B26)', { skip }, () => {
  const w = web();
  /** Answers after the test has ended, if at all. */
  const never = () => {};

  it('a signal that is aborted already rejects before anything is asked', () => w.page(async (page) => {
    const bundle = w.server.bundle();
    const result = await page.evaluate((url) => tryOnce(url, { signal: AbortSignal.abort(new Error('mine')) }), bundle.url);
    assert.equal(result.aborted, true, JSON.stringify(result));
    assert.equal(bundle.requests.length, 0);
  }));
  it('during the manifest', () => w.page(async (page) => {
    const bundle = w.server.bundle({ 'bundle.json': never });
    const result = await page.evaluate((url) => tryOnce(url, { signal: AbortSignal.timeout(500) }), bundle.url);
    assert.equal(result.aborted, true, JSON.stringify(result));
  }));
  it('during the download; the requests end', () => w.page(async (page) => {
    const closed = [];
    const bundle = w.server.bundle({ [LARGEST]: (request, response) => response.on('close', () => closed.push(LARGEST)) });
    const result = await page.evaluate(([url, file]) => {
      const controller = new AbortController();
      const progressCallback = (e) => { if (e.status === 'download' && e.file === file) setTimeout(() => controller.abort(), 100); };
      return tryOnce(url, { signal: controller.signal, progressCallback });
    }, [bundle.url, LARGEST]);
    assert.equal(result.aborted, true, JSON.stringify(result));
    await page.waitForTimeout(1500);
    assert.deepEqual(closed, [LARGEST]);
    assert.equal(page.workers().length, 0);
  }));
  it('during the wait between retries', () => w.page(async (page) => {
    const bundle = w.server.bundle({ 'bundle.json': (request, response) => response.writeHead(429, { 'retry-after': '20' }).end() });
    const result = await page.evaluate((url) => tryOnce(url, { signal: AbortSignal.timeout(700) }), bundle.url);
    assert.equal(result.aborted, true, JSON.stringify(result));
  }));
  it('during compilation', () => w.page(async (page) => {
    const result = await page.evaluate((url) => {
      const controller = new AbortController();
      return tryOnce(url, { signal: controller.signal, progressCallback: (e) => { if (e.status === 'compile') controller.abort(); } });
    }, w.server.bundle().url);
    assert.equal(result.aborted, true, JSON.stringify(result));
    await page.waitForTimeout(1500);
    assert.equal(page.workers().length, 0);
  }));

  it('in the queue and while running; the others are answered in order', () => w.page(async (page) => {
    const result = await page.evaluate(async (url) => {
      const recommender = await tributary.Recommender.fromPretrained(url, { device: 'wasm' });
      const request = { history: ['vase-01'], k: 1 };
      const running = new AbortController();
      const queued = new AbortController();
      const order = [];
      const ask = (name, options) => outcome(recommender.recommend(request, options)).then((result) => { order.push(name); return result; });
      const all = [
        ask('running', { signal: running.signal }),
        ask('background', { priority: 'background' }),
        ask('queued', { signal: queued.signal }),
        ask('first'),
        ask('second'),
      ];
      queued.abort();
      await new Promise((resolve) => setTimeout(resolve));
      running.abort();
      const results = await Promise.all(all);
      await recommender.dispose();
      return { order, aborted: results.map(({ aborted }) => aborted === true), queueMs: results[1].value.timings.queueMs };
    }, w.server.bundle().url);
    assert.deepEqual(result.aborted, [true, false, true, false, false]);
    assert.deepEqual(result.order, ['queued', 'running', 'first', 'second', 'background']);
    assert.ok(result.queueMs > 0);
  }));
  it('timeoutMs rejects with TIMEOUT, and the next call is answered', () => w.page(async (page) => {
    const result = await page.evaluate(async (url) => {
      const recommender = await tributary.Recommender.fromPretrained(url, { device: 'wasm' });
      const late = await outcome(recommender.recommend({ history: ['vase-01'] }, { timeoutMs: 0.01 }));
      const next = await outcome(recommender.recommend({ history: ['vase-01'] }, { timeoutMs: 60_000 }));
      await recommender.dispose();
      return { late, next };
    }, w.server.bundle().url);
    assert.equal(result.late.code, 'TIMEOUT');
    assert.equal(result.late.typed, true);
    assert.equal(result.next.value.items.length, 10);
  }));
  it('in the page (worker: false) a pass that ends too late rejects', () => w.page(async (page) => {
    const results = await page.evaluate(async (url) => {
      const recommender = await tributary.Recommender.fromPretrained(url, { device: 'wasm', worker: false });
      const ask = (options) => outcome(recommender.recommend({ history: ['vase-01'], explain: true }, options));
      const results = [await ask(), await ask({ timeoutMs: 1 }), await ask({ signal: AbortSignal.timeout(1) }), await ask()];
      await recommender.dispose();
      return results;
    }, w.server.bundle().url);
    assert.deepEqual(results.map(({ code, aborted, value }) => value?.items.length ?? (aborted ? 'aborted' : code)), [10, 'TIMEOUT', 'aborted', 10]);
  }));
});

describe('disposal (B26)', { skip }, () => {
  const w = web();

  it('calls that wait, run or come later reject with DISPOSED; the worker is gone', () => w.page(async (page) => {
    const results = await page.evaluate(async (url) => {
      const recommender = await tributary.Recommender.fromPretrained(url, { device: 'wasm' });
      const calls = [1, 2, 3].map(() => outcome(recommender.recommend({ history: ['vase-01'] })));
      await recommender.dispose();
      await recommender.dispose();
      const later = ['recommend', 'setCatalog', 'catalog', 'rerank', 'embed'].map((method) =>
        outcome(recommender[method]({ recommend: { history: [] }, setCatalog: [], rerank: { query: 'a', documents: ['b'] }, embed: ['a'] }[method])));
      return Promise.all([...calls, ...later]);
    }, w.server.bundle().url);
    assert.deepEqual(results.map(({ code }) => code), Array(8).fill('DISPOSED'));
    await page.waitForTimeout(300);
    assert.equal(page.workers().length, 0);
  }));
  it('`await using` disposes', () => w.page(async (page) => {
    const code = await page.evaluate(async (url) => {
      const recommender = await tributary.Recommender.fromPretrained(url, { device: 'wasm' });
      await recommender[Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')]();
      return (await outcome(recommender.recommend({ history: [] }))).code;
    }, w.server.bundle().url);
    assert.equal(code, 'DISPOSED');
  }));
  it('disposal in the page (worker: false) waits for the call that runs', () => w.page(async (page) => {
    const result = await page.evaluate(async (url) => {
      const recommender = await tributary.Recommender.fromPretrained(url, { device: 'wasm', worker: false });
      const call = outcome(recommender.recommend({ history: ['vase-01'] }));
      await recommender.dispose();
      // The instance is whole: another engine runs in it.
      return { first: await call, second: await tryOnce(url, { worker: false }) };
    }, w.server.bundle().url);
    assert.equal(result.first.code, 'DISPOSED');
    assert.equal(result.second.value?.ids.length, 3, JSON.stringify(result.second));
    assert.deepEqual(page.problems, []);
  }));
  it('a Worker of the caller serves two recommenders and survives them', () => w.page(async (page) => {
    const result = await page.evaluate(async (url) => {
      const worker = new Worker('/dist/worker.js', { type: 'module' });
      const results = await Promise.all([tryOnce(url, { worker }), tryOnce(url, { worker })]);
      return [...results, await tryOnce(url, { worker })].map(({ value }) => value?.ids.length);
    }, w.server.bundle().url);
    assert.deepEqual(result, [3, 3, 3]);
    assert.equal(page.workers().length, 1);
  }));
  it('two recommenders on one page do not disturb each other', () => w.page(async (page) => {
    const results = await page.evaluate((url) => Promise.all([tryOnce(url), tryOnce(url), tryOnce(url, { worker: false })]), w.server.bundle().url);
    const ids = results.map(({ value }) => value?.ids);
    assert.equal(ids[0].length, 3);
    assert.deepEqual(ids[1], ids[0]);
    assert.deepEqual(ids[2], ids[0]);
  }));
});

describe('a hidden page (B20)', { skip }, () => {
  const w = web();
  /** `FREEZE_SECONDS=600 node --test lifecycle.test.mjs` is a tab that lay hidden for ten minutes. */
  const FREEZE_SECONDS = Number(process.env.FREEZE_SECONDS ?? 3);
  const wait = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

  it('that was frozen in the midst of calls answers them when it comes back', async () => {
    const tab = await userTab(w.browser, `${w.server.origin}/page.html`);
    await tab.evaluate(async (url) => {
      window.r = await tributary.Recommender.fromPretrained(url, { device: 'wasm' });
      window.calls = Array.from({ length: 50 }, () => outcome(r.recommend({ history: ['vase-01'], k: 3 })).then((result) => ({ ...result, at: performance.now() })));
    }, w.server.bundle().url);
    await tab.freeze();
    await wait(FREEZE_SECONDS);
    await tab.resume();
    const { results, later, still } = await tab.evaluate(async () => {
      const results = await Promise.all(calls);
      const later = await outcome(r.recommend({ history: ['vase-01'], k: 3 }));
      await r.dispose();
      return { results, later, still: still() };
    });
    await tab.close();
    assert.ok(still.ms > 900 * FREEZE_SECONDS, `it stood still for ${still.ms} ms only`);
    assert.ok(results.some(({ at }) => at > still.until), 'all calls had been answered before');
    assert.deepEqual([...results, later].map(({ value, code }) => value?.items.length ?? code), Array(51).fill(3));
  });
  it('whose timers run once a minute loads and answers', async () => {
    // Chromium does so after five minutes in the background; here after a second.
    const browser = await chromium.launch({
      executablePath: EXECUTABLE,
      args: [...FLAGS, '--enable-features=IntensiveWakeUpThrottling:grace_period_seconds/1'],
      ignoreDefaultArgs: ['--disable-background-timer-throttling', '--disable-backgrounding-occluded-windows', '--disable-renderer-backgrounding'],
    });
    try {
      const tab = await userTab(browser, `${w.server.origin}/page.html`);
      await tab.hide();
      await wait(15);
      const { answers, still } = await tab.evaluate(async (url) => {
        const answers = [];
        for (const worker of [true, false]) answers.push(await tryOnce(url, { worker }));
        return { answers, still: still() };
      }, w.server.bundle().url);
      assert.ok(still.ms > 5000, `the longest time without a timer was ${still.ms} ms`);
      assert.deepEqual(answers.map(({ value, code }) => value?.ids.length ?? code), [3, 3]);
    } finally {
      await browser.close();
    }
  });
});

describe('memory (B21)', { skip }, () => {
  const w = web();

  it('50 times create and dispose is flat', () => w.page(async (page) => {
    const bundle = w.server.bundle();
    const browser = await w.browser.newBrowserCDPSession();
    /** Resident bytes of all renderers: engines live in workers of theirs. */
    const resident = async () => {
      const { processInfo } = await browser.send('SystemInfo.getProcessInfo');
      let pages = 0;
      for (const { id, type } of processInfo) {
        if (type !== 'renderer') continue;
        const statm = await readFile(`/proc/${id}/statm`, 'utf8').catch(() => undefined);
        if (statm === undefined) return undefined;
        pages += Number(statm.split(' ')[1]);
      }
      return pages * 4096;
    };
    const rounds = async (n) => {
      const heap = await page.evaluate(async ([url, n]) => {
        for (let i = 0; i < n; i++) {
          const { value, ...error } = await tryOnce(url);
          if (value?.ids.length !== 3) throw new Error(JSON.stringify(error));
        }
        gc();
        await new Promise((resolve) => setTimeout(resolve, 500));
        gc();
        return performance.memory.usedJSHeapSize;
      }, [bundle.url, n]);
      return { heap, resident: await resident(), workers: page.workers().length };
    };
    const warm = await rounds(10);
    const end = await rounds(40);
    assert.equal(end.workers, 0);
    // A leak of one engine of this bundle is 5 MB per round.
    assert.ok(end.heap < warm.heap * 1.01 + 200_000, JSON.stringify({ warm, end }));
    if (end.resident !== undefined) assert.ok(end.resident < warm.resident + 40e6, JSON.stringify({ warm, end }));
  }));
});
