// B11 to B13 as far as they are JavaScript's: arguments, ids, catalogues, pictures, and what each method
// answers.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { assertSameScores, content, manifest, skip, web } from './harness.mjs';

const encodes = manifest.components.some(({ name }) => name === 'encoder');
const needsEncoder = skip || (encodes ? false : 'the demo bundle has no encoder');
const catalogue = content('catalogue.jsonl').toString().trim().split('\n').map((line) => JSON.parse(line));

describe('requests (B12, B13)', { skip }, () => {
  const w = web();
  const withRecommender = w.recommender;

  it('info and catalog say what is loaded', async () => {
    const { info, items } = await withRecommender(async (r) => ({ info: { ...r.info }, items: await r.catalog() }));
    assert.equal(info.architecture, manifest.recommender);
    assert.equal(info.items, catalogue.length);
    assert.ok(info.parameters > 0 && info.bytes > 0 && info.maxInputTokens > 0);
    assert.deepEqual(items.map(({ id }) => id), catalogue.map(({ id }) => id));
    assert.equal(items[0].title, catalogue[0].title);
  });

  it('refused arguments name argument, found and expected', async () => {
    const cases = [
      [{}, 'history', 'undefined'],
      [{ history: ['a'], k: Number.NaN }, 'k', 'NaN'],
      [{ history: ['a'], k: -1 }, 'k', '-1'],
      [{ history: ['a'], k: 1.5 }, 'k', '1.5'],
      [{ history: [null] }, 'history[0]', 'null'],
      [{ history: [''] }, 'history[0]', '""'],
      [{ history: [1.5] }, 'history[0]', '1.5'],
      [{ history: [2 ** 60] }, 'history[0]', String(2 ** 60)],
      [{ history: [{ item: 'a', time: Number.NaN }] }, 'history[0].time', 'NaN'],
      [{ history: [{ item: 'a', time: 1_700_000_000_000 }] }, 'history[0].time', '1700000000000'],
      [{ history: [{ item: 'a', event: 3 }] }, 'history[0].event', '3'],
      [{ history: [], candidates: 'a' }, 'candidates', '"a"'],
      [{ history: [], hide: ['sound'] }, 'hide', '"sound"'],
      [{ history: [], excludeSeen: 'no' }, 'excludeSeen', '"no"'],
      [{ history: [], topk: 3 }, 'request', '"topk"'],
    ];
    const errors = await withRecommender((r, requests) => Promise.all(requests.map((request) => outcome(r.recommend(request)))), cases.map(([request]) => request));
    errors.forEach((error, i) => {
      const [request, argument, found] = cases[i];
      assert.equal(error.code, 'INVALID_ARGUMENT', JSON.stringify([request, error]));
      assert.ok(error.message.includes(`\`${argument}\` is ${found}, expected`), error.message);
      assert.equal(error.detail.field, argument);
    });
  });

  it('k = 0, no candidates and a filter that lets nothing pass give an empty answer', async () => {
    const lengths = await withRecommender(async (r) => {
      const answers = [
        await r.recommend({ history: ['vase-01'], k: 0 }),
        await r.recommend({ history: ['vase-01'], candidates: [] }),
        await r.recommend({ history: ['vase-01'], filter: () => false }),
      ];
      return answers.map(({ items }) => items.length);
    });
    assert.deepEqual(lengths, [0, 0, 0]);
  });
  it('k above the catalogue, an empty history and unknown ids are answered', async () => {
    const { all, empty, unknown } = await withRecommender(async (r) => ({
      all: (await r.recommend({ history: [], k: 1_000_000 })).items,
      empty: (await r.recommend({ history: [] })).items,
      unknown: (await r.recommend({ history: ['no such item', 42] })).items,
    }));
    assert.equal(all.length, catalogue.length);
    assert.deepEqual(all.map(({ rank }) => rank), all.map((_, i) => i + 1));
    assert.deepEqual(unknown.map(({ id }) => id), empty.map(({ id }) => id));
  });
  it('usage counts the events the model saw and those of unknown items', async () => {
    const usages = await withRecommender((r) => Promise.all([['vase-01', 'no such item', 'sock-01'], ['no such item']].map(async (history) => (await r.recommend({ history })).usage)));
    assert.deepEqual(usages.map(({ historyItems, unknownItems }) => [historyItems, unknownItems]), [[2, 1], [0, 1]]);
  });
  it('what the engine refuses is named as in the request', async () => {
    const errors = await withRecommender((r) => Promise.all([
      outcome(r.recommend({ history: [{ item: 'vase-01', event: 'steal' }] })),
      outcome(r.recommend({ history: ['vase-01'], targetBehaviour: 'steal' })),
    ]));
    for (const [i, field] of ['history.event', 'targetBehaviour'].entries()) {
      assert.equal(errors[i].code, 'INVALID_ARGUMENT', JSON.stringify(errors[i]));
      assert.equal(errors[i].detail.field, field);
      assert.ok(errors[i].message.includes(`\`${field}\` is \`steal\`, expected one of`), errors[i].message);
    }
  });
  it('seen, excluded, filtered and other candidates are left out', async () => {
    const seen = catalogue[0].id;
    const { answer, without, only } = await withRecommender(async (r, seen) => ({
      answer: (await r.recommend({ history: [seen], k: 1000 })).items.map(({ id }) => id),
      without: (await r.recommend({ history: [seen], excludeSeen: false, exclude: ['vase-01'], k: 1000, filter: ({ category }) => category !== 'Tops' })).items.map(({ id }) => id),
      only: (await r.recommend({ history: [seen], candidates: ['vase-02', { id: 'vase-03' }] })).items.map(({ id }) => id).sort(),
    }), seen);
    assert.ok(!answer.includes(seen));
    assert.ok(!without.includes('vase-01'));
    assert.deepEqual(without.sort(), catalogue.filter(({ category, id }) => category !== 'Tops' && id !== 'vase-01').map(({ id }) => id).sort());
    assert.deepEqual(only, ['vase-02', 'vase-03']);
  });
  it('events and times count; a Date is its seconds', async () => {
    const { dates, seconds, bought, viewed } = await withRecommender(async (r) => {
      const scores = async (history) => (await r.recommend({ history, k: 5 })).items.map(({ id, score }) => [id, score]);
      return {
        dates: await scores([{ item: 'vase-01', time: new Date(2_000_000) }, { item: 'sock-01', time: new Date(1_000_000) }]),
        seconds: await scores([{ item: 'vase-01', time: 2000 }, { item: 'sock-01', time: 1000 }]),
        bought: await scores([{ item: 'vase-01', event: 'buy' }]),
        viewed: await scores([{ item: 'vase-01', event: 'view' }]),
      };
    });
    assertSameScores(dates, seconds);
    assert.notDeepEqual(bought, viewed);
  });
  it('NUL, odd scripts and endless ids do no harm', async () => {
    const results = await withRecommender((r) => Promise.all(['\0', '\u202e\u200dمرحبا', 'x'.repeat(100_000)].map((text) =>
      outcome(r.recommend({ history: [text], k: 2 })))));
    for (const result of results) assert.ok(result.value?.items.length === 2 || result.code === 'INVALID_ARGUMENT', JSON.stringify(result));
    assert.equal(results[0].value?.items.length, 2);
  });

  it('setCatalog: replace and add, skipped items, and ids in the form they were given', async () => {
    const result = await withRecommender(async (r) => {
      const replaced = await r.setCatalog([
        { id: 'vase-01' }, { id: 7, title: 'A plain new vase', category: 'Vases and Pots' }, { id: 'vase-01' }, { id: '' }, { id: 'x', price: Number.NaN },
      ]);
      const first = (await r.recommend({ history: [], k: 100 })).items.map(({ id }) => id);
      const added = await r.setCatalog((async function* () { yield { id: 'vase-02' }; })(), { mode: 'add' });
      const second = (await r.recommend({ history: ['7'], excludeSeen: false, k: 100 })).items.map(({ id }) => id);
      return { replaced, first, added, second };
    });
    assert.equal(result.replaced.items, 2);
    assert.deepEqual(result.replaced.skipped.map(({ id }) => id), ['vase-01', '', 'x']);
    assert.deepEqual(result.first.sort(), [7, 'vase-01']);
    assert.equal(result.added.items, 3);
    assert.deepEqual(result.second.sort(), [7, 'vase-01', 'vase-02']);
  });

  it('setCatalog: a misspelt key and an item with nothing to tell it by are skipped; candidates may name any known item', async () => {
    const { info, left, ids } = await withRecommender(async (r) => {
      const info = await r.setCatalog([{ id: 'vase-01' }, { id: 'n1', titel: 'A vase' }, { id: 'n2', category: 'Vases and Pots' }, { id: 'n3', text: 'A vase' }]);
      const left = await r.recommend({ history: [], k: 100 });
      const { items } = await r.recommend({ history: [], candidates: ['vase-02', 'n3'] });
      return { info, left: left.items.map(({ id }) => id), ids: items.map(({ id }) => id) };
    });
    assert.deepEqual(info.skipped.map(({ id }) => id), ['n1', 'n2']);
    assert.match(info.skipped[0].reason, /"titel"/);
    assert.match(info.skipped[1].reason, /nothing to tell it by: give it a title, a text or a picture/);
    assert.deepEqual(left.sort(), ['n3', 'vase-01']);
    assert.deepEqual(ids.sort(), ['n3', 'vase-02']);
  });
  it('setCatalog: an entry that is no object is refused, and the catalogue stays', async () => {
    const { errors, length } = await withRecommender(async (r) => ({
      errors: await Promise.all([['vase-01'], [{ id: 'vase-01' }, null]].map((items) => outcome(r.setCatalog(items)))),
      length: (await r.recommend({ history: [], k: 1000 })).items.length,
    }));
    assert.deepEqual(errors.map(({ code, detail }) => [code, detail?.field]), [['INVALID_ARGUMENT', 'items[0]'], ['INVALID_ARGUMENT', 'items[1]']]);
    assert.equal(length, catalogue.length);
  });

  it('explain gives the first three a sentence and its numbers', async () => {
    const items = await withRecommender(async (r) => (await r.recommend({ history: [{ item: 'vase-01', event: 'buy' }, { item: 'sock-01', event: 'view' }], k: 5, explain: true })).items);
    for (const [i, item] of items.entries()) {
      assert.equal(typeof item.reason, i < 3 ? 'string' : 'undefined');
      if (i < 3) assert.ok(item.because.items.length > 0 && item.because.items.every(({ change }) => Number.isFinite(change)), JSON.stringify(item));
    }
  });
  it('explainMs is the time of the reasons, and a part of totalMs', async () => {
    const [without, one, ignored, streamed] = await withRecommender(async (r) => {
      const request = { history: ['vase-01'], candidates: ['vase-02', 'vase-03'] };
      const answers = [];
      for (const explain of [false, ['vase-02'], ['teapot-01']]) answers.push(await r.recommend({ ...request, explain }));
      for await (const { done } of r.recommendStream({ ...request, explain: true })) if (done) answers.push(done);
      return answers.map(({ timings }) => timings);
    });
    assert.equal(without.explainMs, 0);
    assert.equal(ignored.explainMs, 0, 'an id that is not returned is ignored');
    for (const { explainMs, totalMs } of [one, streamed]) assert.ok(explainMs > 0 && totalMs >= explainMs, `${explainMs} of ${totalMs}`);
  });
  it('recommendStream gives items, then reasons, then the whole', async () => {
    const parts = await withRecommender(async (r) => {
      const parts = [];
      for await (const part of r.recommendStream({ history: ['vase-01'], k: 4, explain: true })) parts.push(part);
      return parts;
    });
    assert.deepEqual(parts.map((part) => Object.keys(part)[0]), ['item', 'item', 'item', 'item', 'reasonDelta', 'reasonDelta', 'reasonDelta', 'done']);
    assert.equal(parts.at(-1).done.items[0].reason, parts[4].reasonDelta);
  });
  it('hide leaves a part of the items out', async () => {
    const [all, hidden] = await withRecommender(async (r) => {
      const ask = async (hide) => (await r.recommend({ history: ['vase-01', 'sock-01'], k: 5, hide })).items.map(({ score }) => score);
      return [await ask([]), await ask([r.info.modalities[0]])];
    });
    assert.notDeepEqual(all, hidden);
  });
  it('adapters are refused', async () => {
    const codes = await withRecommender(async (r) => [await outcome(r.loadAdapter('a')), await outcome(r.unloadAdapter())].map(({ code }) => code));
    assert.deepEqual(codes, ['ADAPTER_INVALID', 'ADAPTER_INVALID']);
  });
  it('options that do not exist, or do not fit, are refused', () => w.page(async (page) => {
    const codes = await page.evaluate(async (url) => {
      const options = [{ devices: 'wasm' }, { device: 'gpu' }, { dtype: 'int8' }, { dtype: 'fp32' }, { cache: 'disk' }, { revision: 'main' }, { onDeviceLost: 'no' },
        { adapter: 'a' }, { device: { vision: 'wasm', head: 'webgpu' } }, { memoryBudgetBytes: -1 }];
      return Promise.all(options.map(async (options) => (await outcome(tributary.Recommender.fromPretrained(url, { device: 'wasm', ...options }))).code));
    }, w.server.bundle().url);
    assert.deepEqual(codes, codes.map((_, i) => (i === 7 ? 'ADAPTER_INVALID' : 'INVALID_ARGUMENT')));
  }));
  it('progress comes in the events of transformers.js', () => w.page(async (page) => {
    const { value } = await page.evaluate((url) => tryOnce(url), w.server.bundle().url);
    const { events } = value;
    const of = (file) => events.filter((event) => event.file === file).map(({ status }) => status);
    const statuses = of('model.safetensors');
    assert.deepEqual([statuses[0], statuses[1], statuses.at(-1)], ['initiate', 'download', 'done']);
    assert.ok(statuses.slice(2, -1).every((status) => status === 'progress') && statuses.length > 3);
    const total = events.filter(({ status }) => status === 'progress_total').at(-1);
    assert.equal(total.progress, 100);
    assert.equal(total.loaded, total.total);
    for (const [i, event] of events.filter(({ status }) => status === 'progress_total').entries()) {
      assert.equal(event.total, total.total, `event ${i}: the total is known when the manifest is`);
      assert.deepEqual(Object.keys(event.files), Object.keys(total.files), `event ${i}`);
    }
    assert.deepEqual(of('bundle.json'), ['initiate', 'download', 'progress', 'done']);
    assert.deepEqual(events.slice(-3).map(({ status }) => status), ['compile', 'compile', 'ready']);
  }));
  it('ModelFiles of the caller are read, and a missing one is MODEL_NOT_FOUND', () => w.page(async (page) => {
    const bundle = w.server.bundle();
    const [good, missing] = await page.evaluate(async (url) => {
      const read = async (file) => (await fetch(url + file)).body;
      const broken = async (file) => {
        if (file === 'tmf.json') throw new DOMException('not there', 'NotFoundError');
        return new Uint8Array(await (await fetch(url + file)).arrayBuffer());
      };
      return [await tryOnce({ read }), await tryOnce({ read: broken })];
    }, bundle.url);
    assert.equal(good.value?.ids.length, 3, JSON.stringify(good));
    assert.equal(missing.code, 'MODEL_NOT_FOUND', JSON.stringify(missing));
    assert.equal(missing.detail.file, 'tmf.json');
  }));
});

