// Where downloaded files are kept between visits. Every store may fail at any time (private windows,
// full disks, blocked storage); then the next one is used, and a load never fails for it.

import { incoming } from './rpc.js';

/** @import {Rpc} from './rpc.js' */
/**
 * @typedef {{ size: number, read(): AsyncGenerator<Uint8Array> }} Entry
 * @typedef {Entry & { validator: string | undefined }} Part
 * @typedef {{ write(chunk: Uint8Array): void | Promise<void>, commit(): Promise<void>,
 *   close(keep: boolean): Promise<void> }} Writer
 * @typedef {{
 *   open(base: string, file: string): Promise<Entry | undefined>,
 *   part?(base: string, file: string): Promise<Part | undefined>,
 *   write(base: string, file: string, from: number, validator: string | undefined): Promise<Writer>,
 *   delete(base: string, file: string): Promise<void>,
 * }} Store  `base` is the address of the bundle's folder, `file` a name in it.
 */

/** Cache API and folder of OPFS. */
const NAME = 'tributary';

/** @param {Blob} blob @returns {AsyncGenerator<Uint8Array>} */
async function* blobChunks(blob) {
  // Slices instead of a stream: Safari cannot iterate streams, and an early end needs no cancel.
  const step = 1 << 20;
  for (let at = 0; at < blob.size; at += step) {
    yield new Uint8Array(await blob.slice(at, at + step).arrayBuffer());
  }
}

