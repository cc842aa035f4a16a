// Downloaded models in the browser's own stores, seen from the page.

import { adapter, estimate } from './capabilities.js';
import { TributaryError } from './errors.js';
import { baseOf } from './load_options.js';
import { download, offline, online, plainFetch } from './network.js';
import { memoryCache } from './page_services.js';
import { address, CacheApiStore, isIn, OpfsStore } from './stores.js';

/** @import {Store} from './stores.js' */
/** @typedef {{ file: string, bytes: number }} Listed */

const MANIFEST = 'bundle.json';
const STALL_MS = 30_000;

/** @returns {Store[]} */
function stores() {
  /** @type {Store[]} */
  const found = [];
  if (globalThis.navigator?.storage?.getDirectory !== undefined && globalThis.crypto?.subtle) found.push(new OpfsStore());
  if (typeof caches !== 'undefined') found.push(new CacheApiStore());
  return found;
}

/** Size of a stored file, from whichever store has it. @param {string} base @param {string} file @returns {Promise<{ size: number, read(): AsyncGenerator<Uint8Array> } | undefined>} */
async function stored(base, file) {
  for (const store of stores()) {
    const entry = await store.open(base, file).catch(() => undefined);
    if (entry) return entry;
  }
  const kept = await memoryCache.match(address(base, file));
  if (!kept) return undefined;
  const bytes = new Uint8Array(await kept.arrayBuffer());
  return { size: bytes.length, async *read() { yield bytes; } };
}

/** @param {Uint8Array[]} parts @returns {Promise<Listed[]>} */
async function listed(parts) {
  try {
    const { components } = JSON.parse(await new Blob(/** @type {BlobPart[]} */ (parts)).text());
    return components.flatMap((/** @type {any} */ { files }) => files.map((/** @type {any} */ { name, bytes }) => {
      if (typeof name !== 'string' || !Number.isSafeInteger(bytes)) throw new TypeError('a file without name or size');
      return { file: name, bytes };
    }));
  } catch (cause) {
    throw new TributaryError('MODEL_INVALID', `${MANIFEST} is not a list of files`, { file: MANIFEST, cause });
  }
}

/** @param {string} base @param {boolean} cachedOnly @returns {Promise<Listed[] | undefined>} */
async function manifest(base, cachedOnly) {
  /** @type {Uint8Array[]} */
  const parts = [];
  if (cachedOnly || !online()) {
    const entry = await stored(base, MANIFEST);
    if (!entry && cachedOnly) return undefined;
    if (!entry) throw offline(MANIFEST);
    for await (const chunk of entry.read()) parts.push(chunk);
  } else {
    await download({ fetch: plainFetch, url: address(base, MANIFEST), file: MANIFEST, expected: undefined, stallMs: STALL_MS, keeps: false, signal: new AbortController().signal }, {
      bytes: 0,
      validator: undefined,
      begin() {},
      restart() { this.bytes = 0; parts.length = 0; },
      write(chunk) { this.bytes += chunk.length; parts.push(chunk); },
    });
  }
  return listed(parts);
}

/** @param {string} base @param {Listed[]} files */
function withCached(base, files) {
  return Promise.all(files.map(async ({ file, bytes }) => ({ file, bytes, cached: (await stored(base, file))?.size === bytes })));
}

/** @param {string | URL} id @param {{ revision?: string, dtype?: unknown }} [options] */
async function files(id, { revision } = {}) {
  const base = baseOf(id, { revision });
  return withCached(base, /** @type {Listed[]} */ (await manifest(base, false)));
}

/** @param {string | URL} id @param {{ dtype?: unknown, device?: unknown }} [options] */
async function estimateModel(id, { device } = {}) {
  const all = await files(id);
  const sum = (/** @type {{ bytes: number }[]} */ of) => of.reduce((total, { bytes }) => total + bytes, 0);
  const downloadBytes = sum(all.filter(({ cached }) => !cached));
  const weights = all.filter(({ file }) => file.endsWith('.safetensors'));
  const onGpu = device !== 'wasm';
  const gpuBytes = onGpu ? sum(weights) : 0;
  /** @type {string[]} */
  const reasons = [];
  const space = await estimate().catch(() => undefined);
  if (space && downloadBytes > space.quota - space.usage) reasons.push(`storage: ${downloadBytes} bytes to keep, ${space.quota - space.usage} are free (it would be downloaded each time)`);
  const gpu = onGpu ? await adapter().catch(() => null) : null;
  if (device === 'webgpu' && !gpu) reasons.push('there is no WebGPU here');
  const largest = Math.max(0, ...weights.map(({ bytes }) => bytes));
  const limit = gpu && Number(gpu.limits.maxBufferSize);
  if (limit && largest > limit) reasons.push(`WebGPU: a file of ${largest} bytes, buffers hold ${limit}`);
  // What WebAssembly can address; the bundle is held whole.
  if (sum(all) > 2 ** 32 * 0.8) reasons.push(`WebAssembly: ${sum(all)} bytes, its memory holds 4 GiB`);
  return { downloadBytes, gpuBytes, fits: reasons.length === 0, reasons };
}

/** @param {string | URL} id */
async function isCached(id) {
  const base = baseOf(id);
  const files = await manifest(base, true).catch(() => undefined);
  return files !== undefined && (await withCached(base, files)).every(({ cached }) => cached);
}

/** @param {string | URL} [id] */
async function clear(id) {
  const base = id === undefined ? undefined : baseOf(id);
  const gone = { files: 0, bytes: 0 };
  const count = (/** @type {number} */ bytes) => {
    gone.files++;
    gone.bytes += bytes;
  };
  for (const store of stores()) {
    // A store that is blocked holds nothing of ours.
    if (store instanceof OpfsStore || store instanceof CacheApiStore) await store.clear(base, count).catch(() => {});
  }
  for (const key of await memoryCache.keys()) {
    if (base !== undefined && !isIn(base, key)) continue;
    count((await (await memoryCache.match(key))?.blob())?.size ?? 0);
    await memoryCache.delete(key);
  }
  return gone;
}

export const models = { files, estimate: estimateModel, isCached, clear };
