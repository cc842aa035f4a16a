// What runs beside the WebAssembly instance: one bundle and its engine, called over a port. It has no
// queue and no policy; both are on the page, which may have to replace it.

import { throwIfAborted, TributaryError } from './errors.js';
import { readBundle } from './bundle_files.js';
import { decode } from './image.js';
import { plainFetch } from './network.js';
import { incoming, Moved, Rpc } from './rpc.js';
import { checkGpu, guarded, isDead, memoryBytes, start } from './runtime.js';
import { openStores } from './stores.js';

/** @import {Port} from './rpc.js' */
/** @import {Fetch} from './network.js' */
/** @import {Wanted} from './bundle_files.js' */
/** @import {WasmSource} from './runtime.js' */
/** @import {Bundle, Engine, EngineInfo, EngineItem, EngineRequest} from './core.js' */
/** @import {PictureSource} from './image.js' */
/**
 * @typedef {{ wanted: Wanted, wasm: WasmSource, device: 'auto' | 'webgpu' | 'wasm', allowSoftware: boolean,
 *   cache: 'auto' | 'opfs' | 'cache-api' | 'page', pageFetch: boolean, mayReopen: boolean }} LoadMessage
 * @typedef {{ info: EngineInfo, device: 'webgpu' | 'wasm', fallbackReason?: string, memoryBytes: number }} Loaded
 */

/** After a device is lost while it is opened; more would only hide a broken driver. */
const MAX_REOPENS = 2;
const MEASURED_RUNS = 2;
const MEASURED_CANDIDATES = 32;

