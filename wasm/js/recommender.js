// The public class: checks what it is given, waits for its turn, asks the session, and answers in the
// caller's own terms.

import { Catalogue } from './catalogue.js';
import { invalid, throwIfAborted, TributaryError } from './errors.js';
import { DeviceLostEvent, MemoryPressureEvent } from './events.js';
import { noAdapters, readOptions, wasmSource } from './load_options.js';
import { pageServices } from './page_services.js';
import { pictureSource } from './picture_input.js';
import { limited, Queue } from './queue.js';
import { reason } from './reason.js';
import { checkCatalogItem, checkRequest, checkRerank, engineItem, idText, inPublicWords, isObject, list, nothingToTell, readable, runOptions, textOf } from './requests.js';
import { Session } from './session.js';
import { embedAll, rank } from './embedding.js';

/** @import {EngineAnswer, EngineInfo, Explanation} from './core.js' */
/** @import {Loaded} from './host.js' */
/** @import {CatalogInfo, DType, Item, LoadOptions, ModelFiles, ModelInfo, ProgressInfo, RecommendRequest, RecommendResponse, RerankRequest, RunOptions, ScoredItem} from './index.js' */
/** @typedef {ReturnType<typeof checkRequest>} Checked */
/** @typedef {{ response: RecommendResponse, explain: (ids: string[], signal: AbortSignal) => Promise<ScoredItem[]>, explained: (items: ScoredItem[]) => RecommendResponse }} Answered  `explained` is the response with these items and the time that `explain` took. */

const EXPLAINED = 3;
/** Of `memoryBudgetBytes`. */
const PRESSURE = 0.9;
/** What is wrong with one item of a catalogue, and with nothing else. */
const ITEM_FAULTS = new Set(['INVALID_ARGUMENT', 'IMAGE', 'INPUT_TOO_LONG', 'LIMIT_EXCEEDED']);
/** `new Recommender` is not for users: an instance without a model cannot be told from one with. */
const KEY = Symbol('Recommender');

/**
 * Ids of the returned items whose reasons were asked for.
 * @param {Checked} checked @param {RecommendResponse} response @returns {string[]}
 */
function toExplain({ explain }, { items }) {
  const ids = items.map(({ id }) => String(id));
  return Array.isArray(explain) ? ids.filter((id) => explain.includes(id)) : ids.slice(0, explain ? EXPLAINED : 0);
}

export class Recommender extends EventTarget {
  #session;
  #loaded;
  #options;
  #queue = new Queue();
  #disposed = new AbortController();
  /** @type {Promise<Catalogue> | undefined} */
  #catalogue;
  /** Once the catalogue is there: a recovery may be what its promise waits for. @type {Catalogue | undefined} */
  #ready;
  #requests = 0;

