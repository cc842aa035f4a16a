// A loaded bundle that survives its device and its worker: both are replaced, what was added at run
// time is added again, and the call that was lost is made once more. A worker that is full is replaced
// like a dead one: WebAssembly memory never shrinks, and a GPU lets go of what a worker held.

import { throwIfAborted, TributaryError } from './errors.js';
import { disposedError } from './queue.js';
import { spawn } from './spawn.js';

/** @import {Handler} from './rpc.js' */
/** @import {Loaded, LoadMessage} from './host.js' */
/** @import {Connection, WorkerOption} from './spawn.js' */
/**
 * @typedef {{ worker: WorkerOption | undefined, message: LoadMessage, handlers: Record<string, Handler>,
 *   recover: boolean }} SessionOptions
 * @typedef {{ onLost(reason: string, willRecover: boolean): void, onRecovered(loaded: Loaded): void,
 *   restore(call: Connection['call']): Promise<void> }} SessionEvents
 */

const MAX_RECOVERIES = 2;
const WITHIN_MS = 60_000;
/**
 * What a call may still take when its caller has given up. Long, as a slow pass is not lost: the next one
 * finds its pipelines compiled. Counted in ticks, of which a tab that was frozen owes one at most.
 */
const GRACE_TICKS = 6;
const GRACE_TICK_MS = 5_000;

export class Session {
  #options;
  /** @type {Connection | undefined} */
  #connection;
  /** @type {SessionEvents | undefined} */
  #events;
  /** @type {number[]} */
  #recoveries = [];
  #disposed = false;

  /** @param {SessionOptions} options */
  constructor(options) {
    this.#options = options;
  }

  /** @param {AbortSignal | undefined} signal @returns {Promise<Loaded>} */
  async load(signal) {
    try {
      return await this.#start(signal);
    } catch (error) {
      // One that did not fit would not fit again.
      if (!died(error) || !this.#replaceable()) throw error;
      // What was downloaded so far is in the cache.
      await this.#drop(error);
      return await this.#start(signal);
    }
  }

  /** From now on there is someone to tell. @param {SessionEvents} events */
  attach(events) {
    this.#events = events;
  }

  /** @param {AbortSignal | undefined} signal @returns {Promise<Loaded>} */
  async #start(signal) {
    throwIfAborted(signal);
    const connection = await spawn(this.#options.worker, this.#options.handlers);
    if (this.#disposed || signal?.aborted) {
      await connection.close(disposedError());
      throwIfAborted(signal);
      throw disposedError();
    }
    this.#connection = connection;
    try {
      return await connection.call('load', this.#options.message, { signal });
    } catch (error) {
      // A host that stops at its own pace keeps the parts of its downloads; nobody waits for it.
      void this.#linger(connection);
      throw error;
    }
  }

  /** @param {Connection} connection */
  async #linger(connection) {
    if (this.#connection === connection) this.#connection = undefined;
    await Promise.race([connection.call('dispose').catch(() => {}), new Promise((resolve) => setTimeout(resolve, 1000))]);
    await connection.close(disposedError());
  }

  /**
   * Calls the host; after a lost device, a trap or a lack of memory recovers and calls once more.
   * @param {string} method
   * @param {any} [argument]
   * @param {AbortSignal} [signal] Stops waiting at once; for calls whose slow part is not the engine.
   * @param {AbortSignal} [caller] Of the one who waits. When he has given up the call may end unseen, but
   *   not go on for ever: the calls behind it wait.
   */
  async run(method, argument, signal, caller) {
    try {
      return await this.#call(method, argument, signal, caller);
    } catch (error) {
      await this.#recover(error);
      throwIfAborted(caller);
      return await this.#call(method, argument, signal, caller);
    }
  }

  /**
   * Ends a worker that hangs, as a device may that never maps a buffer.
   * @param {Connection} connection @param {AbortSignal | undefined} caller
   */
  #watch(connection, caller) {
    if (!caller || !this.#replaceable()) return () => {};
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    let ticks = 0;
    const tick = () => {
      if (ticks++ < GRACE_TICKS) timer = setTimeout(tick, GRACE_TICK_MS);
      else void connection.close(new TributaryError('WASM_TRAP', `the worker hangs: ${(GRACE_TICKS * GRACE_TICK_MS) / 1000} s after its caller gave up a call still runs`));
    };
    caller.addEventListener('abort', tick, { once: true });
    return () => {
      caller.removeEventListener('abort', tick);
      clearTimeout(timer);
    };
  }

  /** @param {string} method @param {any} [argument] @param {AbortSignal} [signal] @param {AbortSignal} [caller] */
  async #call(method, argument, signal, caller) {
    if (this.#disposed) throw disposedError();
    const connection = this.#connection;
    if (!connection) throw new TributaryError('WASM_TRAP', 'the worker could not be started again');
    const stop = this.#watch(connection, caller);
    try {
      return await connection.call(method, argument, { signal });
    } finally {
      stop();
    }
  }

  /** Whether a fresh worker can be had. */
  #replaceable() {
    const { worker } = this.#options;
    return !this.#disposed && worker !== false && typeof worker !== 'object' && typeof Worker !== 'undefined';
  }

  /** Returns when the call may be made again; else throws. @param {unknown} error */
  async #recover(error) {
    const lost = has(error, 'DEVICE_LOST');
    const over = died(error) || has(error, 'OUT_OF_MEMORY');
    if (this.#disposed || !(lost || (over && this.#replaceable()))) throw error;
    const reason = /** @type {TributaryError} */ (error).message;
    const now = Date.now();
    this.#recoveries = this.#recoveries.filter((then) => now - then < WITHIN_MS);
    const may = this.#options.recover && this.#recoveries.length < MAX_RECOVERIES;
    if (lost) this.#events?.onLost(reason, may);
    // A dead worker is replaced even when the user wants to hear of lost devices.
    if (!may && (lost || this.#recoveries.length >= MAX_RECOVERIES)) throw error;
    this.#recoveries.push(now);
    try {
      /** @type {Loaded} */
      let loaded;
      if (lost) loaded = await this.#call('reopen');
      else {
        await this.#drop(error);
        loaded = await this.#start(undefined);
      }
      await this.#events?.restore((method, argument) => this.#call(method, argument));
      this.#events?.onRecovered(loaded);
    } catch (again) {
      // Lost once more on the way back: as often as the budget allows.
      await this.#recover(again);
    }
  }

  /** @param {unknown} reason */
  async #drop(reason) {
    const connection = this.#connection;
    this.#connection = undefined;
    await connection?.close(reason);
  }

  async dispose() {
    this.#disposed = true;
    await this.#drop(disposedError());
  }
}

/** @param {unknown} error @param {string} code @returns {error is TributaryError} */
function has(error, code) {
  return error instanceof TributaryError && error.code === code;
}

/** A trap; what fails its self-check would fail in a fresh worker, too. @param {unknown} error */
function died(error) {
  return has(error, 'WASM_TRAP') && error.retriable;
}
