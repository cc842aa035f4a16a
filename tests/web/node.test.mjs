// The package without a browser: importing does nothing, and the same host runs in the thread.

import assert from 'node:assert/strict';
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
    await assert.rejects(Recommender.fromPretrained(files, { device: 'webgpu' }), { code: 'WEBGPU_UNAVAILABLE' });
  });
  it('getCapabilities says that there is no WebGPU', async () => {
    assert.deepEqual(await getCapabilities(), { webgpu: false, f16: false, subgroups: false, limits: {}, crossOriginIsolated: false });
  });
});