  /**
   * @param {symbol} key @param {Session} session @param {Loaded} loaded
   * @param {ReturnType<typeof readOptions>} options
   */
  constructor(key, session, loaded, options) {
    if (key !== KEY) throw new TypeError('Illegal constructor: use Recommender.fromPretrained');
    super();
    this.#session = session;
    this.#loaded = loaded;
    this.#options = options;
    /** @type {ModelInfo} */
    this.info = Object.freeze(modelInfo(loaded.info, options));
    session.attach({
      onLost: (why, willRecover) => this.dispatchEvent(new DeviceLostEvent(why, willRecover)),
      onRecovered: (again) => {
        this.#loaded = again;
        this.dispatchEvent(new Event('recovered'));
      },
      restore: async (call) => {
        for (const cold of this.#ready?.cold ?? []) await call('addItem', cold);
      },
    });
  }

  /** @param {string | URL | ModelFiles} model @param {LoadOptions} [options] @returns {Promise<Recommender>} */
  static async fromPretrained(model, options = {}) {
    const checked = readOptions(model, options);
    runOptions('fromPretrained', { signal: options.signal });
    const { files, base, name, budget, cache, recover } = checked;
    const progress = (/** @type {ProgressInfo} */ event) => void report(options.progressCallback, event);
    return limited({ signal: options.signal }, new AbortController().signal, async (signal) => {
      const session = new Session({
        worker: options.worker,
        handlers: pageServices({ fetch: options.fetch, files, cache, progress }),
        recover,
        message: {
          wanted: { base, name, localFilesOnly: checked.localFilesOnly, stallMs: checked.stallMs, integrity: checked.integrity, budget },
          wasm: await wasmSource(options.wasm),
          device: checked.device,
          allowSoftware: options.allowSoftwareAdapter === true,
          cache: checked.store,
          pageFetch: options.fetch !== undefined,
          mayReopen: recover,
        },
      });
      try {
        const loaded = await session.load(signal);
        throwIfAborted(signal);
        const { dtype } = checked;
        const stored = dtypeOf(loaded.info);
        if (dtype !== 'auto' && dtype !== stored) throw invalid('fromPretrained', 'dtype', dtype, `auto or ${stored}, which is how this bundle is stored`);
        progress({ status: 'ready', task: 'recommend', model: name });
        return new Recommender(KEY, session, loaded, checked);
      } catch (error) {
        await session.dispose();
        throw error;
      }
    });
  }

  /** @param {RunOptions} options @param {(signal: AbortSignal) => Promise<any>} body */
  #limited(options, body) {
    return limited(options, this.#disposed.signal, body);
  }

  /** @returns {Promise<Catalogue>} */
  #items() {
    // Fetched when it is first needed: a bundle may have a million items.
    this.#catalogue ??= this.#session.run('items').then((items) => (this.#ready = new Catalogue(items)));
    this.#catalogue.catch(() => { this.#catalogue = undefined; });
    return this.#catalogue;
  }

  /** @returns {Promise<Item[]>} */
  async catalog() {
    return this.#limited({}, (signal) => this.#queue.run('user', signal, async () => (await this.#items()).bundled()));
  }

  /**
   * @param {Iterable<Item> | AsyncIterable<Item>} items
   * @param {RunOptions & { mode?: 'add' | 'replace', progressCallback?: (e: ProgressInfo) => void }} [options]
   * @returns {Promise<CatalogInfo>}
   */
  async setCatalog(items, options = {}) {
    const operation = 'setCatalog';
    const { mode = 'replace', priority = 'background', progressCallback } = runOptions(operation, options, ['mode', 'progressCallback']);
    if (progressCallback !== undefined && typeof progressCallback !== 'function') throw invalid(operation, 'progressCallback', progressCallback, 'a function');
    if (mode !== 'add' && mode !== 'replace') throw invalid(operation, 'mode', mode, 'add or replace');
    if (!items || !(Symbol.iterator in Object(items) || Symbol.asyncIterator in Object(items))) throw invalid(operation, 'items', items, 'an iterable of items');
    return this.#limited(options, async (signal) => {
      const catalogue = await this.#queue.run(priority, signal, () => this.#items());
      const given = [];
      for await (const item of /** @type {AsyncIterable<Item>} */ (items)) {
        throwIfAborted(signal);
        // A mistake of the whole call, such as a list of ids, and not of one item.
        if (!isObject(item)) throw invalid(operation, `items[${given.length}]`, item, 'an item: an object with an id');
        given.push(item);
      }
      /** @type {Set<string>} */ const listed = new Set();
      /** @type {CatalogInfo} */ const result = { items: 0, withImage: 0, skipped: [], bytes: 0 };
      for (const [index, item] of given.entries()) {
        throwIfAborted(signal);
        try {
          const id = idText(operation, `items[${index}].id`, checkCatalogItem(operation, `items[${index}]`, item).id);
          if (listed.has(id)) throw invalid(operation, `items[${index}].id`, item.id, 'each id once');
          if (!catalogue.has(id) && nothingToTell(item)) throw new TributaryError('INVALID_ARGUMENT', `${operation}: \`items[${index}]\` has nothing to tell it by: give it a title, a text or a picture`, { field: `items[${index}]` });
          // One turn per item, so that a call of the user waits for one and not for all.
          const { pixels, image } = await this.#queue.run(priority, signal, () => this.#know(catalogue, id, item, signal));
          listed.add(id);
          result.bytes += pixels + textOf(item).length;
          if (image) result.withImage++;
        } catch (error) {
          if (!(error instanceof TributaryError && ITEM_FAULTS.has(error.code))) throw error;
          result.skipped.push({ id: item.id, reason: error.message });
        }
        void report(progressCallback, { status: 'compile', name: this.#options.name, progress: (100 * (index + 1)) / given.length });
      }
      catalogue.list(listed, mode);
      result.items = [...catalogue.listed()].length;
      return result;
    });
  }

