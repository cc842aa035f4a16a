// Every system in the page: bundles trained for a few steps on a small shop by the native program, loaded by
// the package, asked the same on WebAssembly and on WebGPU.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { answerNatively, compare, counts, drawRequests, ITEMS, PROGRAM } from './agreement.mjs';
import { skip, web } from './harness.mjs';

const REQUESTS = { wasm: 12, webgpu: 3 };
/** A new language model, small enough to be trained while somebody waits. */
const LANGUAGE = `[language]
vocab_size = 600
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 2
head_dim = 16
`;
const DATA = `[data]
path = 'shop'
[training]
epochs = 1
batch_size = 16
`;
/** Name and training file, in the order they need each other. */
const SYSTEMS = [
  ['lru_rec', `[model]\nkind = 'lru_rec'\nhidden_size = 16\nmax_seq_len = 16\n${DATA}`],
  ['gru4rec', `[model]\nkind = 'gru4rec'\nhidden_size = 16\nmax_seq_len = 16\n${DATA}`],
  ['sasrec', `[model]\nkind = 'sasrec'\nhidden_size = 16\nmax_seq_len = 16\n${DATA}`],
  ['almostrec', `[model]\nkind = 'almostrec'\nsequence = 'sasrec'\nmax_title_tokens = 4\nmax_items = 6\n${LANGUAGE}${DATA}`],
  ['mllm4rec', `[model]
kind = 'mllm4rec'
retriever = 'lru_rec'
[prompt]
max_candidates = 8
max_prompt_tokens = 400
max_title_tokens = 6
window = { max_items = 6, keep_items = 4, max_tokens = 120, keep_tokens = 90 }
${LANGUAGE}[examples]
per_user = 1
${DATA}`],
  ['mllm_srec', `[model]
kind = 'mllm_srec'
retriever = 'lru_rec'
max_candidates = 4
[model.prompt]
chain = 'prefix'
wording = 'text'
window = 3
step = 2
max_item_tokens = 8
max_summary_tokens = 8
max_prompt_tokens = 800
${LANGUAGE}[data]
path = 'shop'
target_behaviour = 'buy'
negatives = 'random'
prompts_per_user = 1
targets = 2
validation_users = 5
[training]
epochs = 1
batch_size = 16
metric = 'auc'
`],
];

const why = skip || (!existsSync(PROGRAM) && `no program at ${PROGRAM}: cargo build, or set TRIBUTARY`);

describe('every system answers in the page as natively', { skip: why }, () => {
  const w = web();
  let folder;

  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'tributary-systems-'));
    const run = (...words) => execFileSync(PROGRAM, words, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });
    run('prepare', 'shop', '--out', 'shop', '--users', '40', '--users-seed', '1');
    for (const [name, toml] of SYSTEMS) {
      writeFileSync(join(folder, `${name}.toml`), toml);
      run('train', `${name}.toml`, '--out', name);
    }
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  for (const [name] of SYSTEMS) {
    for (const device of ['wasm', 'webgpu']) {
      it(`${name}, ${device}`, (t) => w.page(async (page) => {
        const read = (file) => readFileSync(join(folder, name, file));
        const bundle = w.server.bundle();
        const manifest = JSON.parse(read('bundle.json'));
        const files = manifest.components.flatMap((component) => component.files.map((file) => file.name));
        for (const file of ['bundle.json', ...files]) bundle.overrides.set(file, read(file));
        const requests = drawRequests(REQUESTS[device], read('catalogue.jsonl').toString(), ITEMS);
        const native = answerNatively(join(folder, name), requests);
        await page.evaluate(async ([url, device]) => {
          window.recommender = await tributary.Recommender.fromPretrained(url, { device, allowSoftwareAdapter: true, cache: 'memory' });
        }, [bundle.url, device]);
        const seen = counts();
        let usage;
        for (const [i, request] of requests.entries()) {
          const ours = await page.evaluate((request) => window.recommender.recommend(request).then(
            ({ items, backend, usage }) => ({ items, device: backend.device, usage }),
            ({ code, message }) => ({ error: code ?? message })), request);
          if (!ours.error) assert.equal(ours.device, device);
          usage = ours.usage ?? usage;
          compare(request, ours, native[i], seen);
        }
        const refused = native.filter(({ error }) => error).length;
        assert.ok(refused < requests.length / 2, 'most requests must have an answer to compare');
        await page.evaluate(() => window.recommender.dispose());
        t.diagnostic(`${requests.length} requests, ${refused} refused by both, ${seen.same} with the same ranking; ` +
          `largest difference of a score ${seen.difference.toExponential(1)}; the last one's usage ${JSON.stringify(usage)}`);
      }));
    }
  }

  it('mllm4rec offers an item that is new to its retriever, by title and caption', (t) => w.page(async (page) => {
    const read = (file) => readFileSync(join(folder, 'mllm4rec', file));
    const bundle = w.server.bundle();
    const config = JSON.parse(read('mllm4rec.json'));
    const manifest = JSON.parse(read('bundle.json'));
    const replaced = Buffer.from(JSON.stringify({ ...config, cold_candidates: 1 }));
    for (const { files } of manifest.components) {
      for (const file of files) {
        const body = file.name === 'mllm4rec.json' ? replaced : read(file.name);
        Object.assign(file, { bytes: body.length, sha256: createHash('sha256').update(body).digest('hex') });
        bundle.overrides.set(file.name, body);
      }
    }
    bundle.overrides.set('bundle.json', Buffer.from(JSON.stringify(manifest)));
    const known = JSON.parse(read('catalogue.jsonl').toString().split('\n')[0]).id;
    const places = await page.evaluate(async ([url, known]) => {
      const recommender = await tributary.Recommender.fromPretrained(url, { device: 'wasm', cache: 'memory' });
      await recommender.setCatalog([{ id: 'new', title: 'a new lamp', caption: 'a round, red lamp' }], { mode: 'add' });
      const { items } = await recommender.recommend({ history: [{ item: known }], k: 1000 });
      recommender.dispose();
      return { place: items.findIndex(({ id }) => id === 'new'), items: items.length };
    }, [bundle.url, known]);
    t.diagnostic(`place ${places.place + 1} of ${places.items}`);
    assert.ok(places.place >= 0 && places.place < 8, `among the candidates that the model read: ${JSON.stringify(places)}`);
  }));
});
