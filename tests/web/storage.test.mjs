// B22, B24 and B25: caches that are full, blocked, corrupt or shared; no network; wrong hashes.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { content, DIST, files, LARGEST, manifest, skip, web } from './harness.mjs';

const FILE = LARGEST;
const EVERYTHING = ['bundle.json', ...files.map(({ name }) => name)].sort();
const loadedFrom = (bundle) => bundle.requests.filter(({ method }) => method === 'GET').map(({ file }) => file).sort();

/** Runs in the page: the folder of a bundle in OPFS. */
const OPFS = `window.opfs = async (url) => {
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(url)));
  const name = [...hash].map((b) => b.toString(16).padStart(2, '0')).join('');
  return (await (await navigator.storage.getDirectory()).getDirectoryHandle('tributary')).getDirectoryHandle(name);
};
window.rewrite = async (url, file, change) => {
  const folder = await opfs(url);
  const handle = await folder.getFileHandle(file);
  const bytes = new Uint8Array(await (await handle.getFile()).arrayBuffer());
  const writer = await handle.createWritable();
  await writer.write(change(bytes));
  await writer.close();
};`;

describe('caches (B22)', { skip }, () => {
  const w = web();
  const once = (page, bundle, options) => page.evaluate(([url, options]) => tryOnce(url, options), [bundle.url, options]);
  const again = async (page, bundle, options) => {
    bundle.requests.length = 0;
    const result = await once(page, bundle, options);
    assert.equal(result.value?.ids.length, 3, JSON.stringify(result));
    return loadedFrom(bundle);
  };
  const opfsPage = (use) => w.page(async (page, context) => {
    await page.addScriptTag({ content: OPFS });
    return use(page, context);
  });

  for (const cache of ['auto', 'opfs', 'cache-api', 'memory']) {
    it(`${cache}: the second load asks for the manifest alone`, () => w.page(async (page) => {
      const bundle = w.server.bundle();
      assert.deepEqual(await again(page, bundle, { cache }), EVERYTHING);
      assert.deepEqual(await again(page, bundle, { cache }), ['bundle.json']);
    }));
  }

  it('a CacheBackend of the caller is filled and read', () => w.page(async (page) => {
    const bundle = w.server.bundle();
    const keys = await page.evaluate(async (url) => {
      const kept = new Map();
      const cache = {
        match: async (key) => kept.get(key)?.clone(),
        put: async (key, response) => { kept.set(key, new Response(await response.arrayBuffer())); },
        delete: async (key) => kept.delete(key),
        keys: async () => [...kept.keys()],
      };
      const results = [await tryOnce(url, { cache }), await tryOnce(url, { cache })];
      return results.every(({ value }) => value?.ids.length === 3) ? [...kept.keys()] : results;
    }, bundle.url);
    assert.deepEqual(keys.sort(), EVERYTHING.map((file) => bundle.url + file));
    assert.equal(loadedFrom(bundle).filter((file) => file === FILE).length, 1);
  }));

  it('a CacheBackend that always fails does no harm', () => w.page(async (page) => {
    const bundle = w.server.bundle();
    const result = await page.evaluate((url) => {
      const fail = async () => { throw new Error('broken'); };
      return tryOnce(url, { cache: { match: fail, put: fail, delete: fail, keys: fail } });
    }, bundle.url);
    assert.equal(result.value?.ids.length, 3, JSON.stringify(result));
  }));

  for (const cache of ['opfs', 'cache-api']) {
    it(`${cache}: a full disk does not fail the load`, () => w.page(async (page, context) => {
      const session = await context.newCDPSession(page);
      await session.send('Storage.overrideQuotaForOrigin', { origin: w.server.origin, quotaSize: 1_000_000 });
      const bundle = w.server.bundle();
      await again(page, bundle, { cache });
      // What did not fit comes from the network once more.
      assert.ok((await again(page, bundle, { cache })).includes(FILE));
    }));
  }

  it('blocked storage does not fail the load', () => w.page(async (page) => {
    const bundle = w.server.bundle();
    const result = await page.evaluate((url) =>
      tryOnce(url, { worker: () => new Worker('/hooks/blocked_worker.js', { type: 'module' }) }), bundle.url);
    assert.equal(result.value?.ids.length, 3, JSON.stringify(result));
  }));

  it('garbage that is collected while a file is opened does not stop a load', () => w.page(async (page) => {
    const result = await page.evaluate((url) => tryOnce(url, {
      cache: 'opfs',
      worker: () => new Worker('/hooks/collecting_worker.js', { type: 'module' }),
      signal: AbortSignal.timeout(20_000),
    }), w.server.bundle().url);
    assert.equal(result.value?.ids.length, 3, JSON.stringify(result));
  }));
  it('a corrupt byte in the cache is found; the file comes again', () => opfsPage(async (page) => {
    const bundle = w.server.bundle();
    await again(page, bundle);
    await page.evaluate(([url, file]) => rewrite(url, file, (bytes) => { bytes[1000] ^= 1; return bytes; }), [bundle.url, FILE]);
    assert.deepEqual(await again(page, bundle), ['bundle.json', FILE]);
    assert.deepEqual(await again(page, bundle), ['bundle.json']);
  }));
  it('a half-written file in the cache is found; the file comes again', () => opfsPage(async (page) => {
    const bundle = w.server.bundle();
    await again(page, bundle);
    await page.evaluate(([url, file]) => rewrite(url, file, (bytes) => bytes.subarray(0, 5000)), [bundle.url, FILE]);
    assert.deepEqual(await again(page, bundle), ['bundle.json', FILE]);
    assert.deepEqual(await again(page, bundle), ['bundle.json']);
  }));
  it('a corrupt manifest in the cache does no harm', () => opfsPage(async (page) => {
    const bundle = w.server.bundle();
    await again(page, bundle);
    await page.evaluate((url) => rewrite(url, 'bundle.json', () => new Uint8Array([1, 2, 3])), bundle.url);
    assert.deepEqual(await again(page, bundle), ['bundle.json']);
  }));
  it('a file evicted between runs comes again', () => opfsPage(async (page) => {
    const bundle = w.server.bundle();
    await again(page, bundle);
    await page.evaluate(async ([url, file]) => (await opfs(url)).removeEntry(file), [bundle.url, FILE]);
    assert.deepEqual(await again(page, bundle), ['bundle.json', FILE]);
  }));

  it('an aborted download resumes in the next visit', () => opfsPage(async (page) => {
    const bundle = w.server.bundle();
    const half = Math.floor(content(FILE).length / 2);
    bundle.faults[FILE] = (request, response, good) => {
      delete bundle.faults[FILE];
      const end = response.end.bind(response);
      response.end = (body) => { response.write(body.subarray(0, half)); return response; };
      good();
      response.end = end;
    };
    const aborted = await page.evaluate(([url, file, enough]) => {
      const controller = new AbortController();
      const progressCallback = (e) => { if (e.status === 'progress' && e.file === file && e.loaded > enough) setTimeout(() => controller.abort(), 200); };
      return tryOnce(url, { signal: controller.signal, progressCallback });
    }, [bundle.url, FILE, half / 2]);
    assert.equal(aborted.aborted, true, JSON.stringify(aborted));
    // The worker lets go of its files in its own time.
    await page.waitForFunction(async ([url, file, enough]) => {
      const part = await (await (await opfs(url)).getFileHandle(`${file}.part`)).getFile();
      return part.size > enough;
    }, [bundle.url, FILE, half / 2]);
    await again(page, bundle);
    const ranged = bundle.requests.find(({ file }) => file === FILE);
    assert.match(ranged.range ?? '', /^bytes=[1-9]\d*-$/);
    assert.ok(ranged.ifRange);
  }));
  it('a corrupt part is started over', () => opfsPage(async (page) => {
    const bundle = w.server.bundle();
    await again(page, bundle);
    await page.evaluate(async ([url, file]) => {
      const folder = await opfs(url);
      await folder.removeEntry(file);
      const writer = await (await folder.getFileHandle(`${file}.part`, { create: true })).createWritable();
      await writer.write(new Uint8Array(100_000));
      await writer.close();
    }, [bundle.url, FILE]);
    assert.deepEqual(await again(page, bundle), ['bundle.json', FILE, FILE]);
    assert.deepEqual(await again(page, bundle), ['bundle.json']);
  }));

  it('two tabs download once', () => w.page(async (page, context) => {
    const bundle = w.server.bundle();
    const other = await w.openPage(context);
    const results = await Promise.all([page, other].map((tab) => once(tab, bundle)));
    for (const result of results) assert.equal(result.value?.ids.length, 3, JSON.stringify(result));
    assert.deepEqual(loadedFrom(bundle).filter((file) => file !== 'bundle.json'), EVERYTHING.filter((file) => file !== 'bundle.json'));
  }));

  it('models.* list, estimate, know and clear what is kept', () => w.page(async (page) => {
    const bundle = w.server.bundle();
    const result = await page.evaluate(async (url) => {
      const { models } = tributary;
      const before = { cached: await models.isCached(url), files: await models.files(url), estimate: await models.estimate(url) };
      const { value } = await tryOnce(url);
      const during = { cached: await models.isCached(url), files: await models.files(url), estimate: await models.estimate(url, { device: 'wasm' }) };
      const cleared = await models.clear(url);
      return { before, during, cleared, ok: value?.ids.length === 3, after: await models.isCached(url) };
    }, bundle.url);
    const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
    assert.ok(result.ok);
    assert.equal(result.before.cached, false);
    assert.equal(result.before.estimate.downloadBytes, bytes);
    assert.ok(result.before.estimate.fits, JSON.stringify(result.before.estimate));
    assert.deepEqual(result.before.files.map(({ file, bytes }) => [file, bytes]), files.map(({ name, bytes }) => [name, bytes]));
    assert.equal(result.during.cached, true);
    assert.ok(result.during.files.every(({ cached }) => cached));
    assert.equal(result.during.estimate.downloadBytes, 0);
    assert.equal(result.cleared.files, EVERYTHING.length);
    assert.equal(result.cleared.bytes, bytes + content('bundle.json').length);
    assert.equal(result.after, false);
  }));
});

