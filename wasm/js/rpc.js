// Calls over a message port, in both directions: the page calls the host (in the worker), the host
// calls the page for what only the page has (its fetch, its ModelFiles, its CacheBackend).

import { abortError, fromWire, show, throwIfAborted, toWire } from './errors.js';

/**
 * @typedef {{ postMessage(message: any, transfer?: Transferable[]): void,
 *   onmessage: ((event: any) => void) | null, close?(): void }} Port
 * @typedef {(argument: any, signal: AbortSignal) => any} Handler
 * @typedef {{ signal?: AbortSignal, transfer?: Transferable[] }} CallOptions
 * @typedef {{ reader: ReadableStreamDefaultReader<Uint8Array>, unfit: (gave: string) => Error }} Source
 */

/** In a row. A stream may give nothing for ever, and where it runs beside the engine nothing else had its turn. */
const MAX_EMPTY_CHUNKS = 1000;

/** A handler's answer whose buffers move instead of being copied. */
export class Moved {
  /** @param {any} value @param {Transferable[]} transfer */
  constructor(value, transfer) {
    this.value = value;
    this.transfer = transfer;
  }
}

/** Two ends of a port inside one thread, without copies, which keep no process alive. @returns {[Port, Port]} */
export function localPorts() {
  /** @type {Port} */ const a = { onmessage: null, postMessage: (data) => queueMicrotask(() => b.onmessage?.({ data })) };
  /** @type {Port} */ const b = { onmessage: null, postMessage: (data) => queueMicrotask(() => a.onmessage?.({ data })) };
  return [a, b];
}

export class Rpc {
  #port;
  #next = 1;
  /** @type {Map<number, { resolve: (value: any) => void, reject: (error: unknown) => void }>} */
  #waiting = new Map();
  /** @type {Map<number, AbortController>} */
  #running = new Map();
  /** @type {unknown} */
  #closed;

  /** @param {Port} port @param {Record<string, Handler>} handlers */
  constructor(port, handlers) {
    this.#port = port;
    port.onmessage = (/** @type {{ data: any }} */ { data }) => {
      if (data.call) void this.#answer(handlers, data);
      else if (data.abort) this.#running.get(data.abort)?.abort();
      else if (data.reply) {
        const waiting = this.#waiting.get(data.reply);
        this.#waiting.delete(data.reply);
        if (data.error) waiting?.reject(fromWire(data.error));
        else waiting?.resolve(data.value);
      }
    };
  }

  /**
   * Rejects at once when the signal aborts; the other side is told and its answer is dropped.
   * @param {string} method
   * @param {any} [argument]
   * @param {CallOptions} [options]
   * @returns {Promise<any>}
   */
  async call(method, argument, { signal, transfer } = {}) {
    throwIfAborted(signal);
    if (this.#closed) throw this.#closed;
    const id = this.#next++;
    const onAbort = () => {
      this.#port.postMessage({ abort: id });
      this.#waiting.get(id)?.reject(abortError());
      this.#waiting.delete(id);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      return await new Promise((resolve, reject) => {
        this.#waiting.set(id, { resolve, reject });
        try {
          this.#port.postMessage({ call: id, method, argument }, transfer ?? []);
        } catch (error) {
          // An argument that cannot be cloned never arrives, so nobody would answer.
          this.#waiting.delete(id);
          reject(error);
        }
      });
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** Rejects what waits here and stops what runs for the other side. @param {unknown} reason */
  close(reason) {
    this.#closed ??= reason;
    for (const { reject } of this.#waiting.values()) reject(reason);
    this.#waiting.clear();
    for (const controller of this.#running.values()) controller.abort();
    this.#port.onmessage = null;
    this.#port.close?.();
  }

  /** @param {Record<string, Handler>} handlers @param {{ call: number, method: string, argument: any }} message */
  async #answer(handlers, { call, method, argument }) {
    const controller = new AbortController();
    this.#running.set(call, controller);
    try {
      const answer = await handlers[method](argument, controller.signal);
      if (this.#closed) return;
      if (answer instanceof Moved) this.#port.postMessage({ reply: call, value: answer.value }, answer.transfer);
      else this.#port.postMessage({ reply: call, value: answer });
    } catch (error) {
      if (!this.#closed) this.#port.postMessage({ reply: call, error: toWire(error) });
    } finally {
      this.#running.delete(call);
    }
  }
}

/**
 * Streams that the other side reads chunk by chunk: it asks for the next one when it has used the
 * last, so a fast network does not pile up in a slow worker. (Streams themselves can be
 * transferred in some browsers only.)
 */
export class OutgoingStreams {
  #next = 1;
  /** @type {Map<number, Source>} */
  #sources = new Map();

  /** @param {ReadableStream<Uint8Array>} stream @param {(gave: string) => Error} unfit What to say of a stream that is not one of bytes. */
  add(stream, unfit) {
    this.#sources.set(this.#next, { reader: stream.getReader(), unfit });
    return this.#next++;
  }

  /** @type {Record<string, Handler>} */
  handlers = {
    pull: async (/** @type {number} */ id) => {
      const { reader, unfit } = /** @type {Source} */ (this.#sources.get(id));
      for (let empty = 0; empty < MAX_EMPTY_CHUNKS; empty++) {
        const { done, value } = await reader.read();
        if (done) {
          this.#sources.delete(id);
          return null;
        }
        if (!(value instanceof Uint8Array)) throw unfit(show(value));
        if (value.length > 0) return value;
      }
      throw unfit(`${MAX_EMPTY_CHUNKS} empty chunks in a row`);
    },
    cancel: (/** @type {number} */ id) => {
      const source = this.#sources.get(id);
      this.#sources.delete(id);
      // It may have failed already; there is nothing left to do about it.
      source?.reader.cancel().catch(() => {});
    },
  };
}

/** @param {Rpc} rpc @param {number} id @param {AbortSignal} [signal] @returns {AsyncGenerator<Uint8Array>} */
export async function* incoming(rpc, id, signal) {
  let done = false;
  try {
    for (;;) {
      const chunk = await rpc.call('pull', id, { signal });
      if (chunk === null) {
        done = true;
        return;
      }
      yield chunk;
    }
  } finally {
    if (!done) rpc.call('cancel', id).catch(() => {});
  }
}

/** Safari cannot iterate a stream. @param {ReadableStream<Uint8Array>} stream @returns {AsyncGenerator<Uint8Array>} */
export async function* chunks(stream) {
  const reader = stream.getReader();
  let done = false;
  try {
    for (;;) {
      const next = await reader.read();
      done = next.done;
      if (next.done) return;
      yield next.value;
    }
  } finally {
    if (!done) reader.cancel().catch(() => {});
  }
}
