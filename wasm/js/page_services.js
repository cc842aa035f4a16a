// What a host asks of its page: the caller's fetch, ModelFiles and CacheBackend, and progress.

import { isAbort, messageOf, show, TributaryError } from './errors.js';
import { OutgoingStreams } from './rpc.js';
import { streamWriter } from './stores.js';

/** @import {Handler} from './rpc.js' */
/** @import {Writer} from './stores.js' */
/** @import {CacheBackend, ModelFiles, ProgressInfo} from './index.js' */
/**
 * @typedef {{ fetch: typeof fetch | undefined, files: ModelFiles | undefined, cache: CacheBackend | undefined,
 *   progress: (event: ProgressInfo) => void }} Services
 */

/** @param {Services} services @returns {Record<string, Handler>} */
export function pageServices({ fetch, files, cache, progress }) {
  const streams = new OutgoingStreams();
  /** @type {Map<number, Writer>} */
  const writers = new Map();
  let nextWriter = 1;
  const backend = () => /** @type {CacheBackend} */ (cache);
  return {
    ...streams.handlers,
    progress: (/** @type {ProgressInfo} */ event) => progress(event),

    fetch: async ({ url, headers, cache }, signal) => {
      const response = await /** @type {typeof globalThis.fetch} */ (fetch)(url, { headers, cache, signal });
      return { status: response.status, headers: Object.fromEntries(response.headers), stream: streams.add(response.body ?? empty(), unfit('fetch', url)) };
    },

    read: async (/** @type {string} */ file) => {
      let content;
      try {
        content = await /** @type {ModelFiles} */ (files).read(file);
      } catch (error) {
        throw readError(file, error);
      }
      const stream = content instanceof Uint8Array ? new Blob([/** @type {BlobPart} */ (content)]).stream() : content;
      if (typeof stream?.getReader !== 'function') throw unfit('read', file)(show(content));
      return { stream: streams.add(stream, unfit('read', file)) };
    },

    cacheMatch: async (/** @type {string} */ key) => {
      const response = await backend().match(key);
      if (!response) return undefined;
      const blob = await response.blob();
      return { size: blob.size, stream: streams.add(blob.stream(), unfit('cache', key)) };
    },
    cachePut: (/** @type {string} */ key) => {
      writers.set(nextWriter, streamWriter((body) => backend().put(key, new Response(body))));
      return nextWriter++;
    },
    cacheWrite: ({ id, chunk }) => writers.get(id)?.write(chunk),
    cacheEnd: async ({ id, keep }) => {
      const writer = writers.get(id);
      writers.delete(id);
      await (keep ? writer?.commit() : writer?.close(false));
    },
    cacheDelete: (/** @type {string} */ key) => backend().delete(key),
  };
}

/** @param {string} option @param {string} file @returns {(gave: string) => TributaryError} */
function unfit(option, file) {
  return (gave) => new TributaryError('INVALID_ARGUMENT', `fromPretrained: \`${option}\` gave ${gave} for ${file}, expected bytes: a Uint8Array or a ReadableStream of such`, { field: option, file });
}

/** @returns {ReadableStream<Uint8Array>} */
function empty() {
  return new Blob([]).stream();
}

/** @param {string} file @param {any} error */
function readError(file, error) {
  if (error instanceof TributaryError || isAbort(error)) return error;
  const missing = error?.name === 'NotFoundError' || error?.code === 'ENOENT';
  return new TributaryError(missing ? 'MODEL_NOT_FOUND' : 'INTERNAL', `${file}: ModelFiles.read: ${messageOf(error)}`, { file, cause: error });
}

/** Shared by all recommenders of a page; outlives their workers. @type {Map<string, Blob>} */
const kept = new Map();

/** `cache: 'memory'`. @type {CacheBackend} */
export const memoryCache = {
  match: async (key) => {
    const blob = kept.get(key);
    return blob && new Response(blob);
  },
  put: async (key, response) => { kept.set(key, await response.blob()); },
  delete: async (key) => kept.delete(key),
  keys: async () => [...kept.keys()],
};
