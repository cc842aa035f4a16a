// What callers hand over that is odd but no nonsense, and what their own callbacks, signals and streams do:
// each is either taken or refused with a typed error, and never ends a load or a page.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { assertSameScores, DEMO, DIST, manifest, skip, web } from './harness.mjs';

const encodes = manifest.components.some(({ name }) => name === 'encoder');
const needsEncoder = encodes ? false : 'the demo bundle has no encoder';

describe('odd arguments', { skip }, () => {
  const w = web();

  it('objects without a prototype are objects', async () => {
    const { plain, bare, catalogue, filtered } = await w.recommender(async (r) => {
      const bare = (object) => Object.assign(Object.create(null), object);
      const answer = async (of) => (await r.recommend(of({
        history: [of({ item: 'vase-01', event: 'view' }), of({ item: of({ id: 'sock-01' }) })],
        candidates: [of({ id: 'vase-02' }), 'sock-02'],
        k: 2,
      }), of({ timeoutMs: 60_000 }))).items.map(({ id, score }) => [id, score]);
      const both = { plain: await answer((object) => object), bare: await answer(bare) };
      const items = [bare({ id: 'vase-01' }), bare({ id: 'new', title: 'A vase', attributes: bare({ colour: 'blue', size: 3, set: true }) })];
      const catalogue = await r.setCatalog(items, bare({ mode: 'replace' }));
      const { items: filtered } = await r.recommend({ history: [], filter: ({ attributes }) => attributes?.colour === 'blue' });
      return { ...both, catalogue, filtered: filtered.map(({ id }) => id) };
    });
    assertSameScores(bare, plain);
    assert.equal(bare.length, 2);
    assert.deepEqual([catalogue.items, catalogue.skipped], [2, []]);
    assert.deepEqual(filtered, ['new']);
  });

  it('a hole in a list is refused and named', async () => {
    const errors = await w.recommender(async (r) => {
      const holes = ['vase-01', , 'vase-02'];
      const calls = {
        history: r.recommend({ history: holes }),
        candidates: r.recommend({ history: [], candidates: holes }),
        exclude: r.recommend({ history: [], exclude: holes }),
        explain: r.recommend({ history: [], explain: holes }),
        hide: r.recommend({ history: [], hide: ['text', ,] }),
        documents: r.rerank({ query: 'a', documents: holes }),
        inputs: r.embed(holes),
        items: r.setCatalog([{ id: 'vase-01' }, , { id: 'vase-02' }]),
        longest: r.recommend({ history: new Array(2 ** 32 - 1) }),
      };
      const entries = Object.entries(calls).map(async ([name, call]) => [name, await outcome(call)]);
      return Object.fromEntries(await Promise.all(entries));
    });
    for (const [name, { code, message, detail }] of Object.entries(errors)) {
      assert.equal(code, 'INVALID_ARGUMENT', `${name}: ${message}`);
      assert.equal(detail.field, name === 'longest' ? 'history[0]' : `${name}[1]`);
    }
  });

  it('attributes are strings, numbers and booleans', async () => {
    const { items, skipped } = await w.recommender((r) => r.setCatalog([
      { id: 'vase-01', attributes: { set: false } },
      { id: 'vase-02', attributes: { nested: Object.create(null) } },
      { id: 'vase-03', attributes: { nothing: null } },
    ]));
    assert.equal(items, 1);
    assert.deepEqual(skipped.map(({ id }) => id), ['vase-02', 'vase-03']);
    for (const { reason } of skipped) assert.match(reason, /`items\[\d\]\.attributes` is .*, expected strings, numbers and booleans/);
  });

  it('an id with half of a surrogate pair is no id, so two of them are never one item', async () => {
    const { catalogue, ids, errors } = await w.recommender(async (r) => {
      const [high, low] = ['a\ud800', 'a\udc00'];
      const { items, skipped } = await r.setCatalog([{ id: high, title: 'One vase' }, { id: low, title: 'Another vase' }, { id: 'a\ufffd', title: 'A third' }, { id: '😀', title: 'A fourth' }]);
      const calls = [{ history: ['é'.repeat(513)] }, { history: [high] }, { history: [{ item: { id: low } }] }, { history: [], candidates: [low] }, { history: [], exclude: [high] }, { history: [], explain: [high] }];
      return {
        catalogue: { items, reasons: skipped.map(({ reason }) => reason), same: skipped[0].id === high && skipped[1].id === low },
        ids: (await r.recommend({ history: [] })).items.map(({ id }) => id),
        errors: await Promise.all(calls.map((request) => outcome(r.recommend(request)))),
      };
    });
    assert.deepEqual([catalogue.items, catalogue.same, catalogue.reasons.length], [2, true, 2]);
    for (const reason of catalogue.reasons) assert.match(reason, /well-formed, not empty/);
    assert.deepEqual(ids.sort(), ['a\ufffd', '😀']);
    assert.deepEqual(errors.map(({ code, detail }) => [code, detail?.field]), ['history[0]', 'history[0]', 'history[0].item.id', 'candidates[0]', 'exclude[0]', 'explain[0]'].map((field) => ['INVALID_ARGUMENT', field]));
  });

  it('misspelt keys of requests and options are refused, and nothing is done', async () => {
    const { errors, length } = await w.recommender(async (r) => ({
      errors: await Promise.all([
        r.rerank({ query: 'a', documents: ['a'], topK: 1 }),
        r.recommend({ history: [] }, { timeoutms: 5 }),
        r.setCatalog([{ id: 'vase-01' }], { mod: 'add' }),
        r.embed(['a'], { normalise: true }),
        r.recommendStream({ history: [] }, { prio: 'user' }).next(),
        r.setCatalog([], null),
        r.embed([], null),
      ].map(outcome)),
      length: (await r.recommend({ history: [], k: 1000 })).items.length,
    }));
    for (const [i, key] of ['topK', 'timeoutms', 'mod', 'normalise', 'prio'].entries()) {
      assert.equal(errors[i].code, 'INVALID_ARGUMENT');
      assert.ok(errors[i].message.includes(`is "${key}", expected only these keys: `), errors[i].message);
    }
    for (const { message } of errors.slice(5)) assert.match(message, /`options` is null, expected an object/);
    assert.ok(length > 100, `${length} items: the catalogue was not replaced`);
  });

  it('a message quotes the start of what it was given', async () => {
    const messages = await w.recommender(async (r) => {
      const long = 'x'.repeat(100_000);
      const load = (model, options) => outcome(tributary.Recommender.fromPretrained(model, { device: 'wasm', ...options }));
      const { skipped } = await r.setCatalog([`http://[${long}`, `data:${long}`, `/${long}`].map((image, i) => ({ id: `new-${i}`, title: 'A vase', image })));
      const refused = await Promise.all([
        outcome(r.recommend({ history: [], [long]: 1 })),
        outcome(r.recommend({ history: [], hide: [long] })),
        outcome(r.rerank({ query: 'a', documents: [], [long]: 1 })),
        outcome(r.setCatalog([], { mode: long })),
        load(r.info.id, { [long]: 1 }),
        load(r.info.id, { integrity: { [long]: 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' } }),
        load(r.info.id, { integrity: { 'bundle.json': long } }),
      ]);
      return [...skipped.map(({ reason }) => reason), ...refused.map(({ code, message }) => (code === 'INVALID_ARGUMENT' ? message : `${code}${long}`))];
    });
    assert.equal(messages.length, 10);
    for (const message of messages) assert.ok(message.length < 500 && message.includes('x'.repeat(50)), message.slice(0, 600));
  });

  it('a text of more than 500 000 characters is INPUT_TOO_LONG; one of so many is read', { skip: needsEncoder }, async () => {
    const { most, errors } = await w.recommender(async (r) => {
      const text = (length) => 'blue vase '.repeat(length / 10);
      const long = text(500_010);
      const calls = [
        r.embed(['a', long]),
        r.embed([{ id: 'new', title: 'a', description: long }]),
        r.rerank({ query: long, documents: ['a'] }),
        r.rerank({ query: 'a', documents: ['a', long] }),
        r.rerank({ query: 'a', documents: [{ id: 'vase-01', text: long }] }),
        r.rerank({ history: [{ item: { id: 'new', text: long } }], documents: ['a'] }),
        r.recommend({ history: [], query: long }),
      ];
      return { errors: await Promise.all(calls.map(outcome)), most: (await r.embed([text(500_000)])).dims[0] };
    });
    assert.equal(most, 1);
    assert.deepEqual(errors.map(({ code, detail }) => [code, detail?.field]), ['inputs[1]', 'inputs[0]', 'query', 'documents[1]', 'documents[0]', 'history[0]', 'query'].map((field) => ['INPUT_TOO_LONG', field]));
  });
});

describe('callbacks, signals and streams of the caller', { skip }, async () => {
  const w = web();
  const { Recommender } = skip ? {} : await import(join(DIST, 'index.js'));

  it('a progressCallback that fails is reported, and the load and setCatalog go on', () => w.page(async (page) => {
    const { ids, items } = await page.evaluate(async (url) => {
      let calls = 0;
      const progressCallback = (event) => {
        calls += 1;
        if (event.status === 'initiate') throw new Error('mine, thrown');
        if (event.status === 'compile') return Promise.reject(new Error('mine, rejected'));
      };
      const r = await tributary.Recommender.fromPretrained(url, { device: 'wasm', progressCallback });
      const { items } = await r.setCatalog([{ id: 'vase-01' }, { id: 'vase-02' }], { progressCallback });
      const answer = await r.recommend({ history: [] });
      await r.dispose();
      return { ids: answer.items.length, items, calls };
    }, w.server.bundle().url);
    assert.deepEqual([ids, items], [2, 2]);
    const reported = new Set(page.problems);
    assert.deepEqual([...reported].sort(), ['mine, rejected', 'mine, thrown']);
  }));

  it('in Node it is written to the console, and the process goes on', async (t) => {
    const log = t.mock.method(console, 'error', () => {});
    const progressCallback = () => { throw new Error('mine'); };
    const r = await Recommender.fromPretrained({ read: (name) => readFile(join(DEMO, name)) }, { worker: false, device: 'wasm', progressCallback });
    await r.dispose();
    assert.ok(log.mock.callCount() > 3);
    assert.ok(log.mock.calls.every(({ arguments: [error] }) => error.message === 'mine'));
  });

  it('the reason of an abort is the cause of its AbortError', () => w.page(async (page) => {
    const { own, plain, timeout, before, load } = await page.evaluate(async (url) => {
      const failed = async (promise) => {
        const error = await promise.then(() => ({ name: 'nothing was thrown' }), (error) => error);
        return { name: error.name, type: error instanceof DOMException, cause: error.cause?.message ?? error.cause, causeName: error.cause?.name, has: 'cause' in error };
      };
      const r = await tributary.Recommender.fromPretrained(url, { device: 'wasm' });
      const aborted = (...reason) => {
        const stop = new AbortController();
        const result = failed(r.recommend({ history: ['vase-01'] }, { signal: stop.signal }));
        stop.abort(...reason);
        return result;
      };
      const results = {
        own: await aborted(new Error('mine')),
        plain: await aborted(),
        timeout: await failed(r.recommend({ history: ['vase-01'], explain: true }, { signal: AbortSignal.timeout(0) })),
        before: await failed(r.recommend({ history: [] }, { signal: AbortSignal.abort('early') })),
        load: await failed(tributary.Recommender.fromPretrained(url, { signal: AbortSignal.abort(new Error('mine')) })),
      };
      await r.dispose();
      return results;
    }, w.server.bundle().url);
    for (const { name, type } of [own, plain, timeout, before, load]) assert.deepEqual([name, type], ['AbortError', true]);
    assert.equal(own.cause, 'mine');
    assert.equal(plain.has, false);
    assert.equal(timeout.causeName, 'TimeoutError');
    assert.equal(before.cause, 'early');
    assert.equal(load.cause, 'mine');
  }));

  it('a stream without end, or of no bytes, is refused; a few empty chunks are none', () => w.page(async (page) => {
    const outcomes = await page.evaluate(async (url) => {
      const bytes = async (file) => new Uint8Array(await (await fetch(url + file)).arrayBuffer());
      const stream = (chunk) => new ReadableStream({ pull: (to) => to.enqueue(chunk) });
      const on = (file, body) => ({ read: async (name) => (name === file ? body() : bytes(name)) });
      const sparse = {
        read: async (name) => {
          const content = await bytes(name);
          const chunks = [new Uint8Array(), content.subarray(0, 9), new Uint8Array(), new Uint8Array(), content.subarray(9), new Uint8Array()];
          return new ReadableStream({ pull: (to) => (chunks.length ? to.enqueue(chunks.shift()) : to.close()) });
        },
      };
      const own = (address, init) => (address.endsWith('tmf.json') ? Promise.resolve(new Response(stream(new Uint8Array()))) : fetch(address, init));
      const results = [];
      for (const worker of [true, false]) {
        for (const file of ['bundle.json', 'tmf.json']) results.push(await tryOnce(on(file, () => stream(new Uint8Array())), { worker }));
        results.push(await tryOnce(on('tmf.json', () => stream('text')), { worker }));
        results.push(await tryOnce(url, { worker, fetch: own, cache: 'memory' }));
        results.push(await tryOnce(sparse, { worker }));
      }
      return results;
    }, w.server.bundle().url);
    for (const at of [0, 5]) {
      const [manifest, file, text, fetched, sparse] = outcomes.slice(at, at + 5);
      for (const [name, { code, message, detail }] of Object.entries({ manifest, file, text, fetched })) {
        assert.equal(code, 'INVALID_ARGUMENT', `${name}: ${message}`);
        assert.equal(detail.field, name === 'fetched' ? 'fetch' : 'read');
        assert.match(message, name === 'text' ? /gave "text" for tmf\.json/ : /gave 1000 empty chunks in a row for/);
      }
      assert.equal(sparse.value?.ids.length, 3, JSON.stringify(sparse));
    }
  }));
});
