// The one error type of the package, and its form on its way across a worker.

/** @import {TributaryErrorCode} from './index.js' */
/**
 * @typedef {{ file?: string, field?: string, hint?: string }} Detail
 * @typedef {{ abort?: true, code: TributaryErrorCode, message: string, retriable: boolean, detail?: Detail, stack?: string }} WireError
 */

/** Codes where the same call may succeed later without a change by the caller. @type {Set<string>} */
const RETRIABLE = new Set(['NETWORK', 'OFFLINE', 'DEVICE_LOST', 'WASM_TRAP', 'TIMEOUT', 'QUOTA']);

/** @type {Set<string>} */
const CODES = new Set(['WEBGPU_UNAVAILABLE', 'FEATURE_MISSING', 'LIMIT_EXCEEDED', 'OUT_OF_MEMORY',
  'DEVICE_LOST', 'WASM_TRAP', 'MODEL_NOT_FOUND', 'UNAUTHORIZED', 'NETWORK', 'INTEGRITY', 'QUOTA', 'OFFLINE',
  'MODEL_INVALID', 'UNSUPPORTED_MODEL', 'ADAPTER_INVALID', 'TEMPLATE', 'INVALID_ARGUMENT', 'INPUT_TOO_LONG',
  'IMAGE', 'TIMEOUT', 'DISPOSED', 'INTERNAL']);

export const NO_GPU_HINT = "WebGPU needs a secure context (HTTPS or localhost) and a recent browser. `device: 'wasm'` does without it; `allowSoftwareAdapter: true` takes an adapter on the processor, for tests";

export class TributaryError extends Error {
  /**
   * @param {TributaryErrorCode} code
   * @param {string} message
   * @param {Detail & { retriable?: boolean, cause?: unknown }} [more]
   */
  constructor(code, message, { retriable, cause, ...detail } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    /** @type {'TributaryError'} */
    this.name = 'TributaryError';
    this.code = code;
    this.retriable = retriable ?? RETRIABLE.has(code);
    /** @type {Detail | undefined} */
    this.detail = Object.keys(detail).length ? detail : undefined;
  }
}

/** What every abort rejects with; a reason that the caller gave is its cause. @param {AbortSignal | null} [signal] */
export function abortError(signal) {
  const error = new DOMException('The operation was aborted.', 'AbortError');
  const cause = signal?.reason;
  // The constructor takes none. A signal's reason by default is an AbortError as well.
  return cause === undefined || isAbort(cause) ? error : Object.defineProperty(error, 'cause', { value: cause, configurable: true, writable: true });
}

/** @param {unknown} error @returns {error is DOMException} */
export function isAbort(error) {
  return error instanceof DOMException && error.name === 'AbortError';
}

/** @param {AbortSignal | null | undefined} signal */
export function throwIfAborted(signal) {
  if (signal?.aborted) throw abortError(signal);
}

/** @param {unknown} error */
export function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}

/**
 * A trap: the instance's memory may be half-written, so it must not be called again. Panics of Rust
 * (`unreachable`), memory that cannot grow and an overflown stack all come out like this.
 * @param {unknown} error
 */
export function isTrap(error) {
  return error instanceof WebAssembly.RuntimeError || error instanceof RangeError ||
    (error instanceof Error && error.name === 'InternalError' && /recursion/.test(error.message));
}

/**
 * Errors of core.js carry a code; everything else that leaves it is a trap or a bug of ours.
 * @param {unknown} error
 * @returns {TributaryError | DOMException}
 */
export function fromCore(error) {
  if (error instanceof TributaryError || isAbort(error)) return error;
  const { code, detail } = /** @type {Record<string, any>} */ (error ?? {});
  if (typeof code === 'string' && CODES.has(code)) {
    return new TributaryError(/** @type {TributaryErrorCode} */ (code), messageOf(error), { ...(code === 'WEBGPU_UNAVAILABLE' && { hint: NO_GPU_HINT }), ...detail, cause: error });
  }
  if (isTrap(error)) return new TributaryError('WASM_TRAP', `the WebAssembly instance trapped: ${messageOf(error)}`, { cause: error });
  return new TributaryError('INTERNAL', messageOf(error), { cause: error });
}

/** @param {unknown} error @returns {WireError} */
export function toWire(error) {
  if (isAbort(error)) return { abort: true, code: 'INTERNAL', message: error.message, retriable: false };
  const { code, message, retriable, detail, stack } = /** @type {TributaryError} */ (fromCore(error));
  return { code, message, retriable, ...(detail && { detail }), ...(stack && { stack }) };
}

/** @param {WireError} wire @returns {TributaryError | DOMException} */
export function fromWire({ abort, code, message, retriable, detail, stack }) {
  if (abort) return abortError();
  const error = new TributaryError(code, message, { ...detail, retriable });
  // Where it went wrong is in the worker; the caller's own stack is in the await.
  if (stack) error.stack = stack;
  return error;
}

/**
 * Every refused argument reads the same: operation, argument, found, expected.
 * @param {string} operation
 * @param {string} argument
 * @param {unknown} found
 * @param {string} expected
 */
export function invalid(operation, argument, found, expected) {
  return new TributaryError('INVALID_ARGUMENT', `${operation}: \`${argument}\` is ${show(found)}, expected ${expected}`,
    { field: argument });
}

/** @param {unknown} value */
export function show(value) {
  if (typeof value === 'string') return JSON.stringify(value.length > 80 ? `${value.slice(0, 80)}…` : value);
  if (typeof value === 'function') return 'a function';
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (value && typeof value === 'object') return `an object (${value.constructor?.name ?? 'no prototype'})`;
  return String(value);
}