describe('pictures and embeddings (B11)', { skip: needsEncoder }, () => {
  const w = web();
  const MAKE = `
    window.picture = async (type = 'image/png', width = 40, height = 30, draw = (c) => { c.fillStyle = '#c33'; c.fillRect(5, 5, 20, 20); }) => {
      const canvas = new OffscreenCanvas(width, height);
      draw(canvas.getContext('2d'));
      return canvas.convertToBlob({ type });
    };
    window.load = () => tributary.Recommender.fromPretrained(bundleUrl, { device: 'wasm' });`;
  const inPage = (use) => w.page(async (page) => {
    await page.addScriptTag({ content: `window.bundleUrl = ${JSON.stringify(w.server.bundle().url)};${MAKE}` });
    return page.evaluate(use);
  });

  it('every form of a picture has the same embedding', async () => {
    const rows = await inPage(async () => {
      const r = await load();
      const blob = await picture();
      const url = URL.createObjectURL(blob);
      const bitmap = await createImageBitmap(blob);
      const offscreen = new OffscreenCanvas(40, 30);
      const context = offscreen.getContext('2d');
      context.drawImage(bitmap, 0, 0);
      const canvas = document.createElement('canvas');
      canvas.width = 40; canvas.height = 30;
      canvas.getContext('2d').drawImage(bitmap, 0, 0);
      const img = new Image();
      img.src = url;
      const inputs = [blob, bitmap, offscreen, canvas, img, context.getImageData(0, 0, 40, 30), new URL(url), { id: 'a', image: url }];
      const { data, dims } = await r.embed(inputs);
      await r.dispose();
      return { rows: inputs.map((_, i) => [...data.slice(i * dims[1], (i + 1) * dims[1])]), dims };
    });
    assert.equal(rows.dims[0], 8);
    const [first] = rows.rows;
    assert.ok(Math.abs(first.reduce((sum, v) => sum + v * v, 0) - 1) < 1e-4);
    for (const [i, row] of rows.rows.entries()) {
      const cosine = row.reduce((sum, v, j) => sum + v * first[j], 0);
      assert.ok(cosine > 0.999, `input ${i}: cosine ${cosine}`);
    }
  });
  it('texts are embedded, in one call with pictures', async () => {
    const { dims, length } = await inPage(async () => {
      const r = await load();
      const { data, dims } = await r.embed(['a red vase', await picture(), { id: 'b', title: 'a blue sock' }, '', '\ud800']);
      await r.dispose();
      return { dims, length: data.length };
    });
    assert.equal(dims[0], 5);
    assert.equal(length, dims[0] * dims[1]);
  });
  it('what is no picture, broken, too large or an SVG is IMAGE', async () => {
    const results = await inPage(async () => {
      const r = await load();
      const png = new Uint8Array(await (await picture()).arrayBuffer());
      const huge = png.slice();
      new DataView(huge.buffer).setUint32(16, 100_000);
      new DataView(huge.buffer).setUint32(20, 100_000);
      const inputs = {
        svg: new Blob(['<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'], { type: 'image/svg+xml' }),
        text: new Blob(['hello']),
        empty: new Blob([]),
        truncated: new Blob([png.slice(0, 30)]),
        cut: new Blob([png.slice(0, 60)]),
        huge: new Blob([huge]),
        missing: new URL('/nothing.png', location.href),
        unreachable: new URL('http://127.0.0.1:1/a.png'),
      };
      const results = {};
      for (const [name, input] of Object.entries(inputs)) results[name] = await outcome(r.embed([input]));
      results.after = { code: (await r.embed(['still alive'])).dims[0] };
      await r.dispose();
      return results;
    });
    for (const [name, { code, message }] of Object.entries(results)) assert.equal(code, name === 'after' ? 1 : 'IMAGE', `${name}: ${message}`);
    assert.match(results.huge.message, /100000 x 100000/);
  });
  it('1 x 1, a wide strip, JPEG, WebP and wrong names are read; transparent is white', async () => {
    const { sizes, corner, straight } = await inPage(async () => {
      const { decode } = await import('/dist/image.js');
      const sizes = [];
      for (const blob of [await picture('image/png', 1, 1), await picture('image/png', 5000, 3), await picture('image/jpeg'), await picture('image/webp'), new Blob([await picture('image/jpeg')], { type: 'image/png' })]) {
        const { width, height } = await decode(blob);
        sizes.push([width, height]);
      }
      const { rgba } = await decode(await picture());
      const pixels = new ImageData(new Uint8ClampedArray([255, 0, 0, 0, 0, 0, 0, 128]), 2, 1);
      const { rgba: straight } = await decode({ width: 2, height: 1, rgba: pixels.data });
      return { sizes, corner: [...rgba.slice(0, 4)], straight: [...straight] };
    });
    assert.deepEqual(sizes, [[1, 1], [5000, 3], [40, 30], [40, 30], [40, 30]]);
    assert.deepEqual(corner, [255, 255, 255, 255]);
    assert.deepEqual(straight, [255, 255, 255, 255, 127, 127, 127, 255]);
  });
  it('a new item with a picture is recommended; one whose picture is missing is skipped', async () => {
    const { info, ids } = await inPage(async () => {
      const r = await load();
      const info = await r.setCatalog([{ id: 'n1', title: 'Red vase', image: await picture() }, { id: 'n2', title: 'No picture', image: '/nothing.png' }]);
      const ids = (await r.recommend({ history: ['vase-01'] })).items.map(({ id }) => id);
      await r.dispose();
      return { info, ids };
    });
    assert.equal(info.items, 1);
    assert.equal(info.withImage, 1);
    assert.match(info.skipped[0].reason, /404/);
    assert.deepEqual(ids, ['n1']);
  });
  it('rerank puts the same text first, by a query and by a history', async () => {
    const { query, said, history, bad } = await inPage(async () => {
      const r = await load();
      const item = (await r.catalog()).find(({ id }) => id === 'vase-01');
      const text = [item.title, item.brand, item.category, item.description].join(' ');
      const documents = ['a sock', text, { id: 'teapot-02' }];
      const query = await r.rerank({ query: text, documents, topN: 2 });
      const said = await r.rerank({ query: 'a sock', documents: [{ id: 'vase-01', title: '', brand: '', category: '', text: 'a sock' }] });
      const history = await r.rerank({ history: ['vase-01'], documents });
      const bad = [await outcome(r.rerank({ documents })), await outcome(r.rerank({ query: 'a', documents: [3] })), await outcome(r.rerank({ history: ['nothing known'], documents }))];
      await r.dispose();
      return { query, said, history, bad: bad.map(({ code }) => code) };
    });
    assert.equal(query.results.length, 2);
    assert.equal(query.results[0].index, 1);
    assert.ok(Math.abs(query.results[0].relevanceScore - 1) < 1e-4);
    assert.ok(Math.abs(said.results[0].relevanceScore - 1) < 1e-4, 'what is said of a known item goes before what the bundle knows');
    assert.equal(history.results.length, 3);
    assert.equal(history.results[0].index, 1);
    assert.deepEqual(bad, ['INVALID_ARGUMENT', 'INVALID_ARGUMENT', 'INVALID_ARGUMENT']);
  });
});
