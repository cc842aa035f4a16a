// Who is next: an engine handles one call at a time, and calls of users go before background work.

import { abortError, throwIfAborted, TributaryError } from './errors.js';

/** @import {RunOptions} from './index.js' */

/** Longer ones fire at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export class Queue {
  /** @type {{ user: (() => void)[], background: (() => void)[] }} */
  #waiting = { user: [], background: [] };
  #busy = false;

  /**
   * Runs `body` when it is its turn; in order within a priority.
   * @template T
   * @param {'user' | 'background'} priority
   * @param {AbortSignal} signal Leaves the queue.
   * @param {() => Promise<T>} body
   * @returns {Promise<T>}
   */
  async run(priority, signal, body) {
    throwIfAborted(signal);
    if (this.#busy) await this.#turn(priority, signal);
    this.#busy = true;
    try {
      return await body();
    } finally {
      const next = this.#waiting.user.shift() ?? this.#waiting.background.shift();
      // Handed over busy, so that nobody slips in between.
      if (next) next();
      else this.#busy = false;
    }
  }

  /** @param {'user' | 'background'} priority @param {AbortSignal} signal @returns {Promise<void>} */
  #turn(priority, signal) {
    const line = this.#waiting[priority];
    return new Promise((resolve, reject) => {
      const turn = () => {
        signal.removeEventListener('abort', leave);
        resolve();
      };
      const leave = () => {
        line.splice(line.indexOf(turn), 1);
        reject(abortError());
      };
      line.push(turn);
      signal.addEventListener('abort', leave, { once: true });
    });
  }
}

/**
 * Rejects as soon as the caller's signal aborts, the time is over or the recommender is disposed. The
 * body's signal aborts then, too; whatever it still does is not seen.
 * @template T
 * @param {RunOptions} options
 * @param {AbortSignal} disposed
 * @param {(signal: AbortSignal) => Promise<T>} body
 * @returns {Promise<T>}
 */
export async function limited({ signal, timeoutMs }, disposed, body) {
  throwIfAborted(signal);
  if (disposed.aborted) throw disposedError();
  const controller = new AbortController();
  const over = new AbortController();
  try {
    return await new Promise((resolve, reject) => {
      const fail = (/** @type {unknown} */ error) => {
        reject(error);
        controller.abort();
      };
      const until = { once: true, signal: over.signal };
      signal?.addEventListener('abort', () => fail(abortError(signal)), until);
      disposed.addEventListener('abort', () => fail(disposedError()), until);
      if (timeoutMs !== undefined) {
        const timer = setTimeout(() => fail(new TributaryError('TIMEOUT', `not done after ${timeoutMs} ms`, { field: 'timeoutMs' })), Math.min(timeoutMs, LONGEST_TIMER_MS));
        over.signal.addEventListener('abort', () => clearTimeout(timer));
      }
      body(controller.signal).then(resolve, reject);
    });
  } finally {
    over.abort();
  }
}

export function disposedError() {
  return new TributaryError('DISPOSED', 'this recommender was disposed');
}
