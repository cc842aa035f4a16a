// The bytes of one file on their way into the Bundle, which hashes them, and into the store.

import { fromCore, throwIfAborted } from './errors.js';
import { checkDigest } from './integrity.js';
import { isQuota } from './stores.js';

/** @import {Sink} from './network.js' */
/** @import {Store, Writer} from './stores.js' */
/** @import {Bundle, BundleFile} from './core.js' */
/** @import {Context} from './bundle_files.js' */
/** @import {Progress} from './progress.js' */

/** Errors of core.js get their code. @template T @param {() => T} body @returns {T} */
export function callCore(body) {
  try {
    return body();
  } catch (error) {
    throw fromCore(error);
  }
}

/**
 * Another store of the origin shares its quota, so only one that is broken in another way has a
 * successor. Files that are read side by side may find the same store broken. A file that is open in
 * another tab is not kept by this one, and nothing is broken.
 * @param {Store[]} stores
 * @param {Store | undefined} broken
 * @param {unknown} error
 */
export function stepDown(stores, broken, error) {
  if (error instanceof DOMException && error.name === 'NoModificationAllowedError') return;
  if (isQuota(error)) stores.length = 0;
  else if (stores[0] === broken) stores.shift();
}

/** @implements {Sink} */
export class FileSink {
  bytes = 0;
  /** @type {string | undefined} */
  validator;
  #context;
  #progress;
  #bundle;
  #file;
  /** @type {Writer | undefined} */
  #writer;
  /** Of the writer. @type {Store | undefined} */
  #store;
  /** What comes now is new to the store. */
  #storing = false;
  /** The writer stands where the next byte belongs. */
  #placed = false;
  /** For hashes other than the manifest's own. @type {Uint8Array[] | undefined} */
  #copy;

  /** @param {Context} context @param {Progress} progress @param {Bundle} bundle @param {BundleFile} file */
  constructor(context, progress, bundle, file) {
    this.#context = context;
    this.#progress = progress;
    this.#bundle = bundle;
    this.#file = file;
    if (/^sha(384|512)-/.test(context.wanted.integrity[file.name] ?? '')) this.#copy = [];
  }

  get #base() {
    return /** @type {string} */ (this.#context.wanted.base);
  }

  /** Takes what an interrupted download left. */
  async resume() {
    const part = await this.#context.stores[0]?.part?.(this.#base, this.#file.name);
    if (!part || part.size > this.#file.bytes) return;
    this.validator = part.validator;
    for await (const chunk of part.read()) await this.write(chunk);
    // A part that is complete needs no response any more, but a writer that commits it.
    if (this.bytes === this.#file.bytes) await this.#place();
  }

  restart() {
    callCore(() => this.#bundle.discard(this.#file.name));
    this.#progress.add(this.#file.name, -this.bytes);
    this.bytes = 0;
    this.#placed = false;
    if (this.#copy) this.#copy = [];
  }

  /** @param {string | undefined} validator */
  begin(validator) {
    this.#storing = true;
    if (this.bytes > 0) return;
    this.validator = validator;
    this.#placed = false;
  }

  async #place() {
    const { stores } = this.#context;
    this.#placed = true;
    await this.close(true);
    const store = this.#store = stores[0];
    try {
      this.#writer = await store?.write(this.#base, this.#file.name, this.bytes, this.validator);
    } catch (error) {
      stepDown(stores, store, error);
    }
  }

  /** @param {Uint8Array} chunk */
  async write(chunk) {
    throwIfAborted(this.#context.signal);
    if (this.#storing && !this.#placed) await this.#place();
    callCore(() => this.#bundle.append(this.#file.name, chunk));
    this.#copy?.push(chunk.slice());
    this.bytes += chunk.length;
    this.#progress.add(this.#file.name, chunk.length);
    try {
      await this.#writer?.write(chunk);
    } catch (error) {
      await this.#giveUp(error);
    }
  }

  /** The download goes on without the store. @param {unknown} error */
  async #giveUp(error) {
    await this.close(false);
    stepDown(this.#context.stores, this.#store, error);
  }

  /** @param {string | undefined} sri */
  async finish(sri) {
    callCore(() => this.#bundle.finish(this.#file.name));
    if (!sri || !this.#copy) return;
    const bytes = await new Blob(/** @type {BlobPart[]} */ (this.#copy)).arrayBuffer();
    this.#copy = undefined;
    await checkDigest(this.#file.name, new Uint8Array(bytes), sri);
  }

  async commit() {
    try {
      await this.#writer?.commit();
      this.#writer = undefined;
    } catch (error) {
      await this.#giveUp(error);
    }
  }

  /** @param {boolean} keep Whether what is there so far is good for the next time. */
  async close(keep) {
    const writer = this.#writer;
    this.#writer = undefined;
    // Failing to let go leaves at worst a part, which the next load checks.
    await writer?.close(keep).catch(() => {});
  }
}