describe('no network (B24)', { skip }, () => {
  const w = web();
  const load = (page, bundle, options) => page.evaluate(([url, options]) => tryOnce(url, options), [bundle.url, options]);

  it('with a full cache it works', () => w.page(async (page, context) => {
    const bundle = w.server.bundle();
    assert.ok((await load(page, bundle)).value);
    await keepScripts(page);
    await context.setOffline(true);
    const result = await load(page, bundle);
    assert.equal(result.value?.ids.length, 3, JSON.stringify(result));
  }));
  it('with a part of the cache it is OFFLINE and names the file', () => w.page(async (page, context) => {
    const bundle = w.server.bundle();
    assert.ok((await load(page, bundle)).value);
    await page.addScriptTag({ content: OPFS });
    await page.evaluate(async ([url, file]) => (await opfs(url)).removeEntry(file), [bundle.url, FILE]);
    await keepScripts(page);
    await context.setOffline(true);
    const result = await load(page, bundle);
    assert.equal(result.code, 'OFFLINE', JSON.stringify(result));
    assert.equal(result.detail.file, FILE);
  }));
  it('without a cache it is OFFLINE', () => w.page(async (page, context) => {
    const bundle = w.server.bundle();
    await keepScripts(page);
    await context.setOffline(true);
    const result = await load(page, bundle);
    assert.equal(result.code, 'OFFLINE', JSON.stringify(result));
    assert.equal(result.detail.file, 'bundle.json');
  }));
  it('localFilesOnly asks for nothing', () => w.page(async (page) => {
    const bundle = w.server.bundle();
    assert.equal((await load(page, bundle, { localFilesOnly: true })).code, 'OFFLINE');
    assert.equal(bundle.requests.length, 0);
    assert.ok((await load(page, bundle)).value);
    bundle.requests.length = 0;
    assert.ok((await load(page, bundle, { localFilesOnly: true })).value);
    assert.equal(bundle.requests.length, 0);
  }));
  it('a server that is down does not take away what is cached', () => w.page(async (page) => {
    const bundle = w.server.bundle();
    assert.ok((await load(page, bundle)).value);
    bundle.faults['bundle.json'] = (request, response) => response.writeHead(503).end();
    const result = await load(page, bundle);
    assert.equal(result.value?.ids.length, 3, JSON.stringify(result));
  }));
});

