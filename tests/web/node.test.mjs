// The package without a browser: importing does nothing, and the same host runs in the thread.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { DEMO, DIST } from './server.mjs';
import { existsSync } from 'node:fs';

const skip = existsSync(join(DIST, 'core_bg.wasm')) ? false : 'wasm/dist is not built: node wasm/build.mjs';

describe('Node', { skip }, async () => {
  const { Recommender, TributaryError, getCapabilities } = skip ? {} : await import('../../wasm/dist/index.js');
  const files = { read: (file) => readFile(join(DEMO, file)) };

  it('recommends from files, with worker: false and by default', async () => {
    for (const options of [{ worker: false }, {}]) {
      const recommender = await Recommender.fromPretrained(files, options);
      const { items, backend } = await recommender.recommend({ history: ['vase-01', 'sock-01'], k: 3 });
      assert.equal(items.length, 3);
      assert.equal(backend.device, 'wasm');
      assert.match(backend.fallbackReason, /WebGPU/);
      await recommender.dispose();
    }
  });
  it('rejects with typed errors', async () => {
    const missing = { read: async (file) => (file === 'model.safetensors' ? readFile('/nothing') : files.read(file)) };
    await assert.rejects(Recommender.fromPretrained(missing), (error) => error instanceof TributaryError && error.code === 'MODEL_NOT_FOUND' && error.detail.file === 'model.safetensors');
    await assert.rejects(Recommender.fromPretrained('relative/folder'), { code: 'INVALID_ARGUMENT' });
    await assert.rejects(Recommender.fromPretrained(files, { worker: true }), { code: 'FEATURE_MISSING' });
    await assert.rejects(Recommender.fromPretrained(files, { device: 'webgpu' }), (error) => error.code === 'WEBGPU_UNAVAILABLE' && /device: 'wasm'.*allowSoftwareAdapter/.test(error.detail.hint));
    for (const content of [undefined, null, 'text', {}]) {
      const odd = { read: async (file) => (file === 'model.safetensors' ? content : files.read(file)) };
      await assert.rejects(Recommender.fromPretrained(odd), (error) => error.code === 'INVALID_ARGUMENT' && /`read`.*model\.safetensors/.test(error.message) && error.detail.field === 'read' && error.detail.file === 'model.safetensors');
    }
  });
  it('a pass that ends after its deadline, or after an abort, rejects', async () => {
    const recommender = await Recommender.fromPretrained(files, { worker: false, device: 'wasm' });
    const request = { history: ['vase-01', 'sock-01'], explain: true };
    await recommender.recommend(request);
    await assert.rejects(recommender.recommend(request, { timeoutMs: 1 }), { code: 'TIMEOUT' });
    await assert.rejects(recommender.recommend(request, { signal: AbortSignal.timeout(1) }), { name: 'AbortError' });
    assert.equal((await recommender.recommend(request, { timeoutMs: 60_000 })).items.length, 10);
    await recommender.dispose();
  });
  it('a trap rejects and leaves the process alive', async () => {
    // In a process of its own: the instance is gone afterwards. A core that traps while it answers.
    const program = `
      import { readFile } from 'node:fs/promises';
      import { Recommender } from '${new URL('../../wasm/dist/index.js', import.meta.url)}';
      import { Engine } from '${new URL('../../wasm/dist/core.js', import.meta.url)}';
      const trap = new WebAssembly.Instance(new WebAssembly.Module(Uint8Array.of(
        0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 7, 5, 1, 1, 116, 0, 0, 10, 5, 1, 3, 0, 0, 11))).exports.t;
      Engine.prototype.recommend = () => new Promise(() => setTimeout(trap));
      const shop = await Recommender.fromPretrained({ read: (file) => readFile('${DEMO}/' + file) }, { worker: false });
      for (let i = 0; i < 2; i += 1) console.log(await shop.recommend({ history: ['vase-01'] }).catch(({ code }) => code));
      setTimeout(() => { throw new Error('not ours'); });`;
    const { code, stdout, stderr } = await new Promise((resolve) => {
      execFile(process.execPath, ['--input-type=module', '-e', program], (error, stdout, stderr) => resolve({ code: error?.code ?? 0, stdout, stderr }));
    });
    assert.equal(stdout, 'WASM_TRAP\nWASM_TRAP\n', stderr);
    assert.match(stderr, /not ours/);
    assert.notEqual(code, 0, 'what is not a trap of ours still ends the process');
  });
  it('refuses pins of files that are not there and filters that promise, and waits as long as it is told', async () => {
    const integrity = { 'nofile.bin': 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' };
    await assert.rejects(Recommender.fromPretrained(files, { integrity }), (error) => error.code === 'INVALID_ARGUMENT' && /nofile\.bin/.test(error.message));
    const recommender = await Recommender.fromPretrained(files, { worker: false });
    await assert.rejects(recommender.recommend({ history: ['vase-01'], filter: async () => false }), { code: 'INVALID_ARGUMENT' });
    assert.equal((await recommender.recommend({ history: ['vase-01'], k: 1 }, { timeoutMs: 2 ** 33 })).items.length, 1);
    await recommender.dispose();
  });
  it('getCapabilities says that there is no WebGPU', async () => {
    assert.deepEqual(await getCapabilities(), { webgpu: false, f16: false, subgroups: false, limits: {}, crossOriginIsolated: false });
  });
});
