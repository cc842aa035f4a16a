// A loaded bundle that survives its device and its worker: both are replaced, what was added at run
// time is added again, and the call that was lost is made once more.

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
      if (!this.#mayRestart(error)) throw error;
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
   * Calls the host; after a lost device or a trap recovers and calls once more.
   * @param {string} method
   * @param {any} [argument]
   * @param {AbortSignal} [signal] Stops waiting at once; for calls whose slow part is not the engine.
   */
  async run(method, argument, signal) {
    try {
      return await this.#call(method, argument, signal);
    } catch (error) {
      await this.#recover(error);
      return await this.#call(method, argument, signal);
    }
  }

  /** @param {string} method @param {any} argument @param {AbortSignal | undefined} signal */
  async #call(method, argument, signal) {
    if (this.#disposed) throw disposedError();
    if (!this.#connection) throw new TributaryError('WASM_TRAP', 'the worker could not be started again');
    return this.#connection.call(method, argument, { signal });
  }

  /** @param {unknown} error */
  #mayRestart(error) {
    return !this.#disposed && error instanceof TributaryError && error.code === 'WASM_TRAP' && error.retriable &&
      this.#options.worker !== false && typeof this.#options.worker !== 'object' && typeof Worker !== 'undefined';
  }

  /** Returns when the call may be made again; else throws. @param {unknown} error */
  async #recover(error) {
    const lost = error instanceof TributaryError && error.code === 'DEVICE_LOST';
    if (this.#disposed || !(lost || this.#mayRestart(error))) throw error;
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
      if (lost) loaded = await this.#call('reopen', undefined, undefined);
      else {
        await this.#drop(error);
        loaded = await this.#start(undefined);
      }
      await this.#events?.restore((method, argument) => this.#call(method, argument, undefined));
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
