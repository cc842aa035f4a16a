// From an address or the user's ModelFiles to a core `Bundle` with every byte hashed.

import { abortError, isAbort, show, throwIfAborted, TributaryError } from './errors.js';
import { callCore, FileSink, stepDown } from './file_sink.js';
import { checkDigest, sriOf } from './integrity.js';
import { download, offline, online } from './network.js';
import { Progress } from './progress.js';
import { incoming } from './rpc.js';
import { address } from './stores.js';

/** @import {Fetch, Sink} from './network.js' */
/** @import {Store, Writer} from './stores.js' */
/** @import {Rpc} from './rpc.js' */
/** @import {Bundle, BundleFile} from './core.js' */
/** @import {ProgressInfo} from './index.js' */
/**
 * @typedef {{ base: string | undefined, name: string, localFilesOnly: boolean, stallMs: number,
 *   integrity: Record<string, string>, budget: number | undefined }} Wanted  `base` is undefined for ModelFiles.
 * @typedef {{ core: typeof import('./core.js'), fetch: Fetch, stores: Store[], rpc: Rpc, wanted: Wanted,
 *   progress(event: ProgressInfo): void, signal: AbortSignal }} Context
 */

const MANIFEST = 'bundle.json';
const MAX_MANIFEST_BYTES = 1 << 20;
/** Small files hide each other's round trips; more at once would only share the same line. */
const AT_ONCE = 3;

/** @param {Context} context @returns {Promise<Bundle>} */
export async function readBundle(context) {
  const { core, wanted } = context;
  const progress = new Progress(wanted.name, context.progress);
  const manifest = await readManifest(context, progress);
  const bundle = callCore(() => new core.Bundle(manifest));
  try {
    const files = bundle.files();
    const strange = Object.keys(wanted.integrity).find((name) => name !== MANIFEST && !files.some((file) => file.name === name));
    if (strange !== undefined) {
      throw new TributaryError('INVALID_ARGUMENT', `fromPretrained: \`integrity\` pins ${show(strange)}, which is no file of the bundle`, { field: 'integrity', file: strange });
    }
    const total = files.reduce((sum, file) => sum + file.bytes, 0);
    if (wanted.budget !== undefined && total > wanted.budget) {
      throw new TributaryError('LIMIT_EXCEEDED', `the bundle has ${total} bytes, memoryBudgetBytes is ${wanted.budget}`,
        { field: 'memoryBudgetBytes' });
    }
    // Only now is there a total: of the manifest alone it would be 100 %.
    progress.expect(MANIFEST, manifest.length);
    for (const file of files) progress.expect(file.name, file.bytes);
    progress.add(MANIFEST, manifest.length);
    progress.emit('done', MANIFEST);
    await inParallel(files, context.signal, (file, signal) => readFile({ ...context, signal }, progress, bundle, file));
    return bundle;
  } catch (error) {
    if (!(error instanceof TributaryError && error.code === 'WASM_TRAP')) bundle.free();
    throw error;
  } finally {
    progress.close();
  }
}

/**
 * The first failure stops the others; all have let go of their files before it is passed on.
 * @template T @param {T[]} items @param {AbortSignal} outer @param {(item: T, signal: AbortSignal) => Promise<void>} run
 */
