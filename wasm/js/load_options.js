// Options of `fromPretrained`, checked, and where a model's files are.

import { invalid, messageOf, TributaryError } from './errors.js';
import { memoryCache } from './page_services.js';
import { onlyKeys } from './requests.js';

/** @import {CacheBackend, Device, DType, LoadOptions, ModelFiles} from './index.js' */
/** @import {WasmSource} from './runtime.js' */

const OPERATION = 'fromPretrained';
const STALL_MS = 30_000;
const DEVICES = ['auto', 'webgpu', 'wasm'];
const DTYPES = ['auto', 'fp32', 'fp16', 'q8', 'q4', 'q4f16'];
const CACHES = ['auto', 'opfs', 'cache-api', 'memory'];
const KNOWN = ['revision', 'subfolder', 'device', 'dtype', 'adapter', 'progressCallback', 'signal', 'localFilesOnly',
  'cache', 'integrity', 'memoryBudgetBytes', 'fetch', 'remoteHost', 'stallTimeoutMs', 'worker', 'wasm', 'onDeviceLost',
  'allowSoftwareAdapter'];

/** @param {unknown} value @returns {value is ModelFiles} */
function isModelFiles(value) {
  return typeof value === 'object' && value !== null && typeof (/** @type {any} */ (value).read) === 'function';
}

/**
 * The folder of a model, with a slash at its end; as it is written it is relative to the page.
 * @param {string | URL} model @param {Pick<LoadOptions, 'revision' | 'subfolder' | 'remoteHost'>} [options]
 */
export function baseOf(model, { revision, subfolder, remoteHost } = {}) {
  if (revision !== undefined && !remoteHost) throw invalid(OPERATION, 'revision', revision, 'an address that names it, or the option `remoteHost`');
  if (typeof model === 'string' && model.trim() === '') throw invalid(OPERATION, 'model', model, 'the address of a folder with bundle.json');
  const text = remoteHost ? `${remoteHost.replace(/\/+$/, '')}/${model}/resolve/${encodeURIComponent(revision ?? 'main')}` : String(model);
  let url;
  try {
    // A worker's own address would be another base, so the page resolves.
    url = new URL(text, globalThis.document?.baseURI ?? globalThis.location?.href);
  } catch {
    throw invalid(OPERATION, 'model', model, 'an address; outside of a page it must be absolute, or a ModelFiles');
  }
  url.search = url.hash = '';
  if (url.pathname.endsWith('/bundle.json')) url.pathname = url.pathname.slice(0, -'bundle.json'.length);
  const folder = subfolder ? `/${subfolder.replace(/^\/+|\/+$/g, '')}/` : '/';
  url.pathname = url.pathname.replace(/\/+$/, '') + folder;
  return url.href;
}

/** One value for all modules. @template {string} T @param {string} name @param {T | Partial<Record<string, T>> | undefined} value @param {string[]} allowed @returns {T} */
function single(name, value, allowed) {
  const values = [...new Set(typeof value === 'object' && value !== null ? Object.values(value) : [value ?? 'auto'])];
  if (values.length === 0) return /** @type {T} */ ('auto');
  if (values.length > 1) throw invalid(OPERATION, name, values, 'the same value for all modules');
  if (!allowed.includes(/** @type {string} */ (values[0]))) throw invalid(OPERATION, name, values[0], `one of ${allowed.join(', ')}`);
  return /** @type {T} */ (values[0]);
}

/** @param {unknown} value @returns {value is CacheBackend} */
function isCacheBackend(value) {
  return typeof value === 'object' && value !== null &&
    ['match', 'put', 'delete', 'keys'].every((method) => typeof (/** @type {any} */ (value)[method]) === 'function');
}