/** The package's own scripts are at hand offline, as with a service worker of an app. */
async function keepScripts(page) {
  await page.route('**/dist/**', async (route) => {
    const name = new URL(route.request().url()).pathname.slice('/dist/'.length);
    const contentType = name.endsWith('.wasm') ? 'application/wasm' : 'text/javascript';
    await route.fulfill({ body: await readFile(`${DIST}/${name}`), contentType });
  });
}

describe('hashes (B25)', { skip }, () => {
  const w = web();
  const load = (bundle, options) => w.page((page) => page.evaluate(([url, options]) => tryOnce(url, options), [bundle.url, options]));
  const sri = (algorithm, bytes) => `${algorithm}-${createHash(algorithm).update(bytes).digest('base64')}`;
  const corrupt = (file) => {
    const bytes = Buffer.from(content(file));
    bytes[bytes.length >> 1] ^= 1;
    return bytes;
  };

  it('a corrupt byte of a download is INTEGRITY, names the file and is not kept', () => w.page(async (page) => {
    const bundle = w.server.bundle();
    bundle.overrides.set(FILE, corrupt(FILE));
    const result = await page.evaluate((url) => tryOnce(url), bundle.url);
    assert.equal(result.code, 'INTEGRITY', JSON.stringify(result));
    assert.equal(result.detail.file, FILE);
    assert.equal(result.typed, true);
    bundle.overrides.clear();
    assert.ok((await page.evaluate((url) => tryOnce(url), bundle.url)).value);
  }));
  it('a right hash of the manifest is accepted, and its cached copy needs no network', () => w.page(async (page) => {
    const bundle = w.server.bundle();
    const integrity = { 'bundle.json': sri('sha384', content('bundle.json')) };
    for (const asked of [1, 0]) {
      bundle.requests.length = 0;
      const result = await page.evaluate(([url, integrity]) => tryOnce(url, { integrity }), [bundle.url, integrity]);
      assert.ok(result.value, JSON.stringify(result));
      assert.equal(loadedFrom(bundle).filter((file) => file === 'bundle.json').length, asked);
    }
  }));
  it('a wrong hash of the manifest is INTEGRITY', async () => {
    const bundle = w.server.bundle();
    const result = await load(bundle, { integrity: { 'bundle.json': sri('sha256', Buffer.from('another')) } });
    assert.equal(result.code, 'INTEGRITY', JSON.stringify(result));
    assert.deepEqual(loadedFrom(bundle), ['bundle.json']);
  });
  for (const algorithm of ['sha256', 'sha512']) {
    it(`${algorithm} of a file: right is accepted, wrong is INTEGRITY`, async () => {
      const good = await load(w.server.bundle(), { integrity: { [FILE]: sri(algorithm, content(FILE)) } });
      assert.ok(good.value, JSON.stringify(good));
      const bad = await load(w.server.bundle(), { integrity: { [FILE]: sri(algorithm, Buffer.from('another')) } });
      assert.equal(bad.code, 'INTEGRITY', JSON.stringify(bad));
      assert.equal(bad.detail.file, FILE);
    });
  }
  it('a string that is no hash is INVALID_ARGUMENT', async () => {
    assert.equal((await load(w.server.bundle(), { integrity: { [FILE]: 'md5-abc' } })).code, 'INVALID_ARGUMENT');
  });
  it('a manifest that leads out of its folder is refused', async () => {
    const bundle = w.server.bundle();
    const evil = structuredClone(manifest);
    evil.components[0].files[0].name = '../config.json';
    bundle.overrides.set('bundle.json', Buffer.from(JSON.stringify(evil)));
    const result = await load(bundle);
    assert.equal(result.code, 'MODEL_INVALID', JSON.stringify(result));
    assert.deepEqual(loadedFrom(bundle), ['bundle.json']);
  });
  it('a bundle above memoryBudgetBytes is refused before its files come', async () => {
    const bundle = w.server.bundle();
    const result = await load(bundle, { memoryBudgetBytes: 1_000_000 });
    assert.equal(result.code, 'LIMIT_EXCEEDED', JSON.stringify(result));
    assert.deepEqual(loadedFrom(bundle), ['bundle.json']);
  });
});