async function inParallel(items, outer, run) {
  const controller = new AbortController();
  const stop = () => controller.abort();
  outer.addEventListener('abort', stop, { once: true });
  const queue = items.slice();
  /** @type {unknown} */
  let failure;
  const lane = async () => {
    for (let item = queue.shift(); item !== undefined && !controller.signal.aborted; item = queue.shift()) {
      try {
        await run(item, controller.signal);
      } catch (error) {
        failure ??= error;
        stop();
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
  outer.removeEventListener('abort', stop);
  throwIfAborted(outer);
  if (failure) throw failure;
}

/** Fresh from the network where there is one, else from the cache. @param {Context} context @param {Progress} progress */
async function readManifest(context, progress) {
  const { wanted, signal, stores, rpc } = context;
  progress.emit('initiate', MANIFEST);
  /** @type {Uint8Array[]} */
  const parts = [];
  const sink = bytesSink(parts);
  if (wanted.base === undefined) {
    for await (const chunk of incoming(rpc, (await rpc.call('read', MANIFEST, { signal })).stream, signal)) await sink.write(chunk);
  } else {
    const cached = await cachedManifest(context);
    const sri = wanted.integrity[MANIFEST];
    // A pinned manifest cannot have changed: no need to ask.
    const good = cached && (sri ? await checkDigest(MANIFEST, cached, sri).then(() => true, () => false) : !online() || wanted.localFilesOnly);
    if (good) parts.push(cached);
    else if (wanted.localFilesOnly || !online()) throw offline(MANIFEST);
    else {
      progress.emit('download', MANIFEST);
      try {
        await download({ ...context, url: address(wanted.base, MANIFEST), file: MANIFEST, expected: undefined, stallMs: wanted.stallMs, keeps: true }, sink);
      } catch (error) {
        // A server that is down does not take away what was downloaded before.
        const down = error instanceof TributaryError && (error.code === 'OFFLINE' || (error.code === 'NETWORK' && error.retriable));
        if (!down || !cached || sri) throw error;
        parts.splice(0, parts.length, cached);
      }
    }
  }
  const bytes = new Uint8Array(await new Blob(/** @type {BlobPart[]} */ (parts)).arrayBuffer());
  if (wanted.integrity[MANIFEST]) await checkDigest(MANIFEST, bytes, wanted.integrity[MANIFEST]);
  if (wanted.base !== undefined && stores[0]) {
    await withLock(`tributary ${address(wanted.base, MANIFEST)}`, signal, () => keep(context, MANIFEST, bytes));
  }
  return bytes;
}

/** @param {Uint8Array[]} parts @returns {Sink} */
function bytesSink(parts) {
  return {
    bytes: 0,
    validator: undefined,
    begin() {},
    restart() { this.bytes = 0; parts.length = 0; },
    write(chunk) {
      this.bytes += chunk.length;
      if (this.bytes > MAX_MANIFEST_BYTES) throw new TributaryError('LIMIT_EXCEEDED', `${MANIFEST}: more than ${MAX_MANIFEST_BYTES} bytes`, { file: MANIFEST });
      parts.push(chunk);
    },
  };
}

/** @param {Context} context @returns {Promise<Uint8Array | undefined>} */
async function cachedManifest({ stores, wanted: { base } }) {
  const parts = [];
  try {
    const entry = await stores[0]?.open(/** @type {string} */ (base), MANIFEST);
    if (!entry || entry.size > MAX_MANIFEST_BYTES) return undefined;
    for await (const chunk of entry.read()) parts.push(chunk);
    const bytes = new Uint8Array(await new Blob(/** @type {BlobPart[]} */ (parts)).arrayBuffer());
    JSON.parse(new TextDecoder().decode(bytes));
    return bytes;
  } catch {
    // Unreadable or half-written: as good as none.
    return undefined;
  }
}

/** @param {Context} context @param {string} file @param {Uint8Array} bytes */
async function keep({ stores, wanted: { base } }, file, bytes) {
  const store = stores[0];
  /** @type {Writer | undefined} */
  let writer;
  try {
    writer = await store.write(/** @type {string} */ (base), file, 0, undefined);
    await writer.write(bytes);
    await writer.commit();
  } catch (error) {
    await writer?.close(false).catch(() => {});
    stepDown(stores, store, error);
  }
}

/** @param {Context} context @param {Progress} progress @param {Bundle} bundle @param {BundleFile} file */
async function readFile(context, progress, bundle, file) {
  const { wanted, rpc, signal } = context;
  progress.emit('initiate', file.name);
  const sri = sriOf(file, wanted.integrity[file.name]);
  if (wanted.base === undefined) {
    const sink = new FileSink(context, progress, bundle, file);
    for await (const chunk of incoming(rpc, (await rpc.call('read', file.name, { signal })).stream, signal)) await sink.write(chunk);
    await sink.finish(sri);
    progress.emit('done', file.name);
    return;
  }
  await withLock(`tributary ${address(wanted.base, file.name)}`, signal, async () => {
    if (await fromCache(context, progress, bundle, file, sri)) return;
    if (wanted.localFilesOnly || !online()) throw offline(file.name);
    progress.emit('download', file.name);
    await fromNetwork(context, progress, bundle, file, sri);
  });
  progress.emit('done', file.name);
}

/** Two tabs download once: the second waits, then finds the file. @param {string} name @param {AbortSignal} signal @param {() => Promise<void>} body */
async function withLock(name, signal, body) {
  if (!globalThis.navigator?.locks) return body();
  try {
    await navigator.locks.request(name, { signal }, body);
  } catch (error) {
    if (signal.aborted && !(error instanceof TributaryError)) throw abortError();
    throw error;
  }
}

/** @param {Context} context @param {Progress} progress @param {Bundle} bundle @param {BundleFile} file @param {string | undefined} sri */
async function fromCache(context, progress, bundle, file, sri) {
  const { stores, wanted, signal } = context;
  const base = /** @type {string} */ (wanted.base);
  if (!stores[0]) return false;
  const sink = new FileSink({ ...context, stores: [] }, progress, bundle, file);
  try {
    const entry = await stores[0].open(base, file.name);
    if (!entry) return false;
    for await (const chunk of entry.read()) {
      throwIfAborted(signal);
      await sink.write(chunk);
    }
    await sink.finish(sri);
    return true;
  } catch (error) {
    // A trap, or a file that has no room in memory, says nothing about the cache.
    if (isAbort(error) || (error instanceof TributaryError && ['WASM_TRAP', 'OUT_OF_MEMORY'].includes(error.code))) throw error;
    // Corrupt, half-written or unreadable: it never happened.
    sink.restart();
    await stores[0].delete(base, file.name).catch(() => {});
    return false;
  }
}

/** @param {Context} context @param {Progress} progress @param {Bundle} bundle @param {BundleFile} file @param {string | undefined} sri */
async function fromNetwork(context, progress, bundle, file, sri) {
  const { stores, wanted, signal } = context;
  const base = /** @type {string} */ (wanted.base);
  const sink = new FileSink(context, progress, bundle, file);
  await sink.resume().catch(() => sink.restart());
  for (let resumed = sink.bytes > 0; ; resumed = false) {
    try {
      if (sink.bytes < file.bytes) {
        await download({ ...context, url: address(base, file.name), file: file.name, expected: file.bytes, stallMs: wanted.stallMs, keeps: stores.length > 0 }, sink);
      }
      await sink.finish(sri);
      await sink.commit();
      return;
    } catch (error) {
      const corrupt = error instanceof TributaryError && error.code === 'INTEGRITY';
      await sink.close(!corrupt);
      // Bytes of an earlier visit may be the culprit; this download's own are not tried twice.
      if (!corrupt || !resumed) throw error;
      sink.restart();
      throwIfAborted(signal);
    }
  }
}

