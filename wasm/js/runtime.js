// The WebAssembly instance of this thread: loaded once, checked before anything is downloaded, and
// never called again after a trap.

import init, * as core from './core.js';
import { fromCore, isAbort, isTrap, messageOf, NO_GPU_HINT, TributaryError } from './errors.js';

/** @typedef {string | BufferSource | WebAssembly.Module} WasmSource An address, or the content. */

/** Kernels and plain loops add in another order; more than this is a wrong instruction somewhere. */
const SELF_CHECK_BOUND = 1e-10;

/** A module of one function, `i32.const 0; i8x16.splat; drop`: an engine without simd128 refuses it. */
const SIMD_PROBE = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 10, 9, 1, 7, 0, 65, 0, 253, 15, 26, 11]);

/** @type {Promise<void> | undefined} */
let started;
/** @type {WebAssembly.Memory | undefined} */
let memory;
/** @type {TributaryError | undefined} */
let dead;
/** Of calls that run: a panic inside a future is thrown at the thread, and its promise never settles. @type {Set<(error: unknown) => void>} */
const running = new Set();
let listening = false;

/** @param {WasmSource} source @returns {Promise<typeof core>} */
export async function start(source) {
  if (dead) throw dead;
  started ??= instantiate(source).catch((error) => {
    started = undefined;
    throw error;
  });
  await started;
  return core;
}

/** @param {WasmSource} source */
async function instantiate(source) {
  if (typeof WebAssembly !== 'object') {
    throw new TributaryError('FEATURE_MISSING', 'this browser has no WebAssembly', { hint: 'it may be switched off by a security setting, such as a lockdown mode' });
  }
  // Where a content policy forbids compiling, validating is allowed.
  if (!WebAssembly.validate(SIMD_PROBE)) {
    throw new TributaryError('FEATURE_MISSING', 'this browser has no WebAssembly SIMD', { hint: 'Chrome 91, Firefox 89, Safari 16.4 and later have it' });
  }
  try {
    const exports = await init({ module_or_path: typeof source === 'string' ? await fetchWasm(source) : source });
    memory = exports?.memory;
  } catch (error) {
    throw explain(error);
  }
  const nmse = await guarded(core.self_check);
  if (!(nmse <= SELF_CHECK_BOUND)) {
    dead = new TributaryError('WASM_TRAP', `self-check of the WebAssembly kernels: nmse ${nmse}, expected at most ${SELF_CHECK_BOUND}`,
      { retriable: false, hint: 'this browser computes something else than the model needs; please report it with its version' });
    throw dead;
  }
}

/** @param {string} url */
async function fetchWasm(url) {
  const hint = 'does the bundler copy core_bg.wasm? The option `wasm` takes another address, or the content';
  let response;
  try {
    response = await fetch(url);
  } catch (error) {
    throw new TributaryError('NETWORK', `core_bg.wasm: ${messageOf(error)} (${url})`, { file: 'core_bg.wasm', hint, cause: error });
  }
  if (!response.ok) throw new TributaryError('NETWORK', `core_bg.wasm: the server answered ${response.status} (${url})`, { file: 'core_bg.wasm', hint, retriable: response.status >= 500 });
  return response;
}

/** @param {unknown} error */
function explain(error) {
  if (error instanceof TributaryError || isAbort(error)) return error;
  const message = messageOf(error);
  if (/content security policy|unsafe-eval|blocked by CSP/i.test(message)) {
    return new TributaryError('FEATURE_MISSING', `the page's Content-Security-Policy forbids WebAssembly: ${message}`,
      { hint: "add 'wasm-unsafe-eval' to its script-src directive, for the page and for worker.js", cause: error });
  }
  if (error instanceof RangeError && /memory/i.test(message)) return outOfMemory(`there is no room for a WebAssembly memory: ${message}`, error);
  if (isTrap(error)) return fromCore(error);
  return new TributaryError('INTERNAL', `core_bg.wasm could not be instantiated: ${message}`,
    { file: 'core_bg.wasm', hint: 'is it the file of this version of the package, served whole?', cause: error });
}

/**
 * Calls core.js. Its errors get their codes; a trap ends the instance.
 * @template T
 * @param {() => T | Promise<T>} call
 * @returns {Promise<T>}
 */
export async function guarded(call) {
  if (dead) throw dead;
  listen();
  /** @type {(error: unknown) => void} */
  let reject = () => {};
  const thrown = new Promise((_, fail) => { reject = fail; });
  running.add(reject);
  try {
    return /** @type {T} */ (await Promise.race([call(), thrown]));
  } catch (error) {
    const typed = fromCore(error);
    throw typed instanceof TributaryError && typed.code === 'WASM_TRAP' ? ended(typed) : typed;
  } finally {
    running.delete(reject);
  }
}

/**
 * The instance is never called again. Memory that cannot grow ends in the same trap as a bug of ours;
 * the core remembers which of the two it was.
 * @param {TributaryError} trap
 */
function ended(trap) {
  if (dead) return dead;
  // Without an instance there is nobody to ask.
  const bytes = memory ? core.failed_allocation() : 0;
  dead = bytes === 0 ? trap : outOfMemory(`the WebAssembly memory could not grow by ${bytes} bytes`, trap);
  return dead;
}

/** @param {string} message @param {unknown} cause */
function outOfMemory(message, cause) {
  return new TributaryError('OUT_OF_MEMORY', message, { hint: 'ask for fewer items or load a smaller bundle; memoryBudgetBytes refuses bundles that are too large', cause });
}

function listen() {
  if (listening) return;
  listening = true;
  if (typeof globalThis.addEventListener !== 'function') return listenInNode();
  globalThis.addEventListener('error', (event) => onThrown(/** @type {ErrorEvent} */ (event).error, event));
  globalThis.addEventListener('unhandledrejection', (event) => onThrown(/** @type {PromiseRejectionEvent} */ (event).reason, event));
}

/** There a trap in an asynchronous call would end the process; anything else still does. */
function listenInNode() {
  /** @type {{ on?: (name: string, listener: (error: unknown) => void) => void } | undefined} */
  const node = /** @type {any} */ (globalThis).process;
  node?.on?.('uncaughtException', (error) => {
    if (!failRunning(error)) throw error;
  });
}

/** @param {unknown} error @param {Event} event */
function onThrown(error, event) {
  if (failRunning(error)) event.preventDefault();
}

/**
 * A trap in an asynchronous call reaches nobody who awaits it. One trap may come out twice: inside the
 * executor of a promise it rejects the promise as well, for which nobody waits.
 * @param {unknown} error
 */
function failRunning(error) {
  if (!(error instanceof WebAssembly.RuntimeError) || (running.size === 0 && !dead)) return false;
  const end = ended(/** @type {TributaryError} */ (fromCore(error)));
  for (const reject of running) reject(end);
  return true;
}

/** True after a trap: destructors must not run either. */
export function isDead() {
  return dead !== undefined;
}

/** Bytes of the instance's memory; it never shrinks. */
export function memoryBytes() {
  return memory?.buffer.byteLength ?? 0;
}

/** Throws when the GPU cannot be used, or computes something else than plain loops. @param {boolean} allowSoftware */
export async function checkGpu(allowSoftware) {
  if (!globalThis.navigator?.gpu) {
    throw new TributaryError('WEBGPU_UNAVAILABLE', 'this browser has no WebGPU here', { hint: NO_GPU_HINT });
  }
  await guarded(() => core.gpu_self_check(allowSoftware));
}