/** @param {Port} port @param {{ onDispose?: () => void }} [hooks] */
export function serve(port, { onDispose } = {}) {
  /** @type {Bundle | undefined} */ let bundle;
  /** @type {Engine | undefined} */ let engine;
  /** @type {LoadMessage | undefined} */ let message;
  /** @type {string | undefined} */ let fallbackReason;

  const ready = () => {
    if (!engine) throw new TributaryError('DEVICE_LOST', 'the device was lost, or out of memory, and is not open');
    return engine;
  };

  /** @type {Promise<unknown>} */ let last = Promise.resolve();
  /**
   * An engine handles one call at a time, and the page may have given up on the one that runs.
   * @template T @param {() => T | Promise<T>} body @returns {Promise<T>}
   */
  const exclusive = (body) => {
    const turn = last.then(() => guarded(body)).catch(giveUpIfFull);
    last = turn.catch(() => {});
    return turn;
  };

  /** What could not be allocated stays broken, so a GPU that was full once is opened again. @param {unknown} error @returns {never} */
  const giveUpIfFull = (error) => {
    if (!isDead() && error instanceof TributaryError && error.code === 'OUT_OF_MEMORY') {
      engine?.free();
      engine = undefined;
    }
    throw error;
  };

  const release = () => {
    // After a trap their destructors would run in broken memory.
    if (!isDead()) {
      engine?.free();
      bundle?.free();
    }
    engine = bundle = undefined;
  };

  /** @returns {Loaded} */
  const loaded = () => {
    const info = ready().info();
    return { info, device: info.device === 'gpu' ? 'webgpu' : 'wasm', memoryBytes: memoryBytes(), ...(fallbackReason && { fallbackReason }) };
  };

  /** @param {'cpu' | 'gpu'} device @param {AbortSignal} signal @param {number} [retries] */
  const open = async (device, signal, retries = 0) => {
    const { allowSoftware } = /** @type {LoadMessage} */ (message);
    for (let losses = 0; ; losses++) {
      try {
        const opened = await guarded(() => /** @type {Bundle} */ (bundle).open(device, allowSoftware));
        if (!signal.aborted) return opened;
        opened.free();
        throwIfAborted(signal);
      } catch (error) {
        const lost = error instanceof TributaryError && error.code === 'DEVICE_LOST';
        if (!lost || losses >= retries) throw error;
      }
    }
  };

  /** The engine that is not slower, if the GPU can be had at all. @param {string | undefined} noGpu @param {AbortSignal} signal */
  const fastest = async (noGpu, signal) => {
    fallbackReason = noGpu;
    if (noGpu !== undefined) return open('cpu', signal);
    // A GPU without room is one that cannot be had; an instance without room is dead.
    const fatal = () => signal.aborted || isDead();
    /** @type {Engine | undefined} */ let gpu;
    let onGpu = Infinity;
    try {
      gpu = await open('gpu', signal);
      onGpu = await measure(gpu);
    } catch (error) {
      if (fatal()) throw error;
      gpu?.free();
      fallbackReason = /** @type {Error} */ (error).message;
      return open('cpu', signal);
    }
    /** @type {Engine | undefined} */ let cpu;
    try {
      cpu = await open('cpu', signal);
      const onCpu = await measure(cpu);
      if (onGpu > onCpu) {
        gpu.free();
        fallbackReason = `WebGPU took ${onGpu.toFixed(1)} ms where WebAssembly took ${onCpu.toFixed(1)} ms`;
        return cpu;
      }
    } catch (error) {
      // Memory for a second engine may be missing; the first one works.
      if (fatal()) throw error;
    }
    cpu?.free();
    return gpu;
  };

  const rpc = new Rpc(port, {
    ping: () => null,

    load: (/** @type {LoadMessage} */ argument, signal) => exclusive(async () => {
      message = argument;
      const { wanted, device } = argument;
      const core = await start(argument.wasm);
      throwIfAborted(signal);
      /** @type {string | undefined} */ let noGpu;
      if (device !== 'wasm') {
        try {
          await checkGpu(argument.allowSoftware);
        } catch (error) {
          if (device === 'webgpu' || isDead()) throw error;
          noGpu = /** @type {Error} */ (error).message;
        }
      }
      throwIfAborted(signal);
      const progress = (/** @type {import('./index.js').ProgressInfo} */ event) => void rpc.call('progress', event).catch(() => {});
      const stores = wanted.base === undefined ? [] : await openStores(argument.cache, rpc);
      const fetch = argument.pageFetch ? pageFetch(rpc) : plainFetch;
      try {
        bundle = await guarded(() => readBundle({ core, fetch, stores, rpc, wanted, progress, signal }));
        progress({ status: 'compile', name: wanted.name, progress: 0 });
        engine = device === 'auto' ? await fastest(noGpu, signal) : await open(device === 'webgpu' ? 'gpu' : 'cpu', signal, argument.mayReopen ? MAX_REOPENS : 0);
        throwIfAborted(signal);
        progress({ status: 'compile', name: wanted.name, progress: 100 });
        return loaded();
      } catch (error) {
        release();
        throw error;
      }
    }),

    // After a lost device: the bundle is still in memory.
    reopen: (_, signal) => exclusive(async () => {
      const device = engine?.info().device ?? 'gpu';
      engine?.free();
      engine = undefined;
      try {
        engine = await open(device, signal);
      } catch (error) {
        if (message?.device !== 'auto') throw error;
        fallbackReason = /** @type {Error} */ (error).message;
        engine = await open('cpu', signal);
      }
      return loaded();
    }),

    items: () => exclusive(() => ready().items()),

    recommend: async (/** @type {EngineRequest} */ request) => {
      const answer = await exclusive(() => ready().recommend(request));
      return { answer, memoryBytes: memoryBytes() };
    },

    explain: (/** @type {{ request: EngineRequest, ids: string[] }} */ { request, ids }) => exclusive(() => ready().explain(request, ids)),

    addItem: async (/** @type {{ item: EngineItem, picture?: PictureSource }} */ { item, picture }, signal) => {
      const decoded = picture === undefined ? undefined : await decode(picture, signal);
      await exclusive(() => ready().add_item(item, decoded));
      return { pixels: decoded ? decoded.rgba.length : 0 };
    },

    embedTexts: async (/** @type {string[]} */ texts) => {
      const data = await exclusive(() => ready().embed_texts(texts));
      return new Moved(data, [data.buffer]);
    },

    embedPicture: async (/** @type {PictureSource} */ picture, signal) => {
      const decoded = await decode(picture, signal);
      const data = await exclusive(() => ready().embed_picture(decoded));
      return new Moved(data, [data.buffer]);
    },

    dispose: async () => {
      // A borrowed object cannot be freed: after the call that runs.
      await exclusive(release).catch(() => {});
      onDispose?.();
    },
  });
  return rpc;
}

/**
 * Milliseconds of a small request, the first one (which compiles pipelines) left out.
 * @param {Engine} engine
 */
async function measure(engine) {
  const ids = (await guarded(() => engine.items())).map(({ id }) => String(id));
  const candidates = ids.slice(-MEASURED_CANDIDATES);
  let best = Infinity;
  for (let run = 0; run <= MEASURED_RUNS; run++) {
    // Another history each time: a prompt that is cached would measure the cache.
    const history = ids.slice(run * 3, run * 3 + 3).map((item) => ({ item }));
    const began = performance.now();
    await guarded(() => engine.recommend({ history, candidates, k: 3, exclude_seen: true, exclude: [] }));
    if (run > 0) best = Math.min(best, performance.now() - began);
  }
  return best;
}

/** The page's own fetch, over the port. @param {Rpc} rpc @returns {Fetch} */
function pageFetch(rpc) {
  return async (url, { headers, cache, signal }) => {
    const reply = await rpc.call('fetch', { url, headers, cache }, { signal });
    return {
      status: reply.status,
      headers: { get: (name) => reply.headers[name] ?? null },
      body: incoming(rpc, reply.stream, signal),
      cancel: () => void rpc.call('cancel', reply.stream).catch(() => {}),
    };
  };
}