/** @param {string} text */
async function digestName(text) {
  const hash = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text));
  return [...new Uint8Array(hash)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** @param {unknown} error */
function isMissing(error) {
  return error instanceof DOMException && error.name === 'NotFoundError';
}

/**
 * The origin private file system: `tributary/<sha256 of the bundle's address>/<file>`, with
 * `<file>.part` and `<file>.from` (the validator) while a download is under way.
 * @implements {Store}
 */
export class OpfsStore {
  /** @type {Promise<FileSystemDirectoryHandle> | undefined} */
  #root;

  /** @returns {Promise<FileSystemDirectoryHandle>} */
  root() {
    this.#root ??= navigator.storage.getDirectory().then((root) => root.getDirectoryHandle(NAME, { create: true }));
    return this.#root;
  }

  /** @param {string} base @param {boolean} create */
  async folder(base, create) {
    return (await this.root()).getDirectoryHandle(await digestName(base), { create });
  }

  /** @param {string} base @param {string} name @returns {Promise<File | undefined>} */
  async file(base, name) {
    try {
      return await (await (await this.folder(base, false)).getFileHandle(encodeURIComponent(name))).getFile();
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  /** @param {string} base @param {string} file */
  async open(base, file) {
    const found = await this.file(base, file);
    return found && { size: found.size, read: () => blobChunks(found) };
  }

  /** @param {string} base @param {string} file */
  async part(base, file) {
    const found = await this.file(base, `${file}.part`);
    if (!found?.size) return undefined;
    const validator = await (await this.file(base, `${file}.from`))?.text();
    return { size: found.size, validator: validator || undefined, read: () => blobChunks(found) };
  }

  /** @param {string} base @param {string} file @param {number} from @param {string | undefined} validator @returns {Promise<Writer>} */
  async write(base, file, from, validator) {
    const folder = await this.folder(base, true);
    const name = encodeURIComponent(file);
    // First what the bytes belong to, then the bytes: a crash between leaves a part that starts over.
    const note = await access(folder, `${name}.from`);
    try {
      note.truncate(0);
      note.write(new TextEncoder().encode(validator ?? ''), { at: 0 });
    } finally {
      note.close();
    }
    const handle = await access(folder, `${name}.part`);
    let at = from;
    try {
      handle.truncate(from);
    } catch (error) {
      handle.close();
      throw error;
    }
    const close = async (/** @type {boolean} */ keep) => {
      handle.close();
      if (keep) return;
      await folder.removeEntry(`${name}.part`).catch(() => {});
      await folder.removeEntry(`${name}.from`).catch(() => {});
    };
    return {
      write: (chunk) => {
        const written = handle.write(chunk, { at });
        // A short write is how some browsers say that the disk is full.
        if (written !== chunk.length) throw new DOMException('The disk is full.', 'QuotaExceededError');
        at += written;
      },
      close,
      commit: async () => {
        handle.flush();
        handle.close();
        const part = await folder.getFileHandle(`${name}.part`);
        // Not everywhere yet; without it the file is copied once.
        if ('move' in part) await /** @type {any} */ (part).move(name);
        else await copy(folder, part, name);
        await folder.removeEntry(`${name}.from`).catch(() => {});
      },
    };
  }

  /** @param {string} base @param {string} file */
  async delete(base, file) {
    const folder = await this.folder(base, true);
    const name = encodeURIComponent(file);
    for (const entry of [name, `${name}.part`, `${name}.from`]) await folder.removeEntry(entry).catch(() => {});
  }

  /** @param {string | undefined} base All folders when `undefined`. @param {(bytes: number) => void} count */
  async clear(base, count) {
    const root = await this.root();
    const wanted = base && await digestName(base);
    for await (const [name, folder] of entries(root)) {
      if (wanted && name !== wanted) continue;
      for await (const [, file] of entries(/** @type {FileSystemDirectoryHandle} */ (folder))) {
        count((await /** @type {FileSystemFileHandle} */ (file).getFile()).size);
      }
      await root.removeEntry(name, { recursive: true });
    }
  }
}

/**
 * Handles of this kind exist in workers alone, and so they are in TypeScript's library for workers alone.
 * @typedef {{ write(bytes: Uint8Array, options: { at: number }): number, truncate(size: number): void,
 *   flush(): void, close(): void }} SyncAccessHandle
 */
/** Chromium never answers when the file's handle is collected while it is opened. @type {Set<FileSystemFileHandle>} */
const opening = new Set();

/** @param {FileSystemDirectoryHandle} folder @param {string} name @returns {Promise<SyncAccessHandle>} */
async function access(folder, name) {
  const file = await folder.getFileHandle(name, { create: true });
  opening.add(file);
  try {
    return await /** @type {any} */ (file).createSyncAccessHandle();
  } finally {
    opening.delete(file);
  }
}

/** @param {FileSystemDirectoryHandle} folder @returns {AsyncIterable<[string, FileSystemHandle]>} */
function entries(folder) {
  // Missing in some versions of TypeScript's library.
  return /** @type {any} */ (folder).entries();
}

/** @param {FileSystemDirectoryHandle} folder @param {FileSystemFileHandle} part @param {string} name */
async function copy(folder, part, name) {
  const to = await access(folder, name);
  try {
    to.truncate(0);
    let at = 0;
    for await (const chunk of blobChunks(await part.getFile())) {
      at += to.write(chunk, { at });
    }
  } finally {
    to.close();
  }
  await folder.removeEntry(part.name);
}

/** @param {string} base @param {string} key Whether it is the address of a file of that folder. */
export function isIn(base, key) {
  return key.startsWith(base) && !key.slice(base.length).includes('/');
}

/** @param {string} base @param {string} file */
export function address(base, file) {
  return new URL(encodeURIComponent(file), base).href;
}

/** The Cache API: no parts, an entry appears when its stream has ended. @implements {Store} */
export class CacheApiStore {
  cache() {
    return caches.open(NAME);
  }

  /** @param {string} base @param {string} file @returns {Promise<Entry | undefined>} */
  async open(base, file) {
    const response = await (await this.cache()).match(address(base, file), { ignoreVary: true });
    if (!response) return undefined;
    const blob = await response.blob();
    return { size: blob.size, read: () => blobChunks(blob) };
  }

  /** @param {string} base @param {string} file @param {number} from @returns {Promise<Writer>} */
  async write(base, file, from) {
    if (from) throw new Error('the Cache API cannot resume');
    const cache = await this.cache();
    return streamWriter((body) => cache.put(address(base, file), new Response(body)));
  }

  /** @param {string} base @param {string} file */
  async delete(base, file) {
    await (await this.cache()).delete(address(base, file));
  }

  /** @param {string | undefined} base @param {(bytes: number) => void} count */
  async clear(base, count) {
    const cache = await this.cache();
    for (const request of await cache.keys()) {
      if (base !== undefined && !isIn(base, request.url)) continue;
      count((await (await cache.match(request))?.blob())?.size ?? 0);
      await cache.delete(request);
    }
  }
}

/** @param {(body: ReadableStream<Uint8Array<ArrayBuffer>>) => Promise<void>} put @returns {Writer} */
export function streamWriter(put) {
  /** @type {TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>} */
  const { readable, writable } = new TransformStream();
  const writer = writable.getWriter();
  const stored = put(readable);
  // A store that refuses does not read on, and a write would wait for it for ever.
  const refused = stored.then(() => new Promise(() => {}));
  stored.catch(() => {});
  refused.catch(() => {});
  writer.closed.catch(() => {});
  return {
    // Copied: the stream keeps what it is given, while the caller's buffer may be the wasm memory's or move on.
    write: async (chunk) => { await Promise.race([writer.write(chunk.slice()), refused]); },
    commit: async () => { await Promise.race([writer.close(), refused]); await stored; },
    close: async () => {
      // Not awaited: an abort waits for a write that waits for a reader who may never come.
      writer.abort(new Error('given up')).catch(() => {});
      if (!readable.locked) readable.cancel().catch(() => {});
    },
  };
}

/** A store on the page: a user's CacheBackend, or the page's memory. @implements {Store} */
export class PageStore {
  #rpc;

  /** @param {Rpc} rpc */
  constructor(rpc) {
    this.#rpc = rpc;
  }

  /** @param {string} base @param {string} file @returns {Promise<Entry | undefined>} */
  async open(base, file) {
    const found = await this.#rpc.call('cacheMatch', address(base, file));
    return found === undefined ? undefined : { size: found.size, read: () => incoming(this.#rpc, found.stream) };
  }

  /** @param {string} base @param {string} file @param {number} from @returns {Promise<Writer>} */
  async write(base, file, from) {
    if (from) throw new Error('a CacheBackend cannot resume');
    const id = await this.#rpc.call('cachePut', address(base, file));
    return {
      write: (chunk) => this.#rpc.call('cacheWrite', { id, chunk }),
      commit: () => this.#rpc.call('cacheEnd', { id, keep: true }),
      close: () => this.#rpc.call('cacheEnd', { id, keep: false }),
    };
  }

  /** @param {string} base @param {string} file */
  async delete(base, file) {
    await this.#rpc.call('cacheDelete', address(base, file));
  }
}

/**
 * The stores to try, best first. OPFS is written through handles that exist in workers alone.
 * @param {'auto' | 'opfs' | 'cache-api' | 'page'} wanted
 * @param {Rpc} rpc
 * @returns {Promise<Store[]>}
 */
export async function openStores(wanted, rpc) {
  if (wanted === 'page') return [new PageStore(rpc)];
  /** @type {Store[]} */
  const stores = [];
  const inWorker = typeof FileSystemFileHandle !== 'undefined' && 'createSyncAccessHandle' in FileSystemFileHandle.prototype;
  if (wanted !== 'cache-api' && inWorker && globalThis.navigator?.storage && globalThis.crypto?.subtle) {
    const store = new OpfsStore();
    // Private windows and blocked storage refuse here.
    if (await store.root().then(() => true, () => false)) stores.push(store);
  }
  if (typeof caches !== 'undefined') {
    const store = new CacheApiStore();
    if (await store.cache().then(() => true, () => false)) stores.push(store);
  }
  return stores;
}

/** @param {unknown} error Whether another store of the same origin would fail, too. */
export function isQuota(error) {
  return error instanceof Error && error.name === 'QuotaExceededError';
}