/** @param {string | URL | ModelFiles} model @param {LoadOptions} options */
export function readOptions(model, options) {
  if (typeof options !== 'object' || options === null) throw invalid(OPERATION, 'options', options, 'an object');
  onlyKeys(OPERATION, 'options', options, KNOWN);
  const files = isModelFiles(model) ? model : undefined;
  if (!files && typeof model !== 'string' && !(model instanceof URL)) throw invalid(OPERATION, 'model', model, 'an address or a ModelFiles');
  if (options.adapter !== undefined) throw noAdapters();

  const cache = options.cache ?? 'auto';
  if (!CACHES.includes(/** @type {string} */ (cache)) && !isCacheBackend(cache)) throw invalid(OPERATION, 'cache', cache, `one of ${CACHES.join(', ')}, or an object with match, put, delete and keys`);
  const onDeviceLost = options.onDeviceLost ?? 'recover';
  if (onDeviceLost !== 'recover' && onDeviceLost !== 'reject') throw invalid(OPERATION, 'onDeviceLost', onDeviceLost, 'recover or reject');
  for (const name of /** @type {const} */ (['memoryBudgetBytes', 'stallTimeoutMs'])) {
    const value = options[name];
    if (value !== undefined && !(Number.isFinite(value) && value > 0)) throw invalid(OPERATION, name, value, 'a number above 0');
  }
  for (const name of /** @type {const} */ (['progressCallback', 'fetch'])) {
    const value = options[name];
    if (value !== undefined && typeof value !== 'function') throw invalid(OPERATION, name, value, 'a function');
  }
  const base = files ? undefined : baseOf(/** @type {string | URL} */ (model), options);
  return {
    files,
    base,
    name: files ? 'files' : String(model),
    revision: options.revision,
    device: /** @type {Device} */ (single('device', options.device, DEVICES)),
    dtype: /** @type {DType} */ (single('dtype', options.dtype, DTYPES)),
    integrity: options.integrity ?? {},
    localFilesOnly: options.localFilesOnly === true,
    stallMs: options.stallTimeoutMs ?? STALL_MS,
    budget: options.memoryBudgetBytes,
    cache: isCacheBackend(cache) ? cache : cache === 'memory' ? memoryCache : undefined,
    store: /** @type {'auto' | 'opfs' | 'cache-api' | 'page'} */ (typeof cache === 'string' && cache !== 'memory' ? cache : 'page'),
    recover: onDeviceLost === 'recover',
  };
}

export function noAdapters() {
  return new TributaryError('ADAPTER_INVALID', 'no recommender of this version takes adapters: bundles carry merged weights',
    { hint: 'merge the adapter when the bundle is made' });
}

/**
 * The module as a host can take it: an address, or content that can be cloned.
 * @param {LoadOptions['wasm']} wasm
 * @returns {Promise<WasmSource>}
 */
export async function wasmSource(wasm) {
  if (wasm === undefined) {
    const url = new URL('./core_bg.wasm', import.meta.url);
    return url.protocol === 'file:' ? readLocal(url) : url.href;
  }
  if (typeof Response !== 'undefined' && wasm instanceof Response) {
    if (!wasm.ok || wasm.bodyUsed) throw invalid(OPERATION, 'wasm', `a Response of status ${wasm.status}${wasm.bodyUsed ? ', read already' : ''}`, 'a fresh one that is ok');
    return wasm.arrayBuffer();
  }
  if (typeof wasm === 'string' || wasm instanceof URL) {
    const url = new URL(wasm, globalThis.document?.baseURI ?? globalThis.location?.href ?? import.meta.url);
    return url.protocol === 'file:' ? readLocal(url) : url.href;
  }
  if (wasm instanceof WebAssembly.Module || wasm instanceof ArrayBuffer || ArrayBuffer.isView(wasm)) return /** @type {WasmSource} */ (wasm);
  throw invalid(OPERATION, 'wasm', wasm, 'an address, a Response, bytes or a WebAssembly.Module');
}

/** Node's fetch does not read files. @param {URL} url @returns {Promise<BufferSource>} */
async function readLocal(url) {
  try {
    // Not imported, so that bundlers for browsers find nothing to resolve.
    const { readFile } = /** @type {any} */ (globalThis).process.getBuiltinModule('node:fs/promises');
    return await readFile(url);
  } catch (error) {
    throw new TributaryError('INTERNAL', `core_bg.wasm: ${messageOf(error)}`, { file: 'core_bg.wasm', hint: 'a page must be served by HTTP; the option `wasm` takes the content', cause: error });
  }
}
