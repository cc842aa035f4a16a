// One thread of memory.test.mjs: a load and a recommendation in a WebAssembly memory of limited size.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import { Recommender, TributaryError } from '../../wasm/dist/index.js';
import { DEMO } from './server.mjs';

const code = (error) => (error instanceof TributaryError ? error.code : `untyped: ${error}`);
const files = { read: (file) => readFile(join(DEMO, file)) };
const ask = async (recommender) => (await recommender.recommend({ history: ['vase-01', 'sock-01'], k: 3, explain: true })).items;

const seen = { stage: 'load' };
try {
  const recommender = await Recommender.fromPretrained(files, { wasm: workerData });
  seen.stage = 'recommend';
  try {
    seen.items = await ask(recommender);
  } catch (error) {
    // Dead once, dead for good: neither a call nor the disposal may hang or touch it.
    seen.again = await ask(recommender).catch(code);
    throw error;
  } finally {
    await recommender.dispose();
  }
} catch (error) {
  seen.code = code(error);
  seen.message = error.message;
  seen.hint = error.detail?.hint;
}
parentPort.postMessage(seen);