  /** Makes the engine know an item. @param {Catalogue} catalogue @param {string} id @param {Item} item @param {AbortSignal} signal */
  async #know(catalogue, id, item, signal) {
    if (catalogue.has(id)) {
      const image = catalogue.get(id)?.image !== undefined;
      catalogue.describe(id, item);
      return { pixels: 0, image };
    }
    const picture = item.image !== undefined && this.info.encodes.includes('image') ? await pictureSource(item.image) : undefined;
    const { pixels } = await this.#session.run('addItem', { item: engineItem(item), picture }, signal, signal);
    catalogue.added(id, item, picture);
    return { pixels, image: picture !== undefined };
  }

  /** @param {RecommendRequest} request @param {RunOptions} [options] @returns {Promise<RecommendResponse>} */
  async recommend(request, options = {}) {
    const checked = checkRequest(request);
    runOptions('recommend', options);
    return this.#limited(options, async (signal) => {
      const asked = performance.now();
      return this.#queue.run(options.priority ?? 'user', signal, async () => {
        const { response, explain, explained } = await this.#answer(checked, performance.now() - asked, signal);
        const reasoned = new Map((await explain(toExplain(checked, response), signal)).map((item) => [item.id, item]));
        return explained(response.items.map((item) => reasoned.get(item.id) ?? item));
      });
    });
  }

  /**
   * @param {RecommendRequest} request @param {RunOptions} [options]
   * @returns {AsyncGenerator<{ item: ScoredItem } | { reasonDelta: string, id: string | number } | { done: RecommendResponse }>}
   */
  async *recommendStream(request, options = {}) {
    const checked = checkRequest(request);
    const asked = performance.now();
    const { priority = 'user' } = runOptions('recommendStream', options);
    /** @type {Answered} */
    const { response, explain, explained } = await this.#limited(options, (signal) =>
      this.#queue.run(priority, signal, () => this.#answer(checked, performance.now() - asked, signal)));
    for (const item of response.items) yield { item };
    const items = response.items.slice();
    for (const id of toExplain(checked, response)) {
      const [reasoned] = await this.#limited(options, (signal) =>
        this.#queue.run(priority, signal, () => explain([id], signal)));
      items[items.findIndex((item) => item.id === reasoned.id)] = reasoned;
      yield { reasonDelta: reasoned.reason, id: reasoned.id };
    }
    yield { done: explained(items) };
  }

  /** @param {Checked} checked @param {number} queueMs @param {AbortSignal} signal @returns {Promise<Answered>} */
  async #answer(checked, queueMs, signal) {
    const catalogue = await this.#items();
    for (const { id, item } of [...checked.history, ...(checked.candidates ?? [])]) {
      if (typeof item === 'object' && !catalogue.has(id)) await this.#know(catalogue, id, item, signal);
    }
    const engine = { ...checked.engine, ...candidatesOf(checked, catalogue) };
    throwIfAborted(signal);
    /** @type {{ answer?: EngineAnswer, memoryBytes?: number }} */
    const { answer, memoryBytes = 0 } = engine.candidates?.length === 0 ? {} : await this.#run('recommend', engine, signal);
    this.#checkMemory(memoryBytes);
    const ranked = (answer?.items ?? []).map(({ id, score, rank }) => ({ id: catalogue.form(id), score, rank }));
    const events = new Map(checked.history.map(({ id, event }) => [id, event]));
    let explainMs = 0;
    const explain = async (/** @type {string[]} */ ids, /** @type {AbortSignal} */ signal) => {
      throwIfAborted(signal);
      if (ids.length === 0) return [];
      const began = performance.now();
      /** @type {Explanation[]} */
      const found = await this.#run('explain', { request: engine, ids }, signal);
      explainMs += performance.now() - began;
      return found.map(({ id, by_item, by_modality }) => {
        const because = { items: by_item.map(({ id, change }) => ({ id: catalogue.form(id), change })), modalities: by_modality };
        const item = /** @type {ScoredItem} */ (ranked.find((item) => String(item.id) === String(id)));
        return { ...item, reason: reason(because, events, (id) => catalogue.title(id)), because };
      });
    };
    const response = this.#response(ranked, answer, queueMs);
    const { timings } = response;
    const explained = (/** @type {ScoredItem[]} */ items) => ({ ...response, items, timings: { ...timings, explainMs, totalMs: timings.totalMs + explainMs } });
    return { response, explain, explained };
  }

  /** @param {ScoredItem[]} items @param {EngineAnswer | undefined} answer @param {number} queueMs @returns {RecommendResponse} */
  #response(items, answer, queueMs) {
    const { device, fallbackReason, info } = this.#loaded;
    return {
      items,
      model: this.info.id,
      requestId: globalThis.crypto?.randomUUID?.() ?? `request ${++this.#requests}`,
      backend: { device, adapter: info.adapter, dtype: this.info.dtype, ...(fallbackReason && { fallbackReason }) },
      usage: { promptTokens: answer?.usage.prompt_tokens ?? 0, imageTokens: answer?.usage.image_tokens ?? 0, cachedTokens: answer?.usage.cached_tokens ?? 0, historyItems: answer?.usage.history_items ?? 0, unknownItems: answer?.usage.unknown_items ?? 0 },
      timings: { queueMs, encodeMs: answer?.timings.encode_ms ?? 0, prefillMs: answer?.timings.prefill_ms ?? 0, scoreMs: answer?.timings.score_ms ?? 0, explainMs: 0, totalMs: answer?.timings.total_ms ?? 0 },
    };
  }

  /** @param {string} method @param {any} argument @param {AbortSignal} caller @param {AbortSignal} [signal] */
  async #run(method, argument, caller, signal) {
    try {
      return await this.#session.run(method, argument, signal, caller);
    } catch (error) {
      if (error instanceof TributaryError && error.code === 'OUT_OF_MEMORY') this.dispatchEvent(new MemoryPressureEvent(this.#loaded.memoryBytes, this.#options.budget));
      throw inPublicWords(error);
    }
  }

  /** @param {number} bytes */
  #checkMemory(bytes) {
    const grown = bytes > this.#loaded.memoryBytes;
    this.#loaded = { ...this.#loaded, memoryBytes: Math.max(bytes, this.#loaded.memoryBytes) };
    const { budget } = this.#options;
    // Once per growth: memory of WebAssembly never shrinks.
    if (grown && budget !== undefined && bytes > PRESSURE * budget) this.dispatchEvent(new MemoryPressureEvent(bytes, budget));
  }

  /** @param {RerankRequest} request @param {RunOptions} [options] */
  async rerank(request, options = {}) {
    const operation = 'rerank';
    const { query, history, documents, topN } = checkRerank(request);
    const { priority = 'user' } = runOptions(operation, options);
    if (!this.info.encodes.includes('text')) throw invalid(operation, 'documents', documents, 'a bundle that encodes text; this one has no encoder');
    return this.#limited(options, (signal) => this.#queue.run(priority, signal, async () => {
      const catalogue = await this.#items();
      const text = (/** @type {string | Item} */ of, /** @type {string} */ argument) => readable(operation, argument, typeof of === 'string' ? of : textOf(catalogue.described(idText(operation, argument, of.id), of)));
      const seen = history.map(({ id, item }, i) => text(typeof item === 'object' ? item : catalogue.get(id) ?? { id }, `history[${i}]`)).filter((text) => text !== '');
      if (query === undefined && seen.length === 0) throw invalid(operation, 'history', history, 'at least one item of the catalogue, or with a text');
      const questions = query === undefined ? seen : [query];
      const rows = documents.length ? await this.#run('embedTexts', [...questions, ...documents.map((document, i) => text(document, `documents[${i}]`))], signal) : new Float32Array();
      return { results: rank(rows, questions.length, documents.length).slice(0, topN) };
    }));
  }

  /** @param {ReadonlyArray<any>} inputs @param {RunOptions & { normalize?: true }} [options] @returns {Promise<{ data: Float32Array, dims: [number, number] }>} */
  async embed(inputs, options = {}) {
    const { priority = 'user', normalize } = runOptions('embed', options, ['normalize']);
    if (normalize !== undefined && normalize !== true) throw invalid('embed', 'normalize', normalize, 'true: the space has directions only');
    list('embed', 'inputs', inputs, 'texts, pictures or items');
    if (this.info.encodes.length === 0) throw invalid('embed', 'inputs', inputs, 'a bundle with an encoder; this one has none');
    return this.#limited(options, (signal) => this.#queue.run(priority, signal, () =>
      embedAll(inputs, this.info.encodes, (method, argument) => {
        throwIfAborted(signal);
        return this.#run(method, argument, signal, method === 'embedPicture' ? signal : undefined);
      })));
  }

  /** @returns {Promise<void>} */
  async loadAdapter() {
    throw noAdapters();
  }

  /** @returns {Promise<void>} */
  async unloadAdapter() {
    throw noAdapters();
  }

  /** @returns {Promise<void>} */
  async dispose() {
    this.#disposed.abort();
    await this.#session.dispose();
  }

  // Where the symbol is not known yet, `dispose` is the way.
  [/** @type {typeof Symbol.asyncDispose} */ (Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose'))]() {
    return this.dispose();
  }
}

/** The core's names of two formats, in the words of transformers.js. @param {EngineInfo} info */
function dtypeOf({ dtype }) {
  return /** @type {DType} */ (dtype.replace(/^f(?=16|32)/, 'fp'));
}

/** @param {EngineInfo} info @param {ReturnType<typeof readOptions>} options @returns {ModelInfo} */
function modelInfo(info, { name, revision }) {
  return {
    id: name, architecture: info.recommender, parameters: info.parameters, bytes: info.bytes, items: info.items,
    maxInputTokens: info.max_input_tokens ?? Infinity, dtype: dtypeOf(info), modalities: info.modalities, behaviours: info.behaviours,
    encodes: info.encodes, ...(revision && { revision }), ...(info.licence && { license: info.licence }), ...(info.provenance && { provenance: info.provenance }),
  };
}

/** @param {Checked} checked @param {Catalogue} catalogue @returns {{ candidates?: string[] }} */
function candidatesOf({ candidates, filter }, catalogue) {
  if (!candidates && !filter && catalogue.isWhole()) return {};
  const ids = candidates ? candidates.map(({ id }) => id) : [...catalogue.listed()];
  const passes = (/** @type {string} */ id) => {
    const passed = /** @type {unknown} */ (filter?.(/** @type {Item} */ (catalogue.get(id) ?? { id })) ?? true);
    // A promise is truthy: an asynchronous filter would let everything pass.
    if (passed instanceof Promise) throw new TributaryError('INVALID_ARGUMENT', 'recommend: `filter` returned a promise, expected true or false', { field: 'filter' });
    return Boolean(passed);
  };
  return { candidates: filter ? ids.filter(passes) : ids };
}

/** A progress bar that fails must not stop a load, nor end a process. @param {((e: ProgressInfo) => void) | undefined} callback @param {ProgressInfo} event */
async function report(callback, event) {
  try {
    await callback?.(event);
  } catch (error) {
    (globalThis.reportError ?? console.error)(error);
  }
}
